"""Searches integer and binary rows, as the server gave them, in a vector store.

usage: search_rows.py STORE FOLDER DIMENSION COUNT

The folder has `rows` and `queries`: the bytes of raw replies. Prints the ids and distances of the
nearest rows of each query, as the store gives them.
"""

import json
import sys
from pathlib import Path

import numpy

store, folder, dimension, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])


def read(name, kind, width):
    return numpy.frombuffer((folder / name).read_bytes(), dtype=kind).reshape(-1, width)


def faiss_binary():
    import faiss

    rows, queries = (read(name, "uint8", dimension // 8) for name in ("rows", "queries"))
    index = faiss.IndexBinaryFlat(dimension)
    index.add(rows)
    distances, ids = index.search(queries, count)
    return ids, distances


def usearch(kind, metric, numbers, width):
    from usearch.index import Index

    rows, queries = (read(name, numbers, width) for name in ("rows", "queries"))
    index = Index(ndim=dimension, metric=metric, dtype=kind)
    index.add(numpy.arange(len(rows)), rows)
    found = index.search(queries, count, exact=True)
    return found.keys, found.distances


STORES = {
    "faiss-binary": faiss_binary,
    "usearch-b1": lambda: usearch("b1", "hamming", "uint8", dimension // 8),
    "usearch-i8": lambda: usearch("i8", "cos", "int8", dimension),
}

ids, distances = STORES[store]()
print(json.dumps({"ids": ids.tolist(), "distances": distances.tolist()}))
