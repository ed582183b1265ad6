"""Holds the chunks of an output against the texts they were cut of, by plain slices.

usage: read_chunks.py READER FOLDER SOURCE.jsonl
"""

import glob
import json
import sys


def by_pyarrow(folder):
    import pyarrow.dataset

    table = pyarrow.dataset.dataset(folder, format="parquet").to_table()
    return {field.name: str(field.type) for field in table.schema}, table.to_pylist()


def by_polars(folder):
    import polars

    frame = polars.read_parquet(f"{folder}/*.parquet")
    return {name: str(kind) for name, kind in frame.schema.items()}, frame.to_dicts()


def by_duckdb(folder):
    import duckdb

    result = duckdb.sql(f"select * from '{folder}/*.parquet'")
    kinds = {name: str(kind) for name, kind in zip(result.columns, result.types)}
    return kinds, [dict(zip(result.columns, row)) for row in result.fetchall()]


def by_lines(ending):
    def read(folder):
        paths = sorted(glob.glob(f"{folder}/part-*{ending}"))
        # By line feeds alone: texts have other ends of lines in them.
        lines = [line for path in paths for line in open(path, encoding="utf-8", newline="\n")]
        return {}, [json.loads(line) for line in lines]

    return read


READERS = {
    "pyarrow": by_pyarrow,
    "polars": by_polars,
    "duckdb": by_duckdb,
    "jsonl": by_lines(".jsonl"),
    "npy": by_lines(".ids.jsonl"),
}

kinds, rows = READERS[sys.argv[1]](sys.argv[2])
with open(sys.argv[3], encoding="utf-8", newline="\n") as lines:
    records = [json.loads(line) for line in lines]
faults = []
at = 0
for record in records:
    text, reached, index = record["text"], 0, 0
    while at < len(rows) and rows[at]["id"] == record["id"]:
        row = rows[at]
        at += 1
        start, end = row["chunk_start"], row["chunk_end"]
        if row["chunk"] != index or row["court"] != record["court"]:
            faults.append(["order", row["id"], index])
        if text[start:end] != row["chunk_text"]:
            faults.append(["text", row["id"], index])
        if start > reached or (index > 0 and end <= reached):
            faults.append(["cover", row["id"], index])
        reached, index = end, index + 1
    if reached != len(text):
        faults.append(["end", record["id"], reached])
if at != len(rows):
    faults.append(["rows", at, len(rows)])
shown = {name: kind for name, kind in kinds.items() if name.startswith("chunk")}
print(json.dumps({"kinds": shown, "rows": len(rows), "faults": faults[:10]}))
