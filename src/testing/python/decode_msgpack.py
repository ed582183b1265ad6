"""Decodes a msgpack reply as a Python client would, and prints JSON of what it found.

    decode_msgpack.py plain [FILE]  msgpack and numpy: frombuffer(data, dtype).reshape(shape)
    decode_msgpack.py numpy [FILE]  the object hook of msgpack-numpy, straight to an ndarray

Reads standard input where no file is named. Every array is printed as its dtype, its shape and the
bytes of its numbers in hex, little endian: a comparison of floats in decimal would hide a bit. All
other values are printed as they are.
"""
import json
import sys

import msgpack
import numpy as np


def plain(data):
    return revive(msgpack.unpackb(data))


def revive(value):
    """Turns each map of `dtype`, `shape` and `data` into the array that it describes."""
    if isinstance(value, dict):
        if {"dtype", "shape", "data"} <= value.keys():
            return np.frombuffer(value["data"], value["dtype"]).reshape(value["shape"])
        return {key: revive(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [revive(inner) for inner in value]
    return value


def with_msgpack_numpy(data):
    import msgpack_numpy

    return msgpack.unpackb(data, object_hook=msgpack_numpy.decode)


def printable(value):
    if isinstance(value, np.ndarray):
        little = value.astype(value.dtype.newbyteorder("<"))
        return {"dtype": value.dtype.str, "shape": list(value.shape), "hex": little.tobytes().hex()}
    if isinstance(value, np.generic):
        return printable(np.asarray(value))
    if isinstance(value, bytes):
        # A block that no decoder turned into an array; the test sees that it stayed one.
        return {"bytes": len(value)}
    if isinstance(value, dict):
        return {str(key): printable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [printable(inner) for inner in value]
    return value


def main():
    decode = {"plain": plain, "numpy": with_msgpack_numpy}[sys.argv[1]]
    if len(sys.argv) > 2:
        with open(sys.argv[2], "rb") as file:
            data = file.read()
    else:
        data = sys.stdin.buffer.read()
    json.dump(printable(decode(data)), sys.stdout)


main()
