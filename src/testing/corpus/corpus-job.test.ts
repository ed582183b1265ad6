import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { readdir } from 'node:fs/promises';
import type { DealShards } from '../../corpus/embed-corpus.ts';
import { type Lease, leasesInOrder } from '../../corpus/queue/shard-queue.ts';
import { SCRIPTED_DIMENSION, scriptedReply, scriptedRow } from '../scripted-encode-server.ts';
import { seededRandom } from '../seeded-random.ts';
import { until } from '../until.ts';
import {
  bytesOfFolder,
  type CorpusStand,
  jsonLines,
  refusal,
  rowsOfJsonLines,
  startCorpusStand,
} from './corpus-stand.ts';

/**
 * A job against a scripted server: what its output is made of, and what it does about faults.
 *
 * Faults that were planted to see these fail: a reply's results turned round; a text forgotten
 * after the first of its rows; `retry-after-ms` left out; the guard without its sums; a
 * wait for room that nothing but room ends.
 */

let stand: CorpusStand;

beforeEach(() => {
  stand = startCorpusStand();
});

afterEach(() => stand.close());

const TEXTS = Array.from(
  { length: 500 },
  (_, index) => `статья ${index} ${'а'.repeat(index % 37)}`,
);
const SMALL_PARTS = ['--part-texts', '64', '--request-texts', '8'];

const isBlank = (text: string): boolean => text.trim() === '';

function words(source: string, to: string, ...more: string[]): string[] {
  return [source, '--to', to, '--id', 'id', '--format', 'jsonl', ...SMALL_PARTS, ...more];
}

describe('the output', () => {
  test('has each text once, in the order of the input, with its own vector', async () => {
    const source = await stand.write('laws.jsonl', jsonLines(TEXTS));
    const report = await stand.embed(words(source, stand.path('out')));
    expect(report).toMatchObject({ texts: 500, textsNow: 500, failed: 0 });
    const rows = await rowsOfJsonLines(stand.path('out'));
    expect(rows.map(({ id }) => id)).toEqual(TEXTS.map((_, index) => `law-${index}`));
    expect(rows.map(({ embedding }) => embedding)).toEqual(
      TEXTS.map((text) => [...scriptedRow(text)]),
    );
    expect(rows[3]).toMatchObject({ token_count: TEXTS[3]?.length, truncated: false });
  });

  test('is the same bytes whatever the replies take and however many run at once', async () => {
    const source = await stand.write('laws.jsonl', jsonLines([...TEXTS, '', null, ...TEXTS]));
    await stand.embed(words(source, stand.path('calm'), '--concurrency', '1'));
    const random = seededRandom(5);
    stand.answer = async () => {
      // Replies leave in another order than their requests came.
      for (let turn = random.below(20); turn > 0; turn--) await new Promise(setImmediate);
      return undefined;
    };
    await stand.embed(words(source, stand.path('storm'), '--concurrency', '7'));
    expect(await bytesOfFolder(stand.path('storm'))).toEqual(
      await bytesOfFolder(stand.path('calm')),
    );
  });

  test('computes equal texts of a part once', async () => {
    const source = await stand.write('laws.jsonl', jsonLines(['а', 'б', 'а', 'а', 'в', 'б']));
    await stand.embed(words(source, stand.path('out')));
    expect(stand.textsSent()).toEqual(['а', 'б', 'в']);
    const rows = await rowsOfJsonLines(stand.path('out'));
    expect(rows.map(({ embedding }) => embedding)).toEqual(
      ['а', 'б', 'а', 'а', 'в', 'б'].map((text) => [...scriptedRow(text)]),
    );
  });

  test('long texts are held in memory by their characters, and not by their count', async () => {
    const texts = Array.from({ length: 24 }, (_, index) => `${index} `.padEnd(300_000, 'суд '));
    const source = await stand.write('laws.jsonl', jsonLines(texts));
    stand.answer = async () => {
      // Whatever may be begun is, meanwhile.
      for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
      return undefined;
    };
    await stand.embed(words(source, stand.path('out'), '--concurrency', '8'));
    // Two for each of eight requests of 65,536 characters are full when the fourth is begun.
    expect(stand.server.concurrencyPeak).toBe(4);
    expect((await rowsOfJsonLines(stand.path('out'))).map(({ embedding }) => embedding)).toEqual(
      texts.map((text) => [...scriptedRow(text)]),
    );
  });

  test('a job that ends while long texts wait for room gives its shards back', async () => {
    const texts = Array.from({ length: 24 }, (_, index) => `${index} `.padEnd(300_000, 'суд '));
    const source = await stand.write('laws.jsonl', jsonLines(texts));
    const answers = Promise.withResolvers<undefined>();
    stand.answer = () => answers.promise;
    const controller = new AbortController();
    let isGivenBack = false;
    async function* given(parts: number): AsyncGenerator<Lease, void, undefined> {
      try {
        yield* leasesInOrder(parts, new Set());
      } finally {
        isGivenBack = true;
      }
    }
    const deal: DealShards = async ({ parts }) => ({
      leases: given(parts),
      close: async () => undefined,
    });
    const args = words(source, stand.path('out'), '--concurrency', '8');
    const job = stand.embed(args, controller.signal, deal);
    await until('no further text has room', () => stand.textsSent().length === 4);
    controller.abort(new Error('SIGTERM'));
    await expect(job).rejects.toThrow('SIGTERM');
    answers.resolve(undefined);
    await until('its shards are given back', () => isGivenBack);
  });

  test('has all heads, and says that texts of a job are background', async () => {
    const source = await stand.write('laws.jsonl', jsonLines(['а', 'бб']));
    stand.answer = (_, texts) =>
      scriptedReply(texts, {
        sparse: texts.map((text) => ({
          indices: Int32Array.of(3, 5 + text.length),
          values: Float32Array.of(0.5, 0.1),
        })),
        multiVectors: texts.map((text) => ({
          tokenCount: text.length,
          data: new Float32Array(text.length * SCRIPTED_DIMENSION).fill(0.25),
        })),
      });
    await stand.embed(words(source, stand.path('out'), '--heads', 'dense,sparse,multi_vector'));
    const rows = await rowsOfJsonLines(stand.path('out'));
    expect(rows[1]).toMatchObject({
      sparse: { indices: [3, 7], values: [0.5, 0.1] },
      multi_vector: [
        [0.25, 0.25, 0.25],
        [0.25, 0.25, 0.25],
      ],
    });
    const asked = stand.server.requests.filter(({ path }) => path === '/encode');
    expect(asked.map(({ headers }) => headers.get('x-priority'))).toEqual(['background']);
  });
});

