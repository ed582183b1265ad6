import { expect, test } from 'bun:test';
import { ServerError } from '../base/errors.ts';
import type { EncodeResult } from '../encode/contract.ts';
import { scoreTexts } from './scoring.ts';

/**
 * Scoring and the event loop. Faults that were planted in the code by hand, and that this suite
 * caught: a text scored in one go; two requests that go on in the same turn; a deadline that nobody
 * looks at.
 */

const DIMENSION = 32;

/** So many texts of so many vectors each; the first is the query. */
function encoded(count: number, tokenCount: number): EncodeResult {
  const data = new Float32Array(tokenCount * DIMENSION).fill(DIMENSION ** -0.5);
  return {
    multiVectors: Array.from({ length: count }, () => ({ tokenCount, data })),
    tokenCounts: Array.from({ length: count }, () => tokenCount + 1),
    truncated: Array.from({ length: count }, () => false),
    servedBy: undefined,
    timings: { tokenizeMs: 0, queueMs: 0, inferMs: 0 },
    giveBack: () => undefined,
  };
}

/** A clock that ends a turn when the test says so. */
function turnByTurn() {
  const waiting: (() => void)[] = [];
  return {
    now: () => 0,
    schedule: () => () => undefined,
    afterTurn: (action: () => void) => void waiting.push(action),
    waiting,
    /** Ends one turn. @returns how many went on in it. */
    async endTurn(): Promise<number> {
      const actions = waiting.splice(0);
      for (const action of actions) action();
      // What was set free runs as far as it can: its next wait is some microtasks away.
      for (let tick = 0; tick < 20; tick++) await Promise.resolve();
      return actions.length;
    },
  };
}

const heads = ['multi_vector'] as const;
const weights = [1];

test('gives the thread back each million products, also inside one text', async () => {
  const clock = turnByTurn();
  // 512 × 512 rows of 32 numbers: 8.4 million.
  const work = { encoded: encoded(2, 512), heads, weights };
  let isDone = false;
  const scores = scoreTexts(work, clock).finally(() => {
    isDone = true;
  });
  let turnCount = 0;
  for (; !isDone && turnCount < 100; turnCount++) await clock.endTurn();
  expect(turnCount).toBeGreaterThanOrEqual(8);
  expect(turnCount).toBeLessThan(12);
  expect((await scores).weighted[0]).toBeCloseTo(1, 5);
});

test('of two requests one goes on in a turn', async () => {
  const clock = turnByTurn();
  const work = { encoded: encoded(2, 512), heads, weights };
  const both = Promise.all([scoreTexts(work, clock), scoreTexts(work, clock)]);
  const wentOn: number[] = [];
  for (let turn = 0; turn < 30; turn++) wentOn.push(await clock.endTurn());
  await both;
  expect(Math.max(...wentOn)).toBe(1);
  expect(wentOn.reduce((sum, count) => sum + count)).toBeGreaterThanOrEqual(16);
});

test('ends when nobody waits any more, with a score half done', async () => {
  const clock = turnByTurn();
  const reason = new ServerError('EMB_DEADLINE_EXCEEDED', 'Too late.');
  const cancellation = {
    ended: undefined as ServerError | undefined,
    whenEnded() {},
    release() {},
  };
  const work = { encoded: encoded(10, 512), heads, weights, cancellation };
  const scores = scoreTexts(work, clock).catch((error) => error);
  await clock.endTurn();
  cancellation.ended = reason;
  await clock.endTurn();
  expect(await scores).toBe(reason);
  expect(clock.waiting).toEqual([]);
});
