import { paddedLengthOf, planBatch } from '../../../src/batcher/plan.ts';
import { BatchQueue, type QueuedText } from '../../../src/batcher/queue.ts';
import { seededRandom } from '../../../src/testing/seeded-random.ts';
import { headSet } from '../../../src/vectors/output.ts';
import type { MicroGroup } from './micro-task.ts';

/** The defaults of the Triton backend. */
const LIMITS = {
  batchTextsMax: 32,
  batchTokensMax: 16_384,
  multiVectorTokensMax: 16_384,
  launchTokens: 480,
  slotCount: 2,
  isOneByOne: false,
};

/** A queue under load: as many texts as a few dozen clients leave waiting. */
const TEXT_COUNT = 512;

/** Planning a batch out of many buckets, and a text's whole way through the queue. */
export function batchingTasks(): MicroGroup {
  const random = seededRandom(1);
  const heads = headSet(['dense']);
  const request = { isSettled: false, batchTextsMax: Number.POSITIVE_INFINITY, waitingCount: 0 };
  const texts: readonly QueuedText[] = Array.from({ length: TEXT_COUNT }, (_, sequence) => {
    // Four of five are queries; the others reach to a page.
    const tokenCount = random.below(5) > 0 ? random.between(4, 30) : random.between(64, 512);
    const paddedLength = paddedLengthOf(tokenCount);
    const dueMs = random.below(1000);
    return { request, heads, paddedLength, sequence, dueMs, isAlone: false };
  });
  const buckets = Array.from({ length: 30 }, (_, index) => ({
    paddedLength: paddedLengthOf(8 + index * 16),
    heads,
    textCount: random.between(1, 24),
    dueMs: random.below(1000),
  }));

  function throughQueue(): number {
    const waiting = new BatchQueue<QueuedText>();
    for (const text of texts) waiting.push(text);
    let batchCount = 0;
    for (; waiting.textCount > 0; batchCount++) waiting.draw(LIMITS, 0);
    return batchCount;
  }

  function planMany(): number {
    let drawCount = 0;
    for (let round = 0; round < 100; round++) drawCount += planBatch(buckets, LIMITS).draws.length;
    return drawCount;
  }

  return {
    tasks: [
      {
        group: 'batching',
        name: 'one plan, 30 buckets',
        per: 'plan',
        operationCount: 100,
        run: planMany,
      },
      {
        group: 'batching',
        name: `in and out of a queue of ${TEXT_COUNT}`,
        per: 'text',
        operationCount: TEXT_COUNT,
        run: throughQueue,
      },
    ],
    close: () => undefined,
  };
}
