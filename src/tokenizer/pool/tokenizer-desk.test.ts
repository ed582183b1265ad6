import { afterEach, beforeEach, expect, test } from 'bun:test';
import { createLog } from '../../base/log.ts';
import { until } from '../../testing/until.ts';
import { VirtualClock } from '../../testing/virtual-clock.ts';
import { createTokenizerDesk, type TokenizerDesk } from './tokenizer-desk.ts';

/**
 * The order in which one real worker is given jobs. All are sent in one turn, so that none is
 * answered before the last is here.
 */

let desk: TokenizerDesk;

beforeEach(async () => {
  desk = createTokenizerDesk({
    name: 'desk',
    workerUrl: new URL('../../testing/workers/scripted-tokenizer.ts', import.meta.url),
    greeting: { kind: 'transformers.js', modelsDir: '', modelId: 'good' },
    startMsMax: 10_000,
    restartsMax: 0,
    clock: new VirtualClock(),
    log: createLog({ level: 'error', write: () => undefined }),
  });
  await desk.started;
});

afterEach(() => desk.close());

/** Sends jobs of so many units; the names in the order of their answers. */
async function orderOf(jobs: readonly (readonly [name: string, units: number])[]) {
  const answered: string[] = [];
  const options = { tokenCountMax: 5, truncationSide: 'right', specialTokens: true } as const;
  // Two are at the worker at once, whatever they are.
  for (const [name, units] of [['first', 1], ['second', 1], ...jobs] as const) {
    const settle = { done: () => answered.push(name), failed: () => answered.push(`no ${name}`) };
    desk.send({ kind: 'encode', texts: ['x'.repeat(units)], options }, settle);
  }
  await until('all are answered', () => answered.length === jobs.length + 2);
  return answered.slice(2);
}

test('a book lets short texts pass, and jobs alike keep their order', async () => {
  const jobs = [
    ['book', 100_000],
    ['a', 20],
    ['b', 10],
    ['c', 10],
  ] as const;
  expect(await orderOf(jobs)).toEqual(['b', 'c', 'a', 'book']);
});

test('what has waited while enough others came is not passed any more', async () => {
  const others = Array.from({ length: 60 }, (_, at) => [`other ${at}`, 1000] as const);
  const order = await orderOf([['long', 2000], ...others]);
  // Sixteen times its own length may pass it, by what came later.
  expect(order.indexOf('long')).toBeGreaterThan(10);
  expect(order.indexOf('long')).toBeLessThan(35);
});