describe('a bad text costs itself', () => {
  test('when we see it, and when the server does', async () => {
    const texts = ['а', '', 'слишком длинный', null, 'б'];
    const source = await stand.write('laws.jsonl', `${jsonLines(texts)}{"id":"x","text":\n`);
    stand.answer = (_, sent) =>
      sent.some((text) => text.startsWith('слишком'))
        ? refusal(422, 'EMB_TEXT_TOO_LONG')
        : undefined;
    const report = await stand.embed(words(source, stand.path('out'), '--no-truncate'));
    expect(report).toMatchObject({ texts: 6, failed: 4 });
    const rows = await rowsOfJsonLines(stand.path('out'));
    expect(rows.map(({ error }) => (error as string | undefined)?.split(':')[0])).toEqual([
      undefined,
      'EMB_TEXT_EMPTY',
      'EMB_TEXT_TOO_LONG',
      'EMB_FIELD_MISSING',
      undefined,
      'EMB_BODY_MALFORMED',
    ]);
    expect(rows[4]?.embedding).toEqual([...scriptedRow('б')]);
  });

  test.each<[string, (texts: readonly string[]) => Response | undefined]>([
    ['encode', (texts) => scriptedReply(texts, { empty: texts.map(isBlank) })],
    [
      'null',
      (texts) => {
        const rows = texts.map((text) => (isBlank(text) ? new Float32Array() : scriptedRow(text)));
        return scriptedReply(texts, { rows, empty: texts.map(isBlank) });
      },
    ],
    [
      'refuse',
      (texts) => (texts.some(isBlank) ? refusal(422, 'EMB_TEXT_EMPTY') : scriptedReply(texts)),
    ],
  ])('a blank text has no row and one error, with EMPTY_TEXTS=%s', async (_policy, answer) => {
    const source = await stand.write('laws.jsonl', jsonLines(['а', '\u00a0\n', 'б']));
    stand.answer = (_, sent) => answer(sent);
    const report = await stand.embed(words(source, stand.path('out')));
    expect(report).toMatchObject({ texts: 3, failed: 1 });
    const rows = await rowsOfJsonLines(stand.path('out'));
    const error = 'EMB_TEXT_EMPTY: the text is blank';
    expect(rows.map((row) => [row.error, row.embedding])).toEqual([
      [undefined, [...scriptedRow('а')]],
      [error, undefined],
      [undefined, [...scriptedRow('б')]],
    ]);
  });

  test('also when its vector is not finite', async () => {
    const source = await stand.write('laws.jsonl', jsonLines(['а', 'б']));
    stand.answer = (_, texts) =>
      scriptedReply(texts, { rows: [Float32Array.of(1, Number.NaN, 1), scriptedRow('б')] });
    await stand.embed(words(source, stand.path('out')));
    const [bad, good] = await rowsOfJsonLines(stand.path('out'));
    expect(bad).toMatchObject({
      id: 'law-0',
      error: expect.stringContaining('EMB_OUTPUT_INVALID'),
    });
    expect(bad?.embedding).toBeUndefined();
    expect(good?.embedding).toEqual([...scriptedRow('б')]);
  });

  test('too many in a row stop the job before their part is committed', async () => {
    const source = await stand.write(
      'laws.jsonl',
      jsonLines([...TEXTS.slice(0, 70), ...Array(30).fill('')]),
    );
    const job = stand.embed(words(source, stand.path('out'), '--errors-in-row-max', '20'));
    await expect(job).rejects.toMatchObject({ code: 'CORPUS_TEXTS_FAILED', exitStatus: 5 });
    const parts = (await readdir(stand.path('out'))).filter((name) => name.startsWith('part'));
    expect(parts).toEqual(['part-000000.jsonl']);
    expect(await readdir(stand.path('out/_embed'))).toEqual(
      expect.not.arrayContaining([expect.stringContaining('.partial')]),
    );
  });

  test('a flag that names no field is told with the fields that there are', async () => {
    const source = await stand.write('laws.jsonl', jsonLines(TEXTS));
    const job = stand.embed([source, '--to', stand.path('out'), '--text', 'body']);
    await expect(job).rejects.toThrow(/--text body.*has id, text/);
  });
});

