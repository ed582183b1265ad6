import { afterEach, beforeEach, expect, test } from 'bun:test';
import { createLog } from '../../base/log.ts';
import { until } from '../../testing/until.ts';
import { VirtualClock } from '../../testing/virtual-clock.ts';
import { createWorkerQueue, type WorkerQueue } from './worker-queue.ts';

/**
 * The order in which one real worker is given requests. All are sent in one turn, so that none is
 * answered before the last is here.
 */

let queue: WorkerQueue;

beforeEach(async () => {
  queue = createWorkerQueue({
    name: 'queue',
    workerUrl: new URL('../../testing/workers/scripted-tokenizer.ts', import.meta.url),
    init: { kind: 'transformers.js', modelsDir: '', modelId: 'good' },
    startMsMax: 10_000,
    restartsMax: 0,
    clock: new VirtualClock(),
    log: createLog({ level: 'error', write: () => undefined }),
  });
  await queue.started;
});

afterEach(() => queue.close());

/** Sends requests of so many units; the names in the order of their responses. */
async function orderOf(requests: readonly (readonly [name: string, units: number])[]) {
  const answered: string[] = [];
  const options = { tokenCountMax: 5, truncationSide: 'right', specialTokens: true } as const;
  // Two are at the worker at once, whatever they are.
  for (const [name, units] of [['first', 1], ['second', 1], ...requests] as const) {
    const settlement = {
      done: () => answered.push(name),
      failed: () => answered.push(`no ${name}`),
    };
    queue.send({ kind: 'encode', texts: ['x'.repeat(units)], options }, settlement);
  }
  await until('all are answered', () => answered.length === requests.length + 2);
  return answered.slice(2);
}

test('a book lets short texts pass, and requests alike keep their order', async () => {
  const requests = [
    ['book', 100_000],
    ['a', 20],
    ['b', 10],
    ['c', 10],
  ] as const;
  expect(await orderOf(requests)).toEqual(['b', 'c', 'a', 'book']);
});

test('what has waited while enough others came is not passed any more', async () => {
  const others = Array.from({ length: 60 }, (_, at) => [`other ${at}`, 1000] as const);
  const order = await orderOf([['long', 2000], ...others]);
  // Sixteen times its own length may pass it, by what came later.
  expect(order.indexOf('long')).toBeGreaterThan(10);
  expect(order.indexOf('long')).toBeLessThan(35);
});
