import { describe, expect, test } from 'bun:test';
import { InvariantError } from '../../base/errors.ts';
import { readInferRequest, rightReply, writeReply } from '../../testing/fake-triton-wire.ts';
import { seededRandom } from '../../testing/seeded-random.ts';
import { deterministicEmbedding } from '../../testing/triton/deterministic-embedding.ts';
import { headSet, valuesPerText } from '../../vectors/output.ts';
import type { TokenBatch } from '../contract.ts';
import { ReplyAlignment } from './triton-call.ts';
import {
  decodeInferReply,
  encodeInferRequest,
  type TritonSignature,
  writeTokenTensors,
} from './triton-wire.ts';

/**
 * The codec against the fake Triton's own reader and writer, with which it shares nothing. What a
 * lying server sends is tried in `testing/fault/triton-lies.test.ts`.
 */

const DIMENSION = 6;
const DENSE = headSet(['dense']);

function signatureOf(inputDatatype: 'INT64' | 'INT32'): TritonSignature {
  return {
    idsInput: 'идентификаторы_ids',
    maskInput: 'mask',
    inputDatatype,
    outputs: { dense: 'dense_vecs', sparse: 'sparse_vecs', multi_vector: 'colbert_vecs' },
    dimension: DIMENSION,
    padId: 1,
  };
}

function batchOf(texts: readonly (readonly number[])[], paddedLength: number): TokenBatch {
  return { texts: texts.map((text) => Int32Array.from(text)), paddedLength, heads: DENSE };
}

const fresh = (bytes: number): ArrayBuffer => new ArrayBuffer(bytes);

function readBack(body: Uint8Array, headerBytes: number, datatype: string) {
  const headers = new Map([
    ['inference-header-content-length', String(headerBytes)],
    ['accept-encoding', 'identity'],
  ]);
  return readInferRequest(Buffer.from(body), headers, { datatype, padId: 1 });
}

describe.each(['INT64', 'INT32'] as const)('a request in %s', (datatype) => {
  test('is read back as it was, whatever its shape', () => {
    const random = seededRandom(8);
    for (let round = 0; round < 40; round++) {
      const paddedLength = random.between(1, 70);
      const texts = Array.from({ length: random.between(1, 12) }, () =>
        Array.from({ length: random.between(1, paddedLength) }, () => random.below(250_002)),
      );
      const batch = batchOf(texts, paddedLength);
      const { body, headerBytes } = encodeInferRequest(batch, signatureOf(datatype), fresh);
      expect(headerBytes % 8).toBe(0);
      expect(readBack(body, headerBytes, datatype)).toEqual({
        datatype,
        shape: [texts.length, paddedLength],
        texts,
        problems: [],
      });
    }
  });

  test('carries nothing of what its buffer held before', () => {
    const buffer = new ArrayBuffer(4096);
    new Uint8Array(buffer).fill(0xee);
    const batch = batchOf([[0, 5, 2], [0]], 9);
    const reused = encodeInferRequest(batch, signatureOf(datatype), () => buffer);
    const unused = encodeInferRequest(batch, signatureOf(datatype), fresh);
    expect(reused.headerBytes).toBe(unused.headerBytes);
    expect(Buffer.from(reused.body).equals(Buffer.from(unused.body))).toBe(true);
    expect(reused.body.buffer).toBe(buffer);
  });
});

test('only the heads that are asked for are fetched', () => {
  const heads = headSet(['sparse', 'dense']);
  const batch = { ...batchOf([[0, 2]], 8), heads };
  const { body, headerBytes } = encodeInferRequest(batch, signatureOf('INT64'), fresh);
  const { outputs } = JSON.parse(new TextDecoder().decode(body.subarray(0, headerBytes)));
  expect(outputs.map((output: { name: string }) => output.name)).toEqual([
    ...['dense_vecs', 'sparse_vecs'],
  ]);
});

test('a buffer that is too small is a fault of ours', () => {
  const take = (bytes: number): ArrayBuffer => new ArrayBuffer(bytes - 1);
  expect(() => encodeInferRequest(batchOf([[0, 2]], 8), signatureOf('INT64'), take)).toThrow(
    InvariantError,
  );
});

describe('a reply', () => {
  const texts = [[0, 4, 2], [0, 9, 9, 2], [0]];
  const batch = batchOf(texts, 8);
  const signature = signatureOf('INT64');

  test('gives each text its row, wherever the rows lie in memory', () => {
    const reply = rightReply(texts, { name: 'dense_vecs', dimension: DIMENSION });
    const { body, headerLength = 0 } = writeReply(reply);
    for (const offset of [0, 1, 2, 3]) {
      const memory = new Uint8Array(body.length + offset);
      memory.set(body, offset);
      const view = memory.subarray(offset);
      const { dense } = decodeInferReply(view, headerLength, { signature, batch });
      for (const [row, text] of texts.entries()) {
        const right = deterministicEmbedding(text, DIMENSION);
        expect(dense?.values(row * DIMENSION, DIMENSION)).toEqual(right);
      }
    }
  });

  test('may name its outputs in any order, and more of them than were asked for', () => {
    const blocks = [
      { name: 'unasked', shape: [1, 2], values: [7, 7] },
      { name: 'sparse_vecs', shape: [1, 3, 1], values: [0, 0.5, 0] },
      { name: 'dense_vecs', shape: [1, DIMENSION], values: [1, 0, 0, 0, 0, 0] },
    ];
    const outputs = blocks.map(({ name, shape, values }) => ({
      name,
      datatype: 'FP32',
      shape,
      parameters: { binary_data_size: values.length * 4 },
    }));
    const header = Buffer.from(JSON.stringify({ outputs }));
    const data = blocks.map(({ values }) => new Uint8Array(Float32Array.from(values).buffer));
    const body = Uint8Array.from(Buffer.concat([header, ...data]));
    const asked = { ...batchOf([[0, 8, 2]], 3), heads: headSet(['dense', 'sparse']) };
    const output = decodeInferReply(body, header.length, { signature, batch: asked });
    expect(Object.keys(output).toSorted()).toEqual(['dense', 'sparse']);
    expect([...(output.sparse?.values(0, 3) ?? [])]).toEqual([0, 0.5, 0]);
    expect([...(output.dense?.values(0, 2) ?? [])]).toEqual([1, 0]);
  });
});

