import { expect, test } from 'bun:test';
import { createRandom } from '../../testing/tokenizer-texts.ts';
import { createTokenIds, createWordCache, reserveTokenIds } from './unigram-search.ts';

test('what it remembers is what it was told, beside a model that forgets nothing', () => {
  const random = createRandom(3);
  const cache = createWordCache();
  const told = new Map<string, number[]>();
  const out = createTokenIds(4);
  const codes = new Uint16Array(64);
  let hits = 0;
  for (let step = 0; step < 60_000; step++) {
    // Few different codes, so that words share hashes and beginnings.
    const count = 1 + Math.floor(random() * 22);
    for (let index = 1; index < count; index++) codes[index] = Math.floor(random() ** 4 * 5);
    const key = codes.subarray(1, count).join();
    out.length = Math.floor(random() * 3);
    const from = out.length;
    if (cache.append(codes, count, out)) {
      hits++;
      expect([...out.ids.subarray(from, out.length)]).toEqual(told.get(key) ?? []);
    } else {
      const ids = Array.from({ length: 1 + Math.floor(random() * 12) }, () => step);
      reserveTokenIds(out, ids.length);
      out.ids.set(ids, from);
      out.length = from + ids.length;
      cache.remember(codes, count, out, from);
      told.set(key, ids);
    }
  }
  expect(hits).toBeGreaterThan(3_000);
});
