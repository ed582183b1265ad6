import { expect, test } from 'bun:test';
import { ServerError } from '../base/errors.ts';
import { seededRandom } from '../testing/seeded-random.ts';
import { deterministicEmbedding } from '../testing/triton/deterministic-embedding.ts';
import { headSet } from '../vectors/output.ts';
import { RowCache } from './row-cache.ts';

const DENSE = headSet(['dense']);
const BOTH = headSet(['dense', 'sparse']);

const idsOf = (text: number) => Int32Array.of(0, 10 + text, 2);
const outputOf = (ids: Int32Array) => ({ dense: deterministicEmbedding([...ids], 16) });

/** Runs a request as the journey does. @returns what was computed, and what each text got. */
function run(cache: RowCache, texts: readonly Int32Array[], modelStarts = 1) {
  const lookup = cache.look(texts, DENSE, modelStarts);
  const outcomes = lookup.join({ outcomes: lookup.missing.map(outputOf) }, true);
  return { computed: lookup.missing.length, outcomes };
}

/**
 * Caught, planted: hashes compared and not ids; rows kept as views of their batch; a row of the
 * model before kept after a change; the place of a text in its request lost where others are known.
 */
test('each text gets the bits of its own row, whatever is known, repeated or pushed out', () => {
  const random = seededRandom(3);
  const cache = new RowCache(64 * 1024);
  let computedCount = 0;
  for (let round = 0; round < 2000; round++) {
    // Few texts come often, and many seldom.
    const texts = Array.from({ length: random.between(1, 9) }, () =>
      idsOf(Math.floor(400 ** (random.below(1000) / 1000)) - 1),
    );
    const { computed, outcomes } = run(cache, texts);
    computedCount += computed;
    for (const [at, ids] of texts.entries()) expect(outcomes[at]).toEqual(outputOf(ids));
    expect(cache.bytes).toBeLessThanOrEqual(64 * 1024);
  }
  const { hit, miss } = cache.counts;
  expect(miss).toBe(computedCount);
  expect(hit).toBeGreaterThan(miss);
});

test("two texts of one hash never get each other's rows", () => {
  const [first, second] = withOneHash();
  const cache = new RowCache(1 << 20);
  for (const texts of [[first, second], [first], [first], [second], [second], [second, first]]) {
    expect(run(cache, texts).outcomes).toEqual(texts.map(outputOf));
  }
});

/** Among some 100,000 texts two have one hash of 32 bits: the birthday paradox. */
function withOneHash(): readonly [Int32Array, Int32Array] {
  const textOf = new Map<number, Int32Array>();
  const random = seededRandom(5);
  for (let text = 0; text < 1_000_000; text++) {
    const ids = Int32Array.of(0, random.below(250_000), random.below(250_000), 7, 9, 2);
    const hash = Bun.hash.xxHash32(new Uint8Array(ids.buffer), 1);
    const earlier = textOf.get(hash);
    if (earlier !== undefined) return [earlier, ids];
    textOf.set(hash, ids);
  }
  throw new Error('a million texts have a million hashes');
}

test('a row is kept from the second time on, as a copy', () => {
  const cache = new RowCache(1 << 20);
  expect(run(cache, [idsOf(1)]).computed).toBe(1);
  expect(cache.bytes).toBe(0);
  const lookup = cache.look([idsOf(1)], DENSE, 1);
  const batch = Float32Array.from({ length: 32 }, (_, at) => at);
  lookup.join({ outcomes: [{ dense: batch.subarray(16) }] }, true);
  batch.fill(0);
  const [again] = cache.look([idsOf(1)], DENSE, 1).join({ outcomes: [] }, true);
  expect(again).toEqual({ dense: Float32Array.from({ length: 16 }, (_, at) => 16 + at) });
});

test('a text that stands twice in a request is computed once', () => {
  const { computed, outcomes } = run(new RowCache(1 << 20), [idsOf(1), idsOf(2), idsOf(1)]);
  expect(computed).toBe(2);
  expect(outcomes).toEqual([idsOf(1), idsOf(2), idsOf(1)].map(outputOf));
});

test('other heads, another model, an error and a stand-in give nothing to keep', () => {
  const cache = new RowCache(1 << 20);
  const texts = [idsOf(1)];
  for (const isKept of [false, false]) {
    const lookup = cache.look(texts, DENSE, 1);
    expect(lookup.missing.length).toBe(1);
    lookup.join({ outcomes: [outputOf(texts[0])] }, isKept);
  }
  const error = new ServerError('EMB_BACKEND_FAILED', 'It failed.');
  for (const _ of [1, 2]) {
    expect(cache.look(texts, DENSE, 1).join({ outcomes: [error] }, true)).toEqual([error]);
  }
  expect(cache.bytes).toBe(0);
  run(cache, texts);
  run(cache, texts);
  expect(run(cache, texts).computed).toBe(0);
  expect(cache.look(texts, BOTH, 1).missing.length).toBe(1);
  // Computed by the model before, and joined after another has come.
  const late = cache.look([idsOf(2)], DENSE, 1);
  expect(run(cache, texts, 2).computed).toBe(1);
  late.join({ outcomes: [outputOf(idsOf(2))] }, true);
  late.join({ outcomes: [outputOf(idsOf(2))] }, true);
  expect(run(cache, [idsOf(2)], 2).computed).toBe(1);
});
