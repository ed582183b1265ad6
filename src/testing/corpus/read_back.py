"""Reads a corpus' output as people do, and prints it as JSON: vectors as base64 of their bytes.

usage: read_back.py READER FOLDER
"""

import base64
import glob
import json
import sys

import numpy


def packed(value, dtype):
    if value is None:
        return None
    return base64.b64encode(numpy.asarray(value, dtype=dtype).tobytes()).decode()


def row_of(record):
    """One row of any reader: a dict of plain Python values."""
    dtype = "float32"
    multi = record.get("multi_vector")
    return {
        "id": record["id"],
        "year": record.get("year"),
        "error": record.get("error"),
        "token_count": record.get("token_count"),
        "truncated": record.get("truncated"),
        "embedding": packed(record.get("embedding"), dtype),
        "sparse_indices": packed(record.get("sparse_indices"), "int32"),
        "sparse_values": packed(record.get("sparse_values"), dtype),
        "multi_vector": None if multi is None else [packed(token, dtype) for token in multi],
    }


def by_pyarrow(folder):
    import pyarrow.dataset

    table = pyarrow.dataset.dataset(folder, format="parquet").to_table()
    kinds = {field.name: str(field.type) for field in table.schema}
    return kinds, table.to_pylist()


def by_polars(folder):
    import polars

    frame = polars.read_parquet(f"{folder}/*.parquet")
    return {name: str(kind) for name, kind in frame.schema.items()}, frame.to_dicts()


def by_duckdb(folder):
    import duckdb

    result = duckdb.sql(f"select * from '{folder}/*.parquet'")
    kinds = {name: str(kind) for name, kind in zip(result.columns, result.types)}
    return kinds, [dict(zip(result.columns, row)) for row in result.fetchall()]


def by_numpy(folder):
    rows = []
    kinds = {}
    for path in sorted(glob.glob(f"{folder}/*.npy")):
        matrix = numpy.load(path, mmap_mode="r")
        kinds["embedding"] = str(matrix.dtype)
        with open(path.replace(".npy", ".ids.jsonl"), encoding="utf-8") as ids:
            records = [json.loads(line) for line in ids]
        assert len(records) == len(matrix), (len(records), matrix.shape)
        rows += [{**record, "embedding": row} for record, row in zip(records, matrix)]
    return kinds, rows


READERS = {"pyarrow": by_pyarrow, "polars": by_polars, "duckdb": by_duckdb, "numpy": by_numpy}

kinds, rows = READERS[sys.argv[1]](sys.argv[2])
print(json.dumps({"kinds": kinds, "rows": [row_of(row) for row in rows]}, default=str))
