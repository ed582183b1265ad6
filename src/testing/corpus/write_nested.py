"""Writes Parquet files as pyarrow does, one for each compression: write_nested.py FOLDER"""

import sys

import pyarrow
import pyarrow.parquet

rows = [
    {"key": 2**53 + index, "body": {"parts": {"text": f"статья {index}"}}, "tags": ["а", "б"][: index % 3]}
    for index in range(10)
]
table = pyarrow.Table.from_pylist(rows)
for compression in ["none", "snappy", "gzip", "zstd", "lz4", "brotli"]:
    path = f"{sys.argv[1]}/nested-{compression}.parquet"
    pyarrow.parquet.write_table(table, path, compression=compression, row_group_size=4)
