import type { CallScope } from './call-scope.ts';
import { onAbort } from './on-abort.ts';

/**
 * Runs `work` over a source that may have no end, some items at a time, and yields the results in
 * the source's order.
 *
 * Two things bound what it holds. At most `concurrency` items are worked on, and at most
 * `windowMax` are begun and not yet taken: a consumer that is slow, or a first item that is, stops
 * the pulling. In between, the pump works on its own, so the next results come in while the
 * consumer is busy with the last ones.
 *
 * The first failure, of the source or of any work, ends the scope; that reason is thrown at once
 * and not in its turn. When the consumer leaves early, the scope ends too. Nothing of `work` is
 * still running once the generator has returned.
 */
export async function* mapInOrder<Item, Result>(options: {
  source: AsyncGenerator<Item, void, undefined>;
  concurrency: number;
  windowMax: number;
  scope: CallScope;
  work: (item: Item) => Promise<Result>;
}): AsyncGenerator<Result, void, undefined> {
  const { source, concurrency, windowMax, scope, work } = options;
  const { signal } = scope;
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
    // Also marks the promise as handled: when the scope has ended, nobody may come to take it.
    result.catch(scope.end);
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
  pump().catch(scope.end);
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
    scope.end(new Error('The consumer left.'));
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
