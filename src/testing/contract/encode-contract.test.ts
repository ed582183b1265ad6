import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { unpack } from 'msgpackr';
import { legalTexts } from '../legal-texts.ts';
import { runPython } from '../python/run-python.ts';
import { loadReferenceIds, type ReferenceIds } from '../reference-ids.ts';
import { type RunningServer, startServer } from '../start-server.ts';
import { deterministicEmbedding } from '../triton/deterministic-embedding.ts';
import { type RunningTriton, startTriton } from '../triton/start-triton.ts';
import type { TritonStatistics } from '../triton/triton-statistics.ts';
import { writeRepository } from '../triton/write-repository.ts';
import { until } from '../until.ts';

/**
 * `/encode` whole: HTTP, tokenizer, batcher and a real Triton. What comes out is compared, bit for bit, with token ids from
 * the Rust reference and rows that are computed here anew.
 */

// Two tokenizers load here, and Triton is restarted on the way.
setDefaultTimeout(60_000);

const DIMENSION = 1024;
const TOKEN_COUNT_MAX = 8192;
const MODEL = 'bge_model';
const dir = mkdtempSync(join(tmpdir(), 'encode-contract-'));

let triton: RunningTriton;
let server: RunningServer;
let referenceIds: ReferenceIds;

beforeAll(async () => {
  const model = { kind: 'deterministic', datatype: 'INT64', output: 'dense_vecs' } as const;
  const size = { dimension: DIMENSION, maxBatch: 32 };
  writeRepository({ dir, models: [{ name: MODEL, ...model, ...size }] });
  triton = await startTriton({ repository: dir });
  referenceIds = loadReferenceIds('bge-m3');
  server = await startServer({
    BACKEND: 'triton',
    MODEL: 'bge-m3',
    TRITON_URL: triton.url,
    TRITON_PROBE_MS: '50',
    TOKENIZER_WORKERS: '1',
  });
  await until('the server is ready', isReady);
});

afterAll(async () => {
  await server?.close();
  await triton?.stop();
  rmSync(dir, { recursive: true, force: true });
});

async function isReady(): Promise<boolean> {
  return (await fetch(`${server.url}/ready`)).status === 200;
}

function post(body: object, accept = 'application/json'): Promise<Response> {
  return fetch(`${server.url}/encode`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept },
    body: JSON.stringify(body),
  });
}

/** What a text's row must be, by the reference's ids and the stand-in's formula. */
async function rightRow(text: string): Promise<Float32Array<ArrayBuffer>> {
  return deterministicEmbedding(await referenceIds(text), DIMENSION);
}

const TEXTS = [
  'тест',
  'Арендодатель вправе расторгнуть договор аренды.',
  'The lessee shall pay rent on the first day of each month.',
  'Статья 619. Досрочное расторжение договора по требованию арендодателя — 30 % годовых, п. 3 «а».',
  '房东可以要求提前终止租赁合同。',
];

interface JsonReply {
  readonly embedding: number[];
  readonly embeddings: number[][];
  readonly model: string;
  readonly dim: number;
  readonly tokens: number | number[];
  readonly truncated: boolean | boolean[];
}

