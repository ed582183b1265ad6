import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deterministicEmbedding, trivialEmbedding } from './deterministic-embedding.ts';
import { inferByHand } from './infer-by-hand.ts';
import { type RunningTriton, startTriton } from './start-triton.ts';
import { writeFault, writeRepository } from './write-repository.ts';

// A polite stop takes up to the fixture's own 8 s, more than Bun grants a test.
setDefaultTimeout(60_000);

const DIMENSION = 1024;
const FAULT_TOKEN = 77_777;

const dir = mkdtempSync(join(tmpdir(), 'triton-repository-'));
const controlFile = join(dir, 'fault.json');
let triton: RunningTriton;

beforeAll(async () => {
  const repository = join(dir, 'models');
  const shared = { dimension: DIMENSION, maxBatch: 32 };
  writeRepository({
    dir: repository,
    models: [
      { name: 'wide', kind: 'deterministic', datatype: 'INT64', ...shared },
      {
        name: 'narrow',
        kind: 'deterministic',
        datatype: 'INT32',
        inputs: { ids: 'ids', mask: 'mask' },
        output: 'dense',
        ...shared,
      },
      { name: 'gpu', kind: 'timed', datatype: 'INT64', ...shared },
      { name: 'quick', kind: 'trivial', datatype: 'INT64', ...shared },
      {
        name: 'wrong',
        kind: 'faulty',
        datatype: 'INT64',
        faults: { tokens: { nan: FAULT_TOKEN, error: FAULT_TOKEN + 1 }, controlFile },
        ...shared,
      },
    ],
  });
  triton = await startTriton({ repository });
});

afterAll(async () => {
  await triton?.stop();
  rmSync(dir, { recursive: true, force: true });
});

/** Texts of many lengths with ids from the whole vocabulary; the same at each call. */
function manyTexts(count: number): number[][] {
  let state = 12_345;
  const next = (limit: number) => {
    state = (state * 48_271) % 2_147_483_647;
    return state % limit;
  };
  return Array.from({ length: count }, () => [
    0,
    ...Array.from({ length: next(600) }, () => next(250_002)),
    2,
  ]);
}

/** The rows one after the other, as bytes: compared with `toEqual`, so to the last bit. */
function bytesOf(rows: readonly Float32Array<ArrayBuffer>[]): Buffer {
  return Buffer.concat(rows.map((row) => new Uint8Array(row.buffer)));
}

const expectedBytes = (texts: readonly number[][]) =>
  bytesOf(texts.map((text) => deterministicEmbedding(text, DIMENSION)));

describe('the fake models', () => {
  test.each([
    {
      model: 'wide',
      datatype: 'INT64' as const,
      inputs: { ids: 'input_ids', mask: 'attention_mask' },
    },
    { model: 'narrow', datatype: 'INT32' as const, inputs: { ids: 'ids', mask: 'mask' } },
    {
      model: 'gpu',
      datatype: 'INT64' as const,
      inputs: { ids: 'input_ids', mask: 'attention_mask' },
    },
  ])('rows of $model equal the recomputation bit for bit', async (target) => {
    const texts = manyTexts(32);
    const reply = await inferByHand({ url: triton.url, texts, ...target });
    expect(reply.body).toMatchObject({ outputs: [{ shape: [32, DIMENSION] }] });
    expect(bytesOf([reply.numbers])).toEqual(expectedBytes(texts));
    // A single wrong id shows.
    const [first = [], ...others] = texts;
    expect(bytesOf([reply.numbers])).not.toEqual(expectedBytes([[...first, 5], ...others]));
  });

  test('the constant-time model gives its rows', async () => {
    const texts = manyTexts(8);
    const reply = await inferByHand({ url: triton.url, model: 'quick', datatype: 'INT64', texts });
    expect(bytesOf([reply.numbers])).toEqual(
      bytesOf(texts.map((text) => trivialEmbedding(text, DIMENSION))),
    );
  });

  test('a row does not know its padding', async () => {
    const texts = [[0, 100, 200_000, 2]];
    const target = { url: triton.url, model: 'wide', datatype: 'INT64' as const, texts };
    const reply = await inferByHand({ ...target, paddedTo: 8192 });
    expect(bytesOf([reply.numbers])).toEqual(expectedBytes(texts));
  });
});

describe('the faulty model', () => {
  const ask = (texts: readonly (readonly number[])[]) =>
    inferByHand({ url: triton.url, model: 'wrong', datatype: 'INT64', texts });

  test('strikes the text that carries the token, and no other', async () => {
    const { numbers } = await ask([
      [0, 5, 2],
      [0, FAULT_TOKEN, 2],
    ]);
    const right = deterministicEmbedding([0, 5, 2], DIMENSION);
    expect(bytesOf([numbers.slice(0, DIMENSION)])).toEqual(bytesOf([right]));
    expect(numbers.slice(DIMENSION).filter(Number.isNaN)).toHaveLength(1);
    expect(await ask([[0, FAULT_TOKEN + 1, 2]])).toMatchObject({ status: 500 });
  });

  test.each([
    ['nan', (row: Float32Array) => row.some(Number.isNaN)],
    ['infinite', (row: Float32Array) => row.includes(Number.POSITIVE_INFINITY)],
    ['zero', (row: Float32Array) => row.length === DIMENSION && row.every((value) => value === 0)],
    ['unscaled', (row: Float32Array) => Math.abs(Math.hypot(...row) - 2) < 1e-5],
    ['empty', (row: Float32Array) => row.length === 0],
    ['short', (row: Float32Array) => row.length === DIMENSION - 1],
    ['missing', (row: Float32Array) => row.length === 0],
  ] as const)('answers 200 and %s while the control file says so', async (fault, isFaulty) => {
    writeFault({ controlFile, fault });
    const struck = await ask([[0, 5, 2]]);
    writeFault({ controlFile, fault: 'none' });
    const healthy = await ask([[0, 5, 2]]);
    expect(struck.status).toBe(200);
    expect(isFaulty(struck.numbers)).toBe(true);
    expect(isFaulty(healthy.numbers)).toBe(false);
  });
});
