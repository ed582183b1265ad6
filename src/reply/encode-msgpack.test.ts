import { describe, expect, test } from 'bun:test';
import { decode } from 'msgpackr';
import { floatsIn, halvesIn, joined, replyOf, singleOf } from '../testing/reply-fixtures.ts';
import { encodeMsgpackReply, type MsgpackShape } from './encode-msgpack.ts';
import type { EncodedReply } from './reply-content.ts';

const plain: MsgpackShape = { layout: 'plain', dtype: 'float32' };

/** What the tests look at in a decoded msgpack reply. */
interface DecodedReply {
  readonly model: string;
  readonly dim: number;
  readonly tokens: unknown;
  readonly truncated: unknown;
  readonly embedding: NumberArray;
  readonly embeddings: NumberArray;
  readonly sparse: readonly { readonly indices: NumberArray; readonly values: NumberArray }[];
  readonly multi_vector: readonly NumberArray[];
}

interface NumberArray {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

function parseMsgpack({ body }: EncodedReply): DecodedReply {
  return decode(body);
}

describe('encodeMsgpackReply', () => {
  test('a single text', () => {
    const reply = singleOf(4);
    const encoded = encodeMsgpackReply(reply, plain);
    const { embedding, ...facts }: Partial<DecodedReply> & Pick<DecodedReply, 'embedding'> =
      parseMsgpack(encoded);
    expect(facts).toEqual({ model: 'BAAI/bge-m3', dim: 4, tokens: 7, truncated: false });
    expect(embedding).toMatchObject({ dtype: '<f4', shape: [4] });
    expect(floatsIn(embedding.data)).toEqual(joined(reply.rows));
    expect(encoded.contentType).toBe('application/msgpack');
  });

  test.each([
    [1, 8],
    [2, 8],
    [15, 3],
    [16, 16],
    [300, 16],
  ])('%p texts of dimension %p with three heads', (textCount, dimension) => {
    const reply = replyOf(textCount, dimension);
    const value = parseMsgpack(encodeMsgpackReply(reply, plain));
    expect(value.tokens).toEqual(reply.tokenCounts);
    expect(value.truncated).toEqual(reply.truncated);
    expect(value.embeddings).toMatchObject({ dtype: '<f4', shape: [textCount, dimension] });
    expect(floatsIn(value.embeddings.data)).toEqual(joined(reply.rows));
    for (const [index, { indices, values }] of reply.sparse.entries()) {
      const weights = value.sparse[index];
      expect(weights.indices).toMatchObject({ dtype: '<i4', shape: [index] });
      expect(new Int32Array(floatsIn(weights.indices.data).buffer)).toEqual(indices);
      expect(weights.values).toMatchObject({ dtype: '<f4', shape: [index] });
      expect(floatsIn(weights.values.data)).toEqual(values);
    }
    for (const [index, { data }] of reply.multiVectors.entries()) {
      const tokens = value.multi_vector[index];
      expect(tokens).toMatchObject({ dtype: '<f4', shape: [index, dimension] });
      expect(floatsIn(tokens.data)).toEqual(data);
    }
  });

  test('float16 for dense and multi-vector; sparse weights stay float32', () => {
    const reply = replyOf(3, 8);
    const value = parseMsgpack(encodeMsgpackReply(reply, { layout: 'plain', dtype: 'float16' }));
    expect(value.embeddings).toMatchObject({ dtype: '<f2', shape: [3, 8] });
    expect(halvesIn(value.embeddings.data)).toEqual(Float16Array.from(joined(reply.rows)));
    expect(value.multi_vector[2]).toMatchObject({ dtype: '<f2', shape: [2, 8] });
    expect(value.sparse[2].values.dtype).toBe('<f4');
  });

  /** Caught, planted: one byte further to the front; the rows before the halves left out. */
  test.each([
    [1, 4096, true],
    [1, 60, false],
    [3, 4096, true],
  ])(
    '%p texts with halves that have room of %p bytes: made around the last, %p',
    (textCount, roomBytes, isAround) => {
      const { multiVectors, ...reply } = replyOf(textCount + 1, 8);
      const halves = multiVectors.map(({ tokenCount, data }) => {
        const bytes = new Uint8Array(roomBytes + 2 * data.length + 8).fill(0xee);
        const inRoom = new Float16Array(bytes.buffer, roomBytes, data.length);
        inRoom.set(data);
        return { tokenCount, data: inRoom, roomBytes };
      });
      const format: MsgpackShape = { layout: 'plain', dtype: 'float16' };
      const alone = halves.map(({ tokenCount, data }) => ({ tokenCount, data: data.slice() }));
      const expected = encodeMsgpackReply({ ...reply, halfVectors: alone }, format).body.slice();
      const { body } = encodeMsgpackReply({ ...reply, halfVectors: halves }, format);
      expect(body).toEqual(expected);
      const { buffer } = halves[textCount].data;
      expect(body.buffer === buffer).toBe(isAround);
      expect([...new Uint8Array(buffer).slice(-8)]).toEqual(new Array(8).fill(0xee));
    },
  );

  test('the numpy layout, byte by byte: keys are binary', () => {
    const reply = { ...singleOf(2), model: 'm', rows: [Float32Array.of(1, -2)] };
    const text = (value: string) => [0xa0 | value.length, ...Buffer.from(value)];
    const binary = (bytes: Iterable<number>) => [0xc4, [...bytes].length, ...bytes];
    const key = (value: string) => binary(Buffer.from(value));
    expect([...encodeMsgpackReply(reply, { layout: 'numpy', dtype: 'float32' }).body]).toEqual([
      0x85,
      ...text('embedding'),
      0x85,
      ...[...key('nd'), 0xc3],
      ...[...key('type'), ...text('<f4')],
      ...[...key('kind'), ...key('')],
      ...[...key('shape'), 0x91, 0x02],
      ...[...key('data'), ...binary([0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0])],
      ...[...text('model'), ...text('m')],
      ...[...text('dim'), 0x02],
      ...[...text('tokens'), 0x07],
      ...[...text('truncated'), 0xc2],
    ]);
  });

  test('every width of a length', () => {
    for (const dimension of [1, 31, 32, 63, 64, 127, 128, 255, 256, 16_383, 16_384, 65_536]) {
      const reply = {
        ...singleOf(dimension),
        model: 'x'.repeat(dimension % 300),
        tokenCounts: [dimension],
      };
      const value = parseMsgpack(encodeMsgpackReply(reply, plain));
      expect(value).toMatchObject({ model: reply.model, dim: dimension, tokens: dimension });
      expect(floatsIn(value.embedding.data)).toEqual(joined(reply.rows));
    }
  });
});
