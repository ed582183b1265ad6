import { expect, test } from 'bun:test';
import type { ServerError } from '../base/errors.ts';
import { createScoringBudget, PRODUCTS_PER_MS, type ScoringWork } from './scoring-budget.ts';

/** Work of nothing, for a caller that waits for two seconds: one of them is for scoring. */
function work(change: Partial<ScoringWork>): ScoringWork {
  return { valueCount: 0, productCount: 0, timeoutMs: 2000, ...change };
}

const ms = (count: number) => work({ productCount: count * PRODUCTS_PER_MS });

function refusalOf(take: () => unknown): ServerError | undefined {
  try {
    take();
    return undefined;
  } catch (error) {
    return error as ServerError;
  }
}

test('vectors are bounded for all together, and come back', () => {
  const budget = createScoringBudget({ scoringBytesMax: 4000 });
  const release = budget.take(work({ valueCount: 900 }));
  expect(refusalOf(() => budget.take(work({ valueCount: 101 })))).toMatchObject({
    code: 'EMB_QUEUE_FULL',
    details: { limit: 1000, value: 1001, retryAfterMs: 50 },
  });
  const other = budget.take(work({ valueCount: 100 }));
  release();
  other();
  // An unused budget takes any: its own limit is the reply's.
  expect(refusalOf(() => budget.take(work({ valueCount: 5000 })))).toBeUndefined();
});

test('what alone takes too long is refused for good', () => {
  const budget = createScoringBudget({ scoringBytesMax: 4000 });
  expect(refusalOf(() => budget.take(ms(1000)))).toBeUndefined();
  const error = refusalOf(() => createScoringBudget({ scoringBytesMax: 4000 }).take(ms(1001)));
  expect(error).toMatchObject({ code: 'EMB_REPLY_TOO_LARGE' });
  expect(error?.details).toMatchObject({ field: 'texts', limit: 1e9, value: 1.001e9 });
});

test('what takes too long beside the others is to come back, and a small one goes', () => {
  const budget = createScoringBudget({ scoringBytesMax: 4000 });
  const release = budget.take(ms(800));
  const error = refusalOf(() => budget.take(ms(600)));
  expect(error).toMatchObject({ code: 'EMB_QUEUE_FULL' });
  expect(error?.details).toMatchObject({ limit: 1000, value: 1200, retryAfterMs: 400 });
  // It has every second turn.
  expect(refusalOf(() => budget.take({ ...ms(30), timeoutMs: 120 }))).toBeUndefined();
  release();
  expect(refusalOf(() => budget.take(ms(900)))).toBeUndefined();
});
