import { expect, test } from 'bun:test';
import { systemClock } from '../base/clock.ts';
import type { ServerError } from '../base/errors.ts';
import type { EncodeRequest, EncodeResult } from '../encode/contract.ts';
import { encodeAndScore, type ScoringContext } from './scoring.ts';
import { createScoringBudget } from './scoring-budget.ts';

const DIMENSION = 1024;

/**
 * A context whose journey gives texts of so many tokens each, with vectors that are all alike. What
 * it was asked is recorded.
 */
function stand(keptCounts: readonly number[], scoringBytesMax = 1e12) {
  const asked: EncodeRequest[] = [];
  const row = new Float32Array(DIMENSION).fill(DIMENSION ** -0.5);
  const result: EncodeResult = {
    multiVectors: keptCounts.map(() => ({ tokenCount: 1, data: row })),
    tokenCounts: keptCounts,
    truncated: keptCounts.map(() => false),
    servedBy: undefined,
    timings: { tokenizeMs: 0, queueMs: 0, inferMs: 0 },
    giveBack: () => undefined,
  };
  const cancellation = { ended: undefined, whenEnded: () => undefined, release: () => undefined };
  const context = {
    async encode(request: EncodeRequest) {
      asked.push(request);
      request.followUp?.plan(keptCounts);
      await request.followUp?.run(result, cancellation);
      return result;
    },
    manifest: { dimension: DIMENSION },
    scoringBudget: createScoringBudget({ scoringBytesMax }),
    limits: { replyBytesMax: 268_435_456, requestTimeoutMs: 60_000 },
    access: { callerOf: () => 'a' },
    clock: systemClock,
  } as unknown as ScoringContext;
  const score = () =>
    encodeAndScore(
      context,
      { request: new Request('http://localhost/'), isBackground: false },
      {
        heads: ['multi_vector'],
        weights: [1],
        truncate: true,
        query: { text: 'q', field: 'query' },
        firstInputType: 'query',
        texts: { texts: keptCounts.slice(1).map(() => 't'), field: 'texts' },
        inputType: 'passage',
      },
    );
  return { asked, score };
}

const outcomeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => undefined,
    (error: ServerError) => error,
  );

test('a query and its texts are one journey', async () => {
  const { asked, score } = stand([8, 8, 8]);
  const { scores } = await score();
  expect(scores.weighted).toEqual([expect.closeTo(1, 5), expect.closeTo(1, 5)]);
  expect(asked).toHaveLength(1);
  expect(asked[0]).toMatchObject({ texts: ['q', 't', 't'], firstInputType: 'query' });
  expect([0, 1, 2].map((index) => asked[0].fieldOf(index))).toEqual([
    'query',
    'texts[0]',
    'texts[1]',
  ]);
});

test('a hundred texts of 512 tokens fit, as the settings are', async () => {
  const counts = [32, ...Array.from({ length: 100 }, () => 512)];
  const valueCount = counts.reduce((sum, count) => sum + (count - 1) * DIMENSION, 0);
  const { asked, score } = stand(counts);
  // Its vectors are a stand-in's, one each: what counts is what was asked, and planned.
  expect(await outcomeOf(score())).toBeUndefined();
  expect(asked[0].valueCountMax).toBeGreaterThan(valueCount);
});

test('two texts of full length are refused before they are computed', async () => {
  const error = await outcomeOf(stand([8192, 8192]).score());
  expect(error).toMatchObject({ code: 'EMB_REPLY_TOO_LARGE' });
  expect(error?.details).toMatchObject({ limit: 3e10, value: 8191 * 8191 * DIMENSION });
});

test('the budget is held until the scores are there, and no longer', async () => {
  const { score } = stand([8, 8], 100_000);
  const [first, second] = await Promise.all([outcomeOf(score()), outcomeOf(score())]);
  expect(first).toBeUndefined();
  expect(second).toMatchObject({ code: 'EMB_QUEUE_FULL' });
  expect(await outcomeOf(score())).toBeUndefined();
});
