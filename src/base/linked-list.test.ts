import { edenGC, fullGC, heapStats } from 'bun:jsc';
import { expect, test } from 'bun:test';
import { type Link, LinkedList } from './linked-list.ts';

test('keeps the order, whoever leaves', () => {
  const list = new LinkedList<string>();
  const links = ['a', 'b', 'c', 'd'].map((item) => list.add(item));
  expect([...list]).toEqual(['a', 'b', 'c', 'd']);
  for (const [at, left] of [
    [1, ['a', 'c', 'd']],
    [3, ['a', 'c']],
    [0, ['c']],
    [2, []],
  ] as const) {
    expect(list.remove(links[at])).toBe(true);
    expect(list.remove(links[at])).toBe(false);
    expect([[...list], list.size, list.first?.item]).toEqual([[...left], left.length, left[0]]);
  }
  list.add('e');
  expect([...list]).toEqual(['e']);
});

test('the item at hand may be removed while the list is walked', () => {
  const list = new LinkedList<number>();
  const links = new Map([1, 2, 3].map((item) => [item, list.add(item)]));
  const seen: number[] = [];
  for (const item of list) {
    seen.push(item);
    list.remove(links.get(item) as Link<number>);
  }
  expect([seen, list.size]).toEqual([[1, 2, 3], 0]);
});

/** Caught: a Set in its place, of which more than half was left. */
test('what has passed through it is freed by collections of young objects', () => {
  const count = (): number => heapStats().objectTypeCounts.Int32Array ?? 0;
  const list = new LinkedList<Int32Array>();
  fullGC();
  const before = count();
  for (let at = 0; at < 50_000; at++) {
    list.add(new Int32Array(16));
    if (list.size > 100) list.remove(list.first as Link<Int32Array>);
    if (at % 5000 === 4999) edenGC();
  }
  expect(count() - before).toBeLessThan(10_000);
});