describe('rows, bit for bit', () => {
  test('JSON, one text', async () => {
    for (const text of TEXTS) {
      const reply = await post({ query: text });
      expect(reply.status).toBe(200);
      expect(reply.headers.get('content-type')).toBe('application/json');
      const { embedding, ...rest } = (await reply.json()) as JsonReply;
      expect(rest).toEqual({
        model: 'bge-m3',
        dim: DIMENSION,
        tokens: (await referenceIds(text)).length,
        truncated: false,
      } as never);
      expect(hexOf(Float32Array.from(embedding))).toBe(hexOf(await rightRow(text)));
    }
  });

  test('JSON, several texts', async () => {
    const { embeddings, tokens, truncated } = (await (
      await post({ query: TEXTS })
    ).json()) as JsonReply;
    const ids = await Promise.all(TEXTS.map((text) => referenceIds(text)));
    expect(tokens).toEqual(ids.map((text) => text.length));
    expect(truncated).toEqual(TEXTS.map(() => false));
    expect(embeddings.map((row) => hexOf(Float32Array.from(row)))).toEqual(
      ids.map((text) => hexOf(deterministicEmbedding(text, DIMENSION))),
    );
  });

  test('an array of one text answers an array', async () => {
    const reply = (await (await post({ query: [TEXTS[0]] })).json()) as JsonReply;
    expect(reply.embedding).toBeUndefined();
    expect(reply.embeddings).toHaveLength(1);
    expect(reply.tokens).toEqual([3]);
  });

  test('msgpack, read by msgpackr in one line', async () => {
    const reply = await post({ query: TEXTS }, 'application/msgpack');
    expect(reply.headers.get('content-type')).toBe('application/msgpack');
    const { embeddings, ...rest } = unpack(await reply.bytes());
    expect(embeddings).toMatchObject({ dtype: '<f4', shape: [TEXTS.length, DIMENSION] });
    const right = await Promise.all(TEXTS.map(rightRow));
    expect(Buffer.from(embeddings.data).toString('hex')).toBe(right.map(hexOf).join(''));
    expect(rest).toMatchObject({
      model: 'bge-m3',
      dim: DIMENSION,
      truncated: TEXTS.map(() => false),
    });
  });

  test('a msgpack request gives what the JSON request gives', async () => {
    const { pack } = await import('msgpackr');
    const reply = await fetch(`${server.url}/encode`, {
      method: 'POST',
      headers: { 'content-type': 'application/msgpack' },
      body: Uint8Array.from(pack({ query: TEXTS, batch_size: 2, truncate: true })),
    });
    expect(await reply.json()).toEqual(await (await post({ query: TEXTS })).json());
  });

  test.each(['one text', 'several texts'])(
    'Python gets one array in every form, %s',
    async (form) => {
      const query = form === 'one text' ? TEXTS[1] : TEXTS;
      const rows = (await Promise.all([query].flat().map(rightRow))).map(hexOf).join('');
      const shape = form === 'one text' ? [DIMENSION] : [TEXTS.length, DIMENSION];
      const array = { dtype: '<f4', shape, data: Buffer.from(rows, 'hex').toString('base64') };
      const script = join(import.meta.dir, '../python/ask_encode.py');
      const stdin = new TextEncoder().encode(
        JSON.stringify({ url: `${server.url}/encode`, query }),
      );
      expect(JSON.parse(await runPython({ script, stdin }))).toEqual({
        json: array,
        plain: array,
        'plain, with msgpack-numpy': array,
        numpy: array,
        'numpy, with msgpack-numpy': array,
      });
    },
  );

  test('a text over the limit keeps its first ids and the closing one, and says so', async () => {
    const [long] = legalTexts([6000], 5);
    const ids = await referenceIds(long);
    expect(ids.length).toBeGreaterThan(TOKEN_COUNT_MAX);
    const reply = (await (
      await post({ query: [long, 'тест'], truncate: true })
    ).json()) as JsonReply;
    const kept = [...ids.slice(0, TOKEN_COUNT_MAX - 1), 2];
    expect(reply.tokens).toEqual([ids.length, 3]);
    expect(reply.truncated).toEqual([true, false]);
    expect(hexOf(Float32Array.from(reply.embeddings[0]))).toBe(
      hexOf(deterministicEmbedding(kept, DIMENSION)),
    );
  });

  test('a duplicate, and the order, survive', async () => {
    const query = [TEXTS[2], TEXTS[0], TEXTS[2], TEXTS[0]];
    const { embeddings } = (await (await post({ query })).json()) as JsonReply;
    expect(embeddings[0]).toEqual(embeddings[2]);
    expect(embeddings[1]).toEqual(embeddings[3]);
    expect(hexOf(Float32Array.from(embeddings[1]))).toBe(hexOf(await rightRow(TEXTS[0])));
  });
});

