#!/usr/bin/env bash
# sqlite-vec: a row with NaN is accepted, and wins every nearest-neighbour search if it came first.
#
# Expected: a NaN is refused at INSERT, or such a row is never nearer than another.
# Seen (sqlite-vec 0.1.9): INSERT takes it. Its distance is NULL, and its place depends on the order of
# insertion: inserted first it is the one nearest neighbour (k = 1) of every query; inserted last it is
# the last one.
#
# Needs Node with npm. Exit status 0 while it behaves so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund sqlite-vec@0.1.9 better-sqlite3@12.4.1 >/dev/null
cat >seen.mjs <<'JS'
import Database from 'better-sqlite3';
import { load } from 'sqlite-vec';

const bytes = (numbers) => Buffer.from(Float32Array.from(numbers).buffer);
const sound = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]];

/** Row ids (100 is the one with NaN) that win each of three searches for a row that is stored. */
function winners(rows) {
  const database = new Database(':memory:');
  load(database);
  database.exec('create virtual table rows using vec0(vector float[4])');
  const insert = database.prepare('insert into rows(rowid, vector) values (?, ?)');
  for (const [id, numbers] of rows) insert.run(BigInt(id), bytes(numbers));
  const search = database.prepare('select rowid from rows where vector match ? and k = 1');
  return sound.map((query) => search.get(bytes(query)).rowid);
}

const good = sound.map((numbers, index) => [index + 1, numbers]);
const first = winners([[100, [NaN, 0, 0, 0]], ...good]);
const last = winners([...good, [100, [NaN, 0, 0, 0]]]);
console.log('winners with NaN (row 100) inserted first:', first.join(), ' last:', last.join());
process.exit(first.join() === '100,100,100' && last.join() === '1,2,3' ? 0 : 1);
JS
node seen.mjs && echo 'as recorded' || { echo CHANGED; exit 1; }
