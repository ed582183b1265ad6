#!/usr/bin/env bash
# LanceDB for Node: a vector of the wrong length is cut or filled with nulls, without an error.
#
# Expected: a table whose column is a fixed-size list of four numbers refuses a row with two or six.
# Seen (@lancedb/lancedb 0.39.0 with apache-arrow 18.1.0): `add` accepts both. Six numbers lose their last
# two; two numbers get two nulls. Whoever mixes up two models sees no error, only bad neighbours.
#
# Needs Node with npm. Exit status 0 while it behaves so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund @lancedb/lancedb@0.39.0 apache-arrow@18.1.0 >/dev/null
cat >seen.mjs <<'JS'
import { connect } from '@lancedb/lancedb';

const database = await connect('./database');
const table = await database.createTable('rows', [{ id: 4, vector: [1, 2, 3, 4] }]);
const seen = {};
for (const vector of [[9, 8], [1, 2, 3, 4, 5, 6]]) {
  try {
    await table.add([{ id: vector.length, vector }]);
  } catch (error) {
    seen[vector.length] = `refused: ${error.message}`;
  }
}
for (const row of await table.query().toArray()) seen[row.id] ??= JSON.stringify([...row.vector]);
for (const [length, stored] of Object.entries(seen)) console.log(`${length} numbers: ${stored}`);
process.exit(seen[2] === '[9,8,null,null]' && seen[6] === '[1,2,3,4]' ? 0 : 1);
JS
node seen.mjs 2>/dev/null && echo 'as recorded' || { echo CHANGED; exit 1; }