describe('batches', () => {
  /** Triton counts some ms after it has answered. */
  async function statisticsPast(inferenceCountMin: number): Promise<TritonStatistics> {
    let statistics = await triton.statistics(MODEL);
    await until('Triton has counted every text', async () => {
      statistics = await triton.statistics(MODEL);
      return statistics.inferenceCount >= inferenceCountMin;
    });
    return statistics;
  }

  test('200 requests at once: each has its own row, in few executions', async () => {
    const texts = legalTexts(
      Array.from({ length: 200 }, (_, index) => 1 + Math.round((index * 330) / 199)),
      200,
    );
    const ids = await Promise.all(texts.map((text) => referenceIds(text)));
    const lengths = ids.map((text) => text.length);
    expect(Math.min(...lengths)).toBeLessThan(8);
    expect(Math.max(...lengths)).toBeGreaterThan(480);
    const before = await triton.statistics(MODEL);
    const replies = await Promise.all(
      texts.map(async (text) => (await (await post({ query: text })).json()) as JsonReply),
    );
    const after = await statisticsPast(before.inferenceCount + texts.length);
    for (const [index, { embedding, tokens }] of replies.entries()) {
      expect(tokens).toBe(lengths[index]);
      const right = deterministicEmbedding(ids[index], DIMENSION);
      expect(hexOf(Float32Array.from(embedding))).toBe(hexOf(right));
    }
    expect(after.executionCount - before.executionCount).toBeLessThanOrEqual(texts.length / 5);
    for (const index of [0, 77, 199]) {
      const alone = (await (await post({ query: texts[index] })).json()) as JsonReply;
      expect(alone).toEqual(replies[index]);
    }
  });

  test('batch_size caps how many texts of a request ride in one batch', async () => {
    const query = legalTexts(new Array(40).fill(5), 40);
    const before = await triton.statistics(MODEL);
    expect((await post({ query, batch_size: 8 })).status).toBe(200);
    const after = await statisticsPast(before.inferenceCount + query.length);
    const grown = [...after.batches].filter(
      ([size, count]) => count > (before.batches.get(size) ?? 0),
    );
    expect(Math.max(...grown.map(([size]) => size))).toBeLessThanOrEqual(8);
  });
});

describe('a backend that goes away', () => {
  test('503 until it is back, and back by itself', async () => {
    triton.signal('SIGKILL');
    await until('/ready notices, with nobody asking for rows', async () => !(await isReady()));
    const ready = await fetch(`${server.url}/ready`);
    expect(await ready.json()).toMatchObject({ ready: false, model: 'bge-m3' });
    const refused = await post({ query: 'тест' });
    expect(refused.status).toBe(503);
    expect(refused.headers.get('retry-after')).not.toBeNull();
    expect(await refused.json()).toMatchObject({
      error: { code: 'EMB_BACKEND_UNAVAILABLE', retryable: true },
    });
    expect((await fetch(`${server.url}/health`)).status).toBe(200);
    await triton.restart();
    await until('the server is ready again', isReady);
    const { embedding } = (await (await post({ query: 'тест' })).json()) as JsonReply;
    expect(hexOf(Float32Array.from(embedding))).toBe(hexOf(await rightRow('тест')));
  });

  test('killed under load, each request is answered once: its own row or 503', async () => {
    const texts = legalTexts(
      Array.from({ length: 120 }, (_, index) => 1 + index),
      7,
    );
    const before = (await triton.statistics(MODEL)).executionCount;
    const replies = texts.map((text) => post({ query: text }));
    await until('work is under way', async () => {
      return (await triton.statistics(MODEL)).executionCount > before;
    });
    triton.signal('SIGKILL');
    for (const [index, reply] of (await Promise.all(replies)).entries()) {
      const body = (await reply.json()) as JsonReply & { error?: { code: string } };
      if (reply.status === 200) {
        expect(hexOf(Float32Array.from(body.embedding))).toBe(hexOf(await rightRow(texts[index])));
      } else {
        expect(reply.status).toBe(503);
        expect(body.error?.code).toBe('EMB_BACKEND_UNAVAILABLE');
      }
    }
    expect(server.parts.admission.admittedTextCount).toBe(0);
    await triton.restart();
    await until('the server is ready again', isReady);
    expect((await post({ query: 'тест' })).status).toBe(200);
  });
});

function hexOf(row: Float32Array): string {
  return Buffer.from(row.buffer, row.byteOffset, row.byteLength).toString('hex');
}