describe('a server that is busy or gone', () => {
  test('is waited for as it asks', async () => {
    const source = await stand.write('laws.jsonl', jsonLines(['а', 'б']));
    let refusedMs = 0;
    let waitedMs = 0;
    stand.answer = () => {
      if (refusedMs === 0) {
        refusedMs = performance.now();
        return refusal(429, 'EMB_QUEUE_FULL', { 'retry-after-ms': '120', 'retry-after': '1' });
      }
      waitedMs = performance.now() - refusedMs;
      return undefined;
    };
    const report = await stand.embed(words(source, stand.path('out')));
    expect(report).toMatchObject({ texts: 2, failed: 0 });
    expect(waitedMs).toBeGreaterThanOrEqual(115);
    expect(stand.said).toContain('EMB_QUEUE_FULL');
  });

  test('gets fewer texts at a time where its deadline is too short for many', async () => {
    const source = await stand.write('laws.jsonl', jsonLines(TEXTS));
    stand.answer = (_, texts) =>
      texts.length > 3 ? refusal(504, 'EMB_DEADLINE_EXCEEDED') : undefined;
    const report = await stand.embed(words(source, stand.path('out')));
    expect(report).toMatchObject({ texts: 500, failed: 0 });
  });

  test('does not hold up the job where another one answers', async () => {
    const source = await stand.write('laws.jsonl', jsonLines(TEXTS));
    const other = startCorpusStand();
    other.answer = () => refusal(503, 'EMB_SHUTTING_DOWN', { 'retry-after-ms': '60000' });
    const urls = `${other.server.url},${stand.server.url}`;
    const report = await stand.embed(words(source, stand.path('out'), '--url', urls));
    expect(report).toMatchObject({ texts: 500, failed: 0 });
    await other.close();
  });

  test('ends the job when nothing has answered for longer than the patience', async () => {
    const source = await stand.write('laws.jsonl', jsonLines(TEXTS));
    stand.answer = () => refusal(503, 'EMB_BACKEND_UNAVAILABLE', { 'retry-after-ms': '300' });
    const job = stand.embed(words(source, stand.path('out'), '--patience', '1'));
    await expect(job).rejects.toMatchObject({ code: 'CORPUS_SERVER_FAILED', exitStatus: 5 });
  });

  test('ends the job when it serves another model than before', async () => {
    const source = await stand.write('laws.jsonl', jsonLines(TEXTS));
    stand.answer = (_, texts) => scriptedReply(texts, { model: 'another' });
    const job = stand.embed(words(source, stand.path('out')));
    await expect(job).rejects.toMatchObject({ code: 'CORPUS_MODEL_DIFFERS', exitStatus: 4 });
  });
});

test('a watcher reads the state from a file, as JSON or as Prometheus has it', async () => {
  const source = await stand.write('laws.jsonl', jsonLines(TEXTS));
  const file = stand.path('state.json');
  await stand.embed(words(source, stand.path('out'), '--progress-file', file));
  expect(await Bun.file(file).json()).toMatchObject({ state: 'done', texts: 500, textsDone: 500 });
  const metrics = stand.path('state.prom');
  await stand.embed(words(source, stand.path('out'), '--progress-file', metrics));
  expect(await Bun.file(metrics).text()).toContain('embed_texts_done 500\n');
});
