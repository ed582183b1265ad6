#!/usr/bin/env bash
# ormsgpack: a numpy array in network byte order is packed as other numbers, without an error.
#
# Expected: rows as PostgreSQL's binary COPY or HDF5 hand them over (numpy dtype '>f4') are packed as their
# values, or refused: orjson, from which ormsgpack stems, raises TypeError for them.
# Seen (ormsgpack 1.13.1, orjson 3.13.0, numpy 2.2.6): OPT_SERIALIZE_NUMPY takes floats and integers of 16,
# 32 and 64 bits in big-endian order for native ones: 0.5 becomes 8.8e-44 and 1 becomes 16777216. Finite
# vectors of the right length go out, so only a search finds out. A single numpy number is right.
#
# Needs Python 3 with venv. Exit status 0 while it behaves so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check ormsgpack==1.13.1 orjson==3.13.0 numpy==2.2.6
venv/bin/python - <<'PY'
import sys

import numpy as np
import orjson
import ormsgpack


def packed(row):
    return ormsgpack.unpackb(ormsgpack.packb(row, option=ormsgpack.OPT_SERIALIZE_NUMPY))


seen = []
for kind in ('f2', 'f4', 'f8', 'i2', 'i4', 'i8', 'u2', 'u4', 'u8'):
    native = np.array([0.5, 1, 1.5, 2] if kind[0] == 'f' else [1, 2, 3, 4], dtype=kind)
    network = native.astype('>' + kind)
    assert (native == network).all() and packed(native) == native.tolist()
    # What a reader gets who takes the bytes for native ones, with no library in between.
    swapped = np.frombuffer(network.tobytes(), dtype=kind)
    got = np.array(packed(network), dtype=kind)
    try:
        told = orjson.dumps(network, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    except TypeError as error:
        told = f'TypeError: {error}'
    seen.append(got.tobytes() == swapped.tobytes() and told.startswith('TypeError'))
    print(f'>{kind} {network.tolist()}: ormsgpack {got.tolist()}, orjson {told}')
one = packed(np.array([0.5], dtype='>f4')[0])
print('a single number:', one)
print('as seen' if all(seen) and one == 0.5 else 'CHANGED')
sys.exit(0 if all(seen) and one == 0.5 else 1)
PY
