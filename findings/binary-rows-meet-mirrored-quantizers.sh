#!/usr/bin/env bash
# Packed signs: rows as models send them, searched by a query that sqlite-vec or faiss packs itself, find noise.
#
# Expected: one bit for each sign has one layout, so a column of packed rows that came from numpy, sentence-transformers or
# an API's `ubinary` may be searched with a query that the store makes out of floats. Lengths and types agree.
# Seen (sqlite-vec 0.1.9, faiss-cpu 1.15.1, numpy 2.2.6): `numpy.packbits` puts the first number into a byte's
# highest bit; `vec_quantize_binary` and faiss's `real_to_binary` put it into the lowest. Nothing refuses the
# mixture. Of 1,000 searches for a row of 256 numbers by its own floats, 10 and 11 find it, where all do if
# one side packs both; the distance of a row to itself is 128 of 256, as that of two strangers.
# faiss also disagrees with itself: an exact 0 is a 0 for `real_to_binary`, as for the others, and a 1 for `fvec2bitvec`.
#
# sqlite-vec's guide shows such a byte in an example without a word on the order; faiss's page on binary indexes has none.
# Needs Python 3.11 and pip. Exit status 0 while it behaves so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3.11 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
  numpy==2.2.6 faiss-cpu==1.15.1 sqlite-vec==0.1.9 apsw==3.54.1.0
cat >seen.py <<'PYTHON'
import sys

import apsw
import faiss
import numpy
import sqlite_vec

COUNT, WIDTH = 1000, 256
database = apsw.Connection(":memory:")
database.enable_load_extension(True)
database.load_extension(sqlite_vec.loadable_path())


def by_numpy(rows):
    return numpy.packbits(rows > 0, axis=1)


def by_sqlite_vec(rows):
    packed = [database.execute("select vec_quantize_binary(?)", (row.tobytes(),)).fetchone()[0] for row in rows]
    return numpy.frombuffer(b"".join(packed), numpy.uint8).reshape(len(rows), -1)


def by_faiss(rows):
    packed = numpy.empty((len(rows), rows.shape[1] // 8), numpy.uint8)
    faiss.real_to_binary(rows.size, faiss.swig_ptr(rows), faiss.swig_ptr(packed))
    return packed


def found_by_sqlite_vec(rows, queries):
    database.execute("drop table if exists stored")
    database.execute(f"create virtual table stored using vec0(row bit[{WIDTH}])")
    database.executemany("insert into stored(rowid, row) values (?, vec_bit(?))",
                         [(place, row.tobytes()) for place, row in enumerate(rows)])
    search = "select rowid from stored where row match vec_bit(?) and k = 1"
    return sum(database.execute(search, (query.tobytes(),)).fetchone()[0] == place
               for place, query in enumerate(queries))


def found_by_faiss(rows, queries):
    index = faiss.IndexBinaryFlat(WIDTH)
    index.add(rows)
    return int((index.search(queries, 1)[1][:, 0] == numpy.arange(COUNT)).sum())


edges = numpy.array([[1, 0, -1, -1, -1, -1, -1, -1]], numpy.float32)
other = numpy.empty(1, numpy.uint8)
faiss.fvec2bitvec(faiss.swig_ptr(edges), faiss.swig_ptr(other), 8)
first = [int(pack(edges)[0, 0]) for pack in (by_numpy, by_sqlite_vec, by_faiss)] + [int(other[0])]
print("1, 0 and six of -1 by numpy, sqlite-vec, real_to_binary, fvec2bitvec:", *[f"{byte:08b}" for byte in first])

floats = numpy.random.default_rng(7).normal(size=(COUNT, WIDTH)).astype(numpy.float32)
counts = []
for name, pack, found in (("sqlite-vec", by_sqlite_vec, found_by_sqlite_vec), ("faiss", by_faiss, found_by_faiss)):
    same, mixed = found(pack(floats), pack(floats)), found(by_numpy(floats), pack(floats))
    print(f"{name}: {same} of {COUNT} rows found by their own floats; {mixed} where numpy packed the rows")
    counts += [same, mixed]
mirrored = bool((by_sqlite_vec(floats) == numpy.packbits(floats > 0, axis=1, bitorder="little")).all())
strange = numpy.bitwise_count(by_numpy(floats) ^ by_sqlite_vec(floats)).sum(axis=1).mean()
print(f"mean distance of a row to itself: {strange:.1f} of {WIDTH}")
as_seen = (first == [0b10000000, 0b00000001, 0b00000001, 0b00000011] and mirrored and 100 < strange < 156
           and counts[0] == counts[2] == COUNT and counts[1] < 50 and counts[3] < 50)
print("as seen" if as_seen else "CHANGED")
sys.exit(0 if as_seen else 1)
PYTHON
venv/bin/python seen.py
