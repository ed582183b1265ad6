import { describe, expect, test } from 'bun:test';
import { systemClock } from '../base/clock.ts';
import { seededRandom } from '../testing/seeded-random.ts';
import { VirtualClock } from '../testing/virtual-clock.ts';
import { createCancellation } from './cancellation.ts';
import { mapInOrder } from './map-in-order.ts';

/** Numbers from 0; remembers how many were pulled, and whether it was closed. */
function countingSource(count: number) {
  const seen = { pulledCount: 0, isClosed: false };
  async function* numbers(): AsyncGenerator<number, void, undefined> {
    try {
      for (let index = 0; index < count; index++) {
        seen.pulledCount++;
        yield index;
      }
    } finally {
      // Closing a file takes its time.
      await endOfTurn();
      seen.isClosed = true;
    }
  }
  return { source: numbers(), seen };
}

function endOfTurn(): Promise<void> {
  return new Promise((resolve) => systemClock.afterTurn(resolve));
}

function newScope(clock = new VirtualClock(), totalTimeoutMs?: number) {
  return createCancellation({ clock, totalTimeoutMs });
}

describe('mapInOrder', () => {
  // Planted and caught: results in the order of arrival, `<=` for the concurrency, a window without
  // a bound.
  test('keeps the order and both bounds, whatever finishes first', async () => {
    const random = seededRandom(3);
    for (let round = 0; round < 100; round++) {
      const clock = new VirtualClock();
      const concurrency = random.between(1, 5);
      const windowMax = concurrency + random.below(4);
      const { source, seen } = countingSource(random.between(0, 40));
      let runningCount = 0;
      let takenCount = 0;
      const work = (item: number): Promise<number> => {
        runningCount++;
        expect(runningCount).toBeLessThanOrEqual(concurrency);
        // The one in the consumer's hands has left the window.
        expect(item - takenCount).toBeLessThan(windowMax + 1);
        return new Promise((resolve) => {
          clock.schedule(random.below(50), () => {
            runningCount--;
            resolve(item * 10);
          });
        });
      };
      const options = { source, concurrency, windowMax, cancellation: newScope(clock), work };
      const results: number[] = [];
      const consumed = (async () => {
        for await (const result of mapInOrder(options)) {
          results.push(result);
          takenCount++;
          if (random.below(3) === 0) await new Promise<void>((go) => clock.schedule(30, go));
        }
      })();
      let isConsumed = false;
      consumed.finally(() => {
        isConsumed = true;
      });
      while (!isConsumed) await clock.advance(10);
      await consumed;
      expect(results).toEqual(Array.from({ length: seen.pulledCount }, (_, index) => index * 10));
      expect(seen.isClosed).toBe(true);
    }
  });

  test('works on while the consumer is busy, as far as the window goes', async () => {
    const { source, seen } = countingSource(1000);
    const clock = new VirtualClock();
    const work = async (item: number): Promise<number> => item;
    const options = { source, concurrency: 2, windowMax: 4, cancellation: newScope(clock), work };
    const results = mapInOrder(options);
    await results.next();
    await clock.settle();
    expect(seen.pulledCount).toBe(5);
    await results.return();
    expect(seen.isClosed).toBe(true);
    await clock.settle();
    expect(seen.pulledCount).toBe(5);
  });

  test('throws the first failure at once, not in its turn, and ends the others', async () => {
    const cancellation = newScope();
    const { source, seen } = countingSource(1000);
    let endedCount = 0;
    const work = (item: number): Promise<number> => {
      if (item === 2) return Promise.reject(new Error('third'));
      return new Promise((_, reject) => {
        cancellation.signal.addEventListener('abort', () => {
          endedCount++;
          reject(cancellation.signal.reason);
        });
      });
    };
    const results = mapInOrder({ source, concurrency: 4, windowMax: 8, cancellation, work });
    await expect(results.next()).rejects.toThrow('third');
    await results.return();
    expect(endedCount).toBeGreaterThanOrEqual(2);
    expect(seen.isClosed).toBe(true);
    expect(seen.pulledCount).toBeLessThanOrEqual(4);
  });

  test('a failing source ends the call', async () => {
    async function* failing(): AsyncGenerator<number, void, undefined> {
      yield 1;
      throw new Error('disk');
    }
    const cancellation = newScope();
    const work = async (item: number): Promise<number> => item;
    const seen: number[] = [];
    const consume = async (): Promise<void> => {
      const options = { source: failing(), concurrency: 1, windowMax: 2, cancellation, work };
      for await (const result of mapInOrder(options)) seen.push(result);
    };
    await expect(consume()).rejects.toThrow('disk');
  });

  test('a source that never answers does not hold up an abort', async () => {
    async function* stuck(): AsyncGenerator<number, void, undefined> {
      yield 1;
      await new Promise(() => undefined);
    }
    const clock = new VirtualClock();
    const cancellation = newScope(clock);
    const work = async (item: number): Promise<number> => item;
    const results = mapInOrder({
      source: stuck(),
      concurrency: 2,
      windowMax: 4,
      cancellation,
      work,
    });
    expect((await results.next()).value).toBe(1);
    const next = results.next();
    cancellation.cancel(new Error('enough'));
    await expect(next).rejects.toThrow('enough');
    expect((await results.next()).done).toBe(true);
  });

  test('leaving the loop ends what runs and closes the source before it goes on', async () => {
    const cancellation = newScope();
    const { source, seen } = countingSource(1000);
    let runningCount = 0;
    const work = (item: number): Promise<number> => {
      if (item === 0) return Promise.resolve(item);
      runningCount++;
      return new Promise((_, reject) => {
        cancellation.signal.addEventListener('abort', async () => {
          await endOfTurn();
          runningCount--;
          reject(cancellation.signal.reason);
        });
      });
    };
    for await (const _ of mapInOrder({ source, concurrency: 3, windowMax: 6, cancellation, work }))
      break;
    expect(runningCount).toBe(0);
    expect(seen.isClosed).toBe(true);
  });
});
