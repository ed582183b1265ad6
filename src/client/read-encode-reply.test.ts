import { describe, expect, test } from 'bun:test';
import { Packr } from 'msgpackr';
import { encodeReply } from '../reply/encode-reply.ts';
import type * as Server from '../reply/reply-content.ts';
import { seededRandom } from '../testing/seeded-random.ts';
import { HEADS, type Head as ServerHead } from '../vectors/output.ts';
import { APIEncoderError } from './api-encoder-error.ts';
import {
  type Head,
  type MultiVector,
  readEncodeReply,
  type SparseRow,
  textsOfReply,
} from './read-encode-reply.ts';

/** The client knows each head of the server, and no other; the compiler says so if not. */
const ALL: readonly Head[] = HEADS;
const asServerHead = (head: Head): ServerHead => head;
const FORMAT = { kind: 'msgpack', layout: 'plain', dtype: 'float32' } as const;

/** The heads have the shape that the server's codecs give them; the compiler says so if not. */
const asServer = (row: SparseRow, vectors: MultiVector): [Server.SparseRow, Server.MultiVector] => [
  row,
  vectors,
];

const REPLY: Server.EncodeReply = {
  model: 'm',
  dimension: 2,
  single: false,
  rows: [Float32Array.of(0.1, -0), Float32Array.of(3e-45, 3.4e38)],
  tokenCounts: [3, 70_000],
  truncated: [false, true],
  sparse: [
    { indices: Int32Array.of(4, 250_001), values: Float32Array.of(0.25, 1e-8) },
    { indices: new Int32Array(), values: new Float32Array() },
  ],
  multiVectors: [
    { tokenCount: 1, data: Float32Array.of(1, 2) },
    { tokenCount: 3, data: Float32Array.of(1, 2, 3, 4, 5, 6) },
  ],
};

function codeOf(read: () => unknown): string {
  try {
    read();
    return 'read';
  } catch (error) {
    if (error instanceof APIEncoderError) return error.code;
    throw error;
  }
}

describe('readEncodeReply', () => {
  test("reads what the server's codec writes, bit for bit, at any alignment", () => {
    const { body } = encodeReply(REPLY, FORMAT);
    for (let offset = 0; offset < 4; offset++) {
      const shifted = new Uint8Array(body.length + 4).subarray(offset, offset + body.length);
      shifted.set(body);
      const texts = textsOfReply(readEncodeReply(shifted, { textCount: 2, heads: ALL }));
      // What was read is the caller's own: the body may go.
      shifted.fill(0xff);
      expect(texts.map((text) => text.dense)).toEqual(REPLY.rows as Float32Array[]);
      expect(Object.is(texts[0].dense?.[1], -0)).toBe(true);
      expect(texts.map((text) => text.sparse)).toEqual(REPLY.sparse as SparseRow[]);
      expect(texts.map((text) => text.multiVector)).toEqual(REPLY.multiVectors as MultiVector[]);
      expect(texts.map((text) => text.tokenCount)).toEqual([3, 70_000]);
      expect(texts.map((text) => text.truncated)).toEqual([false, true]);
      expect(texts[1].model).toBe('m');
    }
    expect(asServer).toBeFunction();
    expect(asServerHead).toBeFunction();
  });

  test('rows of one reply are views of one matrix', () => {
    const { body } = encodeReply(REPLY, FORMAT);
    const [first, second] = textsOfReply(readEncodeReply(body, { textCount: 2, heads: ['dense'] }));
    expect(first.dense?.buffer).toBe(second.dense?.buffer as ArrayBuffer);
    expect(new Float32Array(first.dense?.buffer as ArrayBuffer).length).toBe(4);
    expect(Object.keys(first)).toEqual(['model', 'tokenCount', 'truncated', 'empty', 'dense']);
  });

  test('takes heads without the dense one', () => {
    const { rows, ...others } = REPLY;
    const { body } = encodeReply(others, FORMAT);
    const heads: Head[] = ['sparse', 'multi_vector'];
    const [text] = textsOfReply(readEncodeReply(body, { textCount: 2, heads }));
    expect(Object.keys(text)).not.toContain('dense');
    expect(text.sparse?.indices).toEqual(Int32Array.of(4, 250_001));
    expect(codeOf(() => readEncodeReply(body, { textCount: 2, heads: ALL }))).toBe(
      'CLIENT_REPLY_INVALID',
    );
  });

  test('refuses every reply that does not fit', () => {
    const packr = new Packr({ useRecords: false });
    const block = (shape: unknown, byteCount: number, dtype: unknown = '<f4') => ({
      dtype,
      shape,
      data: new Uint8Array(byteCount),
    });
    const good = {
      embeddings: block([2, 2], 16),
      model: 'm',
      dim: 2,
      tokens: [1, 1],
      truncated: [false, false],
    };
    const heads: Head[] = ['dense'];
    const read = (reply: unknown) =>
      codeOf(() => readEncodeReply(packr.pack(reply), { textCount: 2, heads }));
    expect(read(good)).toBe('read');
    const wrong: unknown[] = [
      null,
      7,
      'text',
      [],
      {},
      { ...good, model: 5 },
      { ...good, dim: 0 },
      { ...good, dim: 2.5 },
      { ...good, tokens: [1] },
      { ...good, tokens: [1, '1'] },
      { ...good, truncated: true },
      { ...good, embeddings: undefined },
      { ...good, embeddings: [0, 0, 0, 0] },
      { ...good, embeddings: block([1, 2], 8) },
      { ...good, embeddings: block([2, 3], 24) },
      { ...good, embeddings: block([4], 16) },
      { ...good, embeddings: block([2, 2], 15) },
      { ...good, embeddings: block([2, 2], 0) },
      { ...good, embeddings: block([2, 2], 16, '<f8') },
      { ...good, embeddings: { ...block([2, 2], 16), data: 'sixteen letters.' } },
    ];
    expect(wrong.map(read)).toEqual(wrong.map(() => 'CLIENT_REPLY_INVALID'));
  });

  test('of broken bytes makes its own error or a whole result, nothing else', () => {
    const random = seededRandom(20);
    const { body } = encodeReply(REPLY, FORMAT);
    let refusedCount = 0;
    for (let round = 0; round < 3000; round++) {
      const broken = body.slice(
        0,
        random.between(0, 3) === 0 ? random.below(body.length) : body.length,
      );
      for (let count = random.between(1, 4); count > 0 && broken.length > 0; count--) {
        broken[random.below(broken.length)] = random.below(256);
      }
      const code = codeOf(() => {
        for (const text of textsOfReply(readEncodeReply(broken, { textCount: 2, heads: ALL }))) {
          if (text.dense?.length !== 2) throw new Error(`round ${round}`);
        }
      });
      expect(['read', 'CLIENT_REPLY_INVALID']).toContain(code);
      if (code !== 'read') refusedCount++;
    }
    expect(refusedCount).toBeGreaterThan(1000);
  });
});
