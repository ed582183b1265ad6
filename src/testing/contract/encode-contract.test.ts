import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';
import { unpack } from 'msgpackr';
import { legalTexts } from '../legal-texts.ts';
import { runPython } from '../python/run-python.ts';
import { deterministicEmbedding } from '../triton/deterministic-embedding.ts';
import type { TritonStatistics } from '../triton/triton-statistics.ts';
import { until } from '../until.ts';
import { DIMENSION, encodeHarness, hexOf, type JsonReply, MODEL } from './encode-harness.ts';

/**
 * `/encode` whole: HTTP, tokenizer, batcher and a real Triton. What comes out is compared, bit for
 * bit, with token ids from the Rust reference and rows that are computed here anew.
 */

// Two tokenizers load here, and Triton may take three seconds to stop.
setDefaultTimeout(60_000);

const TOKEN_COUNT_MAX = 8192;
const harness = encodeHarness();

const TEXTS = [
  'тест',
  'Арендодатель вправе расторгнуть договор аренды.',
  'The lessee shall pay rent on the first day of each month.',
  'Статья 619. Досрочное расторжение договора по требованию арендодателя — 30 % годовых, п. 3 «а».',
  '房东可以要求提前终止租赁合同。',
];

describe('rows, bit for bit', () => {
  test('JSON, one text', async () => {
    for (const text of TEXTS) {
      const reply = await harness.post({ query: text });
      expect(reply.status).toBe(200);
      expect(reply.headers.get('content-type')).toBe('application/json');
      const { embedding, ...rest } = (await reply.json()) as JsonReply;
      expect(rest).toEqual({
        model: 'bge-m3',
        dim: DIMENSION,
        tokens: (await harness.referenceIds(text)).length,
        truncated: false,
      } as never);
      expect(hexOf(embedding)).toBe(await harness.rightHex(text));
    }
  });

  test('JSON, several texts', async () => {
    const { embeddings, tokens, truncated } = (await (
      await harness.post({ query: TEXTS })
    ).json()) as JsonReply;
    const ids = await Promise.all(TEXTS.map((text) => harness.referenceIds(text)));
    expect(tokens).toEqual(ids.map((text) => text.length));
    expect(truncated).toEqual(TEXTS.map(() => false));
    expect(embeddings.map((row) => hexOf(row))).toEqual(
      ids.map((text) => hexOf(deterministicEmbedding(text, DIMENSION))),
    );
  });

  test('an array of one text answers an array', async () => {
    const reply = (await (await harness.post({ query: [TEXTS[0]] })).json()) as JsonReply;
    expect(reply.embedding).toBeUndefined();
    expect(reply.embeddings).toHaveLength(1);
    expect(reply.tokens).toEqual([3]);
  });

  test('msgpack, read by msgpackr in one line', async () => {
    const reply = await harness.post({ query: TEXTS }, 'application/msgpack');
    expect(reply.headers.get('content-type')).toBe('application/msgpack');
    const { embeddings, ...rest } = unpack(await reply.bytes());
    expect(embeddings).toMatchObject({ dtype: '<f4', shape: [TEXTS.length, DIMENSION] });
    const right = await Promise.all(TEXTS.map(harness.rightHex));
    expect(Buffer.from(embeddings.data).toString('hex')).toBe(right.join(''));
    expect(rest).toMatchObject({
      model: 'bge-m3',
      dim: DIMENSION,
      truncated: TEXTS.map(() => false),
    });
  });

  test('a msgpack request gives what the JSON request gives', async () => {
    const { pack } = await import('msgpackr');
    const reply = await fetch(`${harness.server.url}/encode`, {
      method: 'POST',
      headers: { 'content-type': 'application/msgpack' },
      body: Uint8Array.from(pack({ query: TEXTS, batch_size: 2, truncate: true })),
    });
    expect(await reply.json()).toEqual(await (await harness.post({ query: TEXTS })).json());
  });

  test.each(['one text', 'several texts'])(
    'Python gets one array in every form, %s',
    async (form) => {
      const query = form === 'one text' ? TEXTS[1] : TEXTS;
      const rows = (await Promise.all([query].flat().map(harness.rightHex))).join('');
      const shape = form === 'one text' ? [DIMENSION] : [TEXTS.length, DIMENSION];
      const array = { dtype: '<f4', shape, data: Buffer.from(rows, 'hex').toString('base64') };
      const script = join(import.meta.dir, '../python/ask_encode.py');
      const stdin = new TextEncoder().encode(
        JSON.stringify({ url: `${harness.server.url}/encode`, query }),
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
    const ids = await harness.referenceIds(long);
    expect(ids.length).toBeGreaterThan(TOKEN_COUNT_MAX);
    const reply = (await (
      await harness.post({ query: [long, 'тест'], truncate: true })
    ).json()) as JsonReply;
    const kept = [...ids.slice(0, TOKEN_COUNT_MAX - 1), 2];
    expect(reply.tokens).toEqual([ids.length, 3]);
    expect(reply.truncated).toEqual([true, false]);
    expect(hexOf(reply.embeddings[0])).toBe(hexOf(deterministicEmbedding(kept, DIMENSION)));
  });

  test('a duplicate, and the order, survive', async () => {
    const query = [TEXTS[2], TEXTS[0], TEXTS[2], TEXTS[0]];
    const { embeddings } = (await (await harness.post({ query })).json()) as JsonReply;
    expect(embeddings[0]).toEqual(embeddings[2]);
    expect(embeddings[1]).toEqual(embeddings[3]);
    expect(hexOf(embeddings[1])).toBe(await harness.rightHex(TEXTS[0]));
  });
});

describe('batches', () => {
  /** Triton counts some ms after it has answered. */
  async function statisticsPast(inferenceCountMin: number): Promise<TritonStatistics> {
    let statistics = await harness.triton.statistics(MODEL);
    await until('Triton has counted every text', async () => {
      statistics = await harness.triton.statistics(MODEL);
      return statistics.inferenceCount >= inferenceCountMin;
    });
    return statistics;
  }

  test('200 requests at once: each has its own row, in few executions', async () => {
    const texts = legalTexts(
      Array.from({ length: 200 }, (_, index) => 1 + Math.round((index * 330) / 199)),
      200,
    );
    const ids = await Promise.all(texts.map((text) => harness.referenceIds(text)));
    const lengths = ids.map((text) => text.length);
    expect(Math.min(...lengths)).toBeLessThan(8);
    expect(Math.max(...lengths)).toBeGreaterThan(480);
    const before = await harness.triton.statistics(MODEL);
    const replies = await Promise.all(
      texts.map(async (text) => (await (await harness.post({ query: text })).json()) as JsonReply),
    );
    const after = await statisticsPast(before.inferenceCount + texts.length);
    for (const [index, { embedding, tokens }] of replies.entries()) {
      expect(tokens).toBe(lengths[index]);
      const right = deterministicEmbedding(ids[index], DIMENSION);
      expect(hexOf(embedding)).toBe(hexOf(right));
    }
    // 25 on a quiet machine. On a busy one the requests themselves come apart in time.
    expect(after.executionCount - before.executionCount).toBeLessThanOrEqual(texts.length / 3);
    for (const index of [0, 77, 199]) {
      const alone = (await (await harness.post({ query: texts[index] })).json()) as JsonReply;
      expect(alone).toEqual(replies[index]);
    }
  });

  test('batch_size caps how many texts of a request ride in one batch', async () => {
    const query = legalTexts(new Array(40).fill(5), 40);
    const before = await harness.triton.statistics(MODEL);
    expect((await harness.post({ query, batch_size: 8 })).status).toBe(200);
    const after = await statisticsPast(before.inferenceCount + query.length);
    const grown = [...after.batches].filter(
      ([size, count]) => count > (before.batches.get(size) ?? 0),
    );
    expect(Math.max(...grown.map(([size]) => size))).toBeLessThanOrEqual(8);
  });
});
