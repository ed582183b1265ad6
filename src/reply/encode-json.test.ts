import { describe, expect, test } from 'bun:test';
import { InvariantError } from '../base/errors.ts';
import { denseOf, floatsIn, joined, replyOf, rowsOf, singleOf } from '../testing/reply-fixtures.ts';
import { encodeJsonReply } from './encode-reply.ts';
import type { EncodedReply } from './reply-content.ts';

function parseJson({ body }: EncodedReply): Record<string, unknown> {
  return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
}

describe('encodeJsonReply', () => {
  test('a single text', () => {
    const reply = { ...singleOf(3), rows: [Float32Array.of(0.5, -0.1, 1)] };
    const encoded = encodeJsonReply(reply, 'float');
    expect(new TextDecoder().decode(encoded.body)).toBe(
      '{"embedding":[0.5,-0.1,1],"model":"BAAI/bge-m3","dim":3,"tokens":7,"truncated":false}',
    );
    expect(encoded.contentType).toBe('application/json');
    expect(encoded.headers).toBeUndefined();
  });

  test.each([1, 2, 5, 300])('%p texts with three heads', (textCount) => {
    const reply = replyOf(textCount, 8);
    const { embeddings, sparse, multi_vector, ...facts } = parseJson(
      encodeJsonReply(reply, 'float'),
    );
    expect((embeddings as number[][]).map((row) => row.map(Math.fround))).toEqual(rowsOf(reply));
    expect(facts).toEqual({
      model: 'BAAI/bge-m3',
      dim: 8,
      tokens: reply.tokenCounts,
      truncated: reply.truncated,
    });
    const weights = sparse as { indices: number[]; values: number[] }[];
    expect(weights.map(({ indices }) => indices)).toEqual(
      reply.sparse.map(({ indices }) => Array.from(indices)),
    );
    expect(weights.map(({ values }) => values.map(Math.fround))).toEqual(
      reply.sparse.map(({ values }) => Array.from(values)),
    );
    const tokens = multi_vector as number[][][];
    expect(tokens.map((vectors) => vectors.length)).toEqual(reply.tokenCounts.map((_, i) => i));
    expect(tokens.map((vectors) => vectors.flat().map(Math.fround))).toEqual(
      reply.multiVectors.map(({ data }) => Array.from(data)),
    );
  });

  test('a single text with three heads has no array around each', () => {
    const { rows, ...reply } = replyOf(3, 2);
    const last = {
      ...reply,
      single: true,
      tokenCounts: [7],
      truncated: [true],
      sparse: reply.sparse.slice(-1),
      multiVectors: reply.multiVectors.slice(-1),
    };
    const value = parseJson(encodeJsonReply(last, 'float'));
    expect(Object.keys(value)).toEqual([
      'model',
      'dim',
      'tokens',
      'truncated',
      'sparse',
      'multi_vector',
    ]);
    expect(value).toMatchObject({ tokens: 7, truncated: true, sparse: { indices: [0, 50_000] } });
    expect(value.multi_vector).toHaveLength(2);
  });

  test('base64', () => {
    const reply = replyOf(3, 5);
    const value = parseJson(encodeJsonReply(reply, 'base64'));
    const rows = (value.embeddings as string[]).map((text) =>
      floatsIn(Buffer.from(text, 'base64')),
    );
    expect(rows).toEqual([...(reply.rows ?? [])]);
    const tokens = (value.multi_vector as string[]).map((text) => Buffer.from(text, 'base64'));
    expect(tokens.map(floatsIn)).toEqual(reply.multiVectors.map(({ data }) => data));
  });

  test('a reply larger than the kept buffer, then a small one', () => {
    const large = denseOf(1_100, 1_024);
    const { body } = encodeJsonReply(large, 'float');
    expect(body.length).toBeGreaterThan(1 << 23);
    const small = encodeJsonReply(singleOf(4), 'float');
    expect(parseJson(small).dim).toBe(4);
    const rows = parseJson({ body, contentType: '' }).embeddings as number[][];
    // Compared as one array: element by element, this takes seconds.
    const bytes = (all: Float32Array) => new Uint8Array(all.buffer);
    expect(
      Buffer.compare(
        bytes(joined(rows.map((row) => new Float32Array(row)))),
        bytes(joined(large.rows)),
      ),
    ).toBe(0);
  });

  test('the next reply is whole after one that failed', () => {
    const bad = { ...singleOf(2), rows: [Float32Array.of(0.5, Number.NaN)] };
    expect(() => encodeJsonReply(bad, 'float')).toThrow(InvariantError);
    expect(parseJson(encodeJsonReply(singleOf(4), 'float')).dim).toBe(4);
  });

  test('a name of any characters', () => {
    const model = `"модель"\\\n${'x'.repeat(60_000)}`;
    expect(parseJson(encodeJsonReply({ ...singleOf(2), model }, 'float')).model).toBe(model);
  });
});
