#!/usr/bin/env bash
# Ray Data: which columns a Parquet file has depends on whether the arrays of its block happen to have one shape.
#
# Expected: a job whose function returns one array of [tokens, dimensions] for each text writes files of one schema,
# which whoever reads Parquet opens as one table.
# Seen (ray 2.60.0 with pyarrow 21.0.0): a block whose arrays all have the same number of tokens becomes a flat list, with
# the shape in the Arrow type's metadata alone; a block with two numbers becomes a struct of `data` and `shape`. So the
# schema depends on lengths of texts, on batches and on blocks: a job that was tried on a few files may write, in its
# thousandth, one that does not fit. Ray reads both back as they were. pyarrow 21.0.0, polars 2.1.0 and DuckDB 2.0.1
# open each file by itself, and refuse the folder; in the files of the first kind they see no shape.
# Ray's threads on ragged arrays are about Ray reading its own files. Lists of lists in place of arrays have one schema.
#
# Needs Python 3.11 and pip. Exit status 0 while it behaves so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3.11 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
  'ray[data]==2.60.0' pyarrow==21.0.0 numpy==2.2.6 pandas==2.3.3 polars==2.1.0 duckdb==2.0.1
cat >write.py <<'PYTHON'
import logging

import numpy
import ray

ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
logging.getLogger("ray.data").setLevel(logging.ERROR)
ray.data.DataContext.get_current().enable_progress_bars = False


def token_count(text):
    return 3 if text < 4 else 2 + text % 3


def arrays(batch):
    column = numpy.empty(len(batch["id"]), object)
    for place, text in enumerate(batch["id"]):
        column[place] = numpy.full((token_count(text), 4), text, numpy.float32)
    return {"id": batch["id"], "vectors": column}


def lists(batch):
    return {"id": batch["id"], "vectors": [one.tolist() for one in arrays(batch)["vectors"]]}


texts = ray.data.range(8, override_num_blocks=2)
texts.map_batches(arrays, batch_size=4).write_parquet("arrays")
texts.map_batches(lists, batch_size=4).write_parquet("lists")
rows = ray.data.read_parquet("arrays").take_all()
print("read by Ray:", sorted({row["vectors"].shape for row in rows}))
assert all(row["vectors"].shape == (token_count(row["id"]), 4) for row in rows) and len(rows) == 8
PYTHON
cat >read.py <<'PYTHON'
import sys
from pathlib import Path

import duckdb
import polars
import pyarrow.parquet

READERS = {
    "pyarrow": lambda path: pyarrow.parquet.read_table(path).num_rows,
    "polars": lambda path: polars.read_parquet(path if path.suffix else path / "*.parquet").height,
    "DuckDB": lambda path: len(duckdb.sql(f"from '{path if path.suffix else path / '*.parquet'}'").fetchall()),
}
folder = Path("arrays")
files = sorted(folder.glob("*.parquet"))
kinds = []
for file in files:
    kind = pyarrow.parquet.read_schema(file).field("vectors").type
    kinds.append("struct" if pyarrow.types.is_struct(kind) else "list" if "list" in str(kind) else str(kind))
    print(f"a file of arrays has {kind}")
as_seen = sorted(kinds) == ["list", "struct"]
for name, read in READERS.items():
    singly = [read(file) for file in files]
    try:
        read(folder)
        told = "reads"
    except Exception as error:
        told = f"refuses ({type(error).__name__})"
    as_seen = as_seen and singly == [4, 4] and told != "reads" and read(Path("lists")) == 8
    print(f"{name}: rows of single files {singly}; it {told} the folder of arrays, and reads the one of lists")
print("as seen" if as_seen else "CHANGED")
sys.exit(0 if as_seen else 1)
PYTHON
RAY_USAGE_STATS_ENABLED=0 venv/bin/python write.py 2>write.log || { tail -5 write.log; echo CHANGED; exit 1; }
venv/bin/python read.py
