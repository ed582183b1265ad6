#!/usr/bin/env bash
# Bun: what has passed through a Set or a Map stays in memory until a full collection.
#
# Expected: an object that was removed from a Set, and that nothing else refers to, is freed by the next
# collection of young objects, as it is where an array held it.
# Seen (Bun 1.4.5): of 200,000 objects that were in a Set or a Map, at most 100 of them at once, more than half are
# still there after eden collections alone; where an array held them, 3 %. A full collection frees all. When the
# table of the collection is made anew, which happens after so many additions whatever its size, the old table
# refers to the new one. A table that has grown old is not freed by an eden collection even where it is dead, so
# the new one grows old with all that is in it, and so on. A server that has a Set of its requests under way keeps
# most of each, and its collections take longer.
#
# Needs Node with npm. Exit status 0 while it behaves so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund bun@1.4.5 >/dev/null
cat >seen.mjs <<'JS'
import { edenGC, fullGC, heapStats } from 'bun:jsc';

const PASSED = 200_000;
const AT_ONCE = 100;
const count = () => heapStats().objectTypeCounts.Int32Array ?? 0;
const set = new Set();
const map = new Map();
const array = new Array(AT_ONCE);
const kinds = {
  set: (at, item) => {
    const last = array[at % AT_ONCE];
    array[at % AT_ONCE] = item;
    set.add(item);
    set.delete(last);
  },
  map: (at, item) => {
    map.set(at, item);
    map.delete(at - AT_ONCE);
  },
  array: (at, item) => {
    array[at % AT_ONCE] = item;
  },
};
const left = {};
for (const [kind, pass] of Object.entries(kinds)) {
  array.fill(undefined);
  fullGC();
  const before = count();
  for (let at = 0; at < PASSED; at++) {
    pass(at, new Int32Array(16));
    if (at % 5000 === 4999) edenGC();
  }
  left[kind] = Math.round((100 * (count() - before)) / PASSED);
  fullGC();
  left[`${kind}, full`] = Math.round((100 * (count() - before)) / PASSED);
}
console.log(JSON.stringify({ bun: Bun.version, percentLeft: left }));
const isAsSeen = left.set > 30 && left.map > 30 && left.array < 10 && left['set, full'] < 2;
console.log(isAsSeen ? 'as seen' : 'CHANGED');
process.exit(isAsSeen ? 0 : 1);
JS
npx bun seen.mjs
