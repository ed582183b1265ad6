import { expect, test } from 'bun:test';
import { ServerError } from '../base/errors.ts';
import { textsOfOneKey } from '../testing/batcher-harness.ts';
import { seededRandom } from '../testing/seeded-random.ts';
import { deterministicEmbedding } from '../testing/triton/deterministic-embedding.ts';
import { type Head, headSet } from '../vectors/output.ts';
import { NOT_SENT, PendingRequest, type PendingText } from './pending-request.ts';
import { BatchQueue } from './queue.ts';
import { keyOf, RowCache, TextsInFlight } from './row-cache.ts';

const DENSE = headSet(['dense']);
const BOTH = headSet(['dense', 'sparse']);

const idsOf = (text: number) => Int32Array.of(0, 10 + text, 2);
const outputOf = (ids: Int32Array) => ({ dense: deterministicEmbedding([...ids], 16) });
const textOf = (ids: Int32Array, heads: readonly Head[] = DENSE) => ({
  key: keyOf(ids, heads),
  ids,
  heads,
});

/** Looks a text up, and computes it where it is not known. @returns its rows. */
function ask(cache: RowCache, ids: Int32Array, hasComeAgain = false) {
  const known = cache.find(textOf(ids));
  if (known === undefined) cache.offer(textOf(ids), outputOf(ids), hasComeAgain);
  return known ?? outputOf(ids);
}

/** Caught, planted: keys compared and not ids; bytes of what is pushed out still counted. */
test('each text gets the bits of its own row, whatever is known or pushed out', () => {
  const random = seededRandom(3);
  const cache = new RowCache(64 * 1024);
  for (let round = 0; round < 10_000; round++) {
    // Few texts come often, and many seldom.
    const ids = idsOf(Math.floor(400 ** (random.below(1000) / 1000)) - 1);
    expect(ask(cache, ids)).toEqual(outputOf(ids));
    expect(cache.bytes).toBeLessThanOrEqual(64 * 1024);
  }
  const { hit, miss } = cache.counts;
  expect(hit + miss).toBe(10_000);
  expect(hit).toBeGreaterThan(miss);
});

test("two texts of one key never get each other's rows", () => {
  const [first, second] = textsOfOneKey();
  const cache = new RowCache(1 << 20);
  for (const ids of [first, second, first, first, second, second, second, first]) {
    expect(ask(cache, ids)).toEqual(outputOf(ids));
  }
});

test('few texts share a key', () => {
  const random = seededRandom(7);
  const [queries, neighbours] = [new Set<number>(), new Set<number>()];
  for (let text = 0; text < 100_000; text++) {
    const ids = Int32Array.from({ length: 8 }, () => random.below(250_000));
    queries.add(keyOf(ids, DENSE));
    neighbours.add(keyOf(Int32Array.of(0, text, 2), DENSE));
  }
  // Of truly random keys one pair in expectation.
  expect(queries.size).toBeGreaterThan(99_980);
  expect(neighbours.size).toBeGreaterThan(99_980);
});

test('a row is kept from the second time on, or at once when others wait for it, as a copy', () => {
  const cache = new RowCache(1 << 20);
  ask(cache, idsOf(1));
  expect(cache.bytes).toBe(0);
  const batch = Float32Array.from({ length: 32 }, (_, at) => at);
  cache.offer(textOf(idsOf(1)), { dense: batch.subarray(16) }, false);
  batch.fill(0);
  const copy = Float32Array.from({ length: 16 }, (_, at) => 16 + at);
  expect(cache.find(textOf(idsOf(1)))).toEqual({ dense: copy });
  ask(cache, idsOf(2), true);
  expect(cache.find(textOf(idsOf(2)))).toEqual(outputOf(idsOf(2)));
});

test('other heads are another text, and nothing is known after another model may have come', () => {
  const cache = new RowCache(1 << 20);
  ask(cache, idsOf(1), true);
  expect(cache.find(textOf(idsOf(1), BOTH))).toBeUndefined();
  expect(cache.find(textOf(idsOf(1)))).toBeDefined();
  cache.forget();
  expect(cache.bytes).toBe(0);
  expect(cache.find(textOf(idsOf(1)))).toBeUndefined();
});

/** Caught, planted: one that left kept by the text that it went along with, or by its heir. */
test('a text that many go along with holds none that has left', () => {
  const queue = new BatchQueue<PendingText>();
  const inFlight = new TextsInFlight({ backend: {}, queueOf: () => queue, cache: undefined });
  const come = (): PendingText => {
    const nobody = (): void => undefined;
    const request = new PendingRequest({ textCount: 1, batchTextsMax: 1 }, nobody, nobody);
    const text = {
      ...textOf(idsOf(1)),
      ...{ request, index: 0, paddedLength: 3, arrivedMs: 0, sentMs: NOT_SENT, dueMs: 0 },
      ...{
        sequence: 0,
        isAlone: false,
        along: undefined,
        first: undefined,
        sharesPlace: undefined,
        traces: undefined,
      },
    };
    if (!inFlight.join(text)) queue.push(text);
    return text;
  };
  const leave = (text: PendingText): void => {
    text.request.abandon(new ServerError('EMB_REQUEST_ABORTED', 'gone'));
    inFlight.leave(text);
  };
  const first = come();
  const heir = come();
  for (let round = 0; round < 10; round++) leave(come());
  expect(first.along?.size).toBe(1);
  const others = Array.from({ length: 10 }, come);
  leave(first);
  expect(heir.along?.size).toBe(10);
  for (const text of others) leave(text);
  expect(heir.along?.size).toBe(0);
});

test('multi-vectors as halves are kept as such, and apart from those of float32', () => {
  const ids = idsOf(1);
  const [whole, halved] = [false, true].map((halves) => headSet(['multi_vector'], { halves }));
  const cache = new RowCache(1 << 20);
  const rows = Float32Array.of(0.5, 0.25, 0.125, 1);
  const halves = new Float16Array(rows);
  cache.offer(textOf(ids, halved), { multi_vector: rows, halves }, true);
  expect(cache.find(textOf(ids, halved))).toEqual({ halves: new Float16Array(rows) });
  expect(cache.find(textOf(ids, whole))).toBeUndefined();
  cache.offer(textOf(ids, whole), { multi_vector: rows }, true);
  expect(cache.find(textOf(ids, whole))).toEqual({ multi_vector: rows.slice() });
  expect(cache.find(textOf(ids, halved))).toEqual({ halves: new Float16Array(rows) });
});
