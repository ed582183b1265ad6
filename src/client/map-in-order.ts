import { type Cancellation, onAbort } from './cancellation.ts';

/**
 * Runs `work` over a source that may have no end, some items at a time, and yields the results in
 * the source's order.
 *
 * Two bounds limit what it holds. At most `concurrency` items are in work, and at most `windowMax`
 * are begun and not yet taken. So a slow consumer, or a slow first item, stops the pulling. The
 * pump runs on its own: the next results come in while the consumer is busy with the last ones.
 *
 * The first failure, of the source or of any work, cancels all of it. Its reason is thrown at once
 * and not in its turn. A consumer that leaves early cancels too. Nothing of `work` is still running
 * once the generator has returned.
 */
export async function* mapInOrder<Item, Result>(options: {
  source: AsyncGenerator<Item, void, undefined>;
  concurrency: number;
  windowMax: number;
  cancellation: Cancellation;
  work: (item: Item) => Promise<Result>;
}): AsyncGenerator<Result, void, undefined> {
  const { source, concurrency, windowMax, cancellation, work } = options;
  const { signal } = cancellation;
  const bell = createBell();
  const begun: Promise<Result>[] = [];
  let workingCount = 0;
  let isPulling = false;
  let isExhausted = false;

  const begin = (item: Item): void => {
    workingCount++;
    const result = work(item).finally(() => {
      workingCount--;
      bell.ring();
    });
    // Also marks the promise as handled: after a cancellation nobody may come to take it.
    result.catch(cancellation.cancel);
    begun.push(result);
    bell.ring();
  };
  const pump = async (): Promise<void> => {
    while (!signal.aborted) {
      if (workingCount >= concurrency || begun.length >= windowMax) {
        await bell.next();
        continue;
      }
      isPulling = true;
      const pulled = await source.next();
      isPulling = false;
      if (pulled.done === true) break;
      if (!signal.aborted) begin(pulled.value);
    }
    isExhausted = true;
    bell.ring();
  };

  const stopListening = onAbort(signal, bell.ring);
  pump().catch(cancellation.cancel);
  try {
    while (true) {
      signal.throwIfAborted();
      if (begun.length > 0) {
        const result = await Promise.race([begun[0], bell.next()]);
        signal.throwIfAborted();
        if (result === RUNG) continue;
        begun.shift();
        bell.ring();
        yield result;
      } else if (isExhausted) return;
      else await bell.next();
    }
  } finally {
    stopListening();
    cancellation.cancel(new Error('The consumer left.'));
    await Promise.allSettled(begun);
    // A source that is still being waited for would hold the consumer up until it answers.
    const closed = source.return();
    if (isPulling) closed.catch(() => undefined);
    else await closed;
  }
}

/** What waiting for the bell resolves to, so that it cannot be taken for a result. */
const RUNG: unique symbol = Symbol('rung');

/** Wakes everyone who waits for something to change. */
function createBell(): { ring: () => void; next: () => Promise<typeof RUNG> } {
  let waiting: (() => void)[] = [];
  return {
    ring() {
      const woken = waiting;
      waiting = [];
      for (const wake of woken) wake();
    },
    next: () =>
      new Promise((resolve) => {
        waiting.push(() => resolve(RUNG));
      }),
  };
}
