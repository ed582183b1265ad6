"""Asks a running server for the same texts in every form that a Python client may use, and says what it got.

Reads {"url": ..., "query": ...} from standard input; writes, for each form, dtype, shape and the bytes in base64.
"""

import base64
import json
import sys

import msgpack
import msgpack_numpy
import numpy as np
import requests


def main():
    asked = json.load(sys.stdin)

    def ask(accept):
        reply = requests.post(
            asked["url"], json={"query": asked["query"]}, headers={"Accept": accept}, timeout=30
        )
        reply.raise_for_status()
        return reply.content

    plain = ask("application/msgpack")
    layout = ask("application/msgpack; layout=numpy")
    forms = {
        "json": np.array(vectors(json.loads(ask("application/json"))), dtype=np.float32),
        "plain": from_plain(msgpack.unpackb(plain)),
        "plain, with msgpack-numpy": from_plain(
            msgpack.unpackb(plain, object_hook=msgpack_numpy.decode)
        ),
        "numpy": from_numpy_keys(msgpack.unpackb(layout)),
        "numpy, with msgpack-numpy": vectors(
            msgpack.unpackb(layout, object_hook=msgpack_numpy.decode)
        ),
    }
    json.dump({name: described(array) for name, array in forms.items()}, sys.stdout)


def vectors(reply):
    return reply["embedding"] if "embedding" in reply else reply["embeddings"]


def from_plain(reply):
    block = vectors(reply)
    return np.frombuffer(block["data"], block["dtype"]).reshape(block["shape"])


def from_numpy_keys(reply):
    block = vectors(reply)
    return np.frombuffer(block[b"data"], block[b"type"]).reshape(block[b"shape"])


def described(array):
    # What is no ndarray has none of these, and the test fails with Python's words.
    return {
        "dtype": array.dtype.str,
        "shape": list(array.shape),
        "data": base64.b64encode(array.tobytes()).decode(),
    }


main()