const HEADS = headSet(['dense']);
const PAD_ID = 1;

/** The tensors of a batch, read back as numbers; the buffers start full of rubbish. */
function written(texts: readonly number[][], paddedLength: number, wordsPerValue: 1 | 2) {
  const wordCount = texts.length * paddedLength * wordsPerValue;
  const ids = new Int32Array(wordCount).fill(-77);
  const mask = new Int32Array(wordCount).fill(-77);
  const batch = { texts: texts.map((text) => Int32Array.from(text)), paddedLength, heads: HEADS };
  writeTokenTensors(batch, { padId: PAD_ID, wordsPerValue, ids, mask });
  const numbers = (words: Int32Array<ArrayBuffer>): number[] =>
    wordsPerValue === 1 ? [...words] : [...new BigInt64Array(words.buffer)].map(Number);
  return { ids: numbers(ids), mask: numbers(mask) };
}

describe.each([1, 2] as const)('with %d words a value', (wordsPerValue) => {
  test('ids stand first, then padding, and the mask tells them apart', () => {
    const texts = [
      [0, 9, 2],
      [0, 250_001, 8, 7, 2],
    ];
    expect(written(texts, 6, wordsPerValue)).toEqual({
      ids: [0, 9, 2, PAD_ID, PAD_ID, PAD_ID, 0, 250_001, 8, 7, 2, PAD_ID],
      mask: [1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 0],
    });
  });

  test('any batch reads back as it was', () => {
    const random = seededRandom(wordsPerValue);
    for (let round = 0; round < 50; round++) {
      const paddedLength = random.between(1, 40);
      const texts = Array.from({ length: random.between(1, 9) }, () =>
        Array.from({ length: random.between(1, paddedLength) }, () => random.below(250_002)),
      );
      const { ids, mask } = written(texts, paddedLength, wordsPerValue);
      const back = texts.map((_, row) =>
        ids
          .slice(row * paddedLength, (row + 1) * paddedLength)
          .filter((_id, at) => mask[row * paddedLength + at] === 1),
      );
      expect(back).toEqual(texts);
      const padding = ids.filter((_, at) => mask[at] === 0);
      expect(padding.every((id) => id === PAD_ID)).toBe(true);
    }
  });
});

test('a text that does not fit, an empty one and a wrong buffer are faults of ours', () => {
  expect(() => written([[0, 1, 2]], 2, 1)).toThrow(InvariantError);
  expect(() => written([[]], 2, 1)).toThrow(InvariantError);
  const batch = { texts: [Int32Array.of(0, 2)], paddedLength: 2, heads: HEADS };
  const [ids, mask] = [new Int32Array(2), new Int32Array(3)];
  expect(() => writeTokenTensors(batch, { padId: 1, wordsPerValue: 1, ids, mask })).toThrow(
    InvariantError,
  );
});

/** Caught, planted: digits of the byte counts left out; an id of no characters. */
describe('ReplyAlignment', () => {
  const dimension = 1024;

  /** The header as Triton writes it. */
  function headerBytesOf(batch: TokenBatch, id: string): number {
    const outputs = batch.heads.map((head) => {
      const values = valuesPerText(head, { dimension, paddedLength: batch.paddedLength });
      const [count, length] = [batch.texts.length, batch.paddedLength];
      const shapes = {
        dense: [count, dimension],
        sparse: [count, length, 1],
        multi_vector: [count, length - 1, dimension],
      };
      const parameters = { binary_data_size: 4 * count * values };
      return { name: `${head}_out`, datatype: 'FP32', shape: shapes[head], parameters };
    });
    return JSON.stringify({ id, model_name: 'bge_model', model_version: '1', outputs }).length;
  }

  test.each([[['dense']], [['sparse']], [['dense', 'sparse', 'multi_vector']]] as const)(
    'after one reply the rows of every batch of %p are aligned',
    (heads) => {
      const alignment = new ReplyAlignment();
      const random = seededRandom(7);
      const set = headSet(heads);
      for (let round = 0; round < 100; round++) {
        const texts = Array.from({ length: random.between(1, 70) }, () => Int32Array.of(0, 2));
        const batch = { texts, paddedLength: random.between(2, 1200), heads: set };
        const id = alignment.idFor(batch, dimension);
        expect(id).not.toBe('');
        const headerBytes = headerBytesOf(batch, id);
        if (round > 0) expect(headerBytes % 4).toBe(0);
        alignment.learn(batch, dimension, { idLength: id.length, headerBytes });
      }
    },
  );
});
