"""Vectors of texts from a running server, for use inside Spark, Ray or any loop.

Needs requests, msgpack and numpy. What matters in a job of many workers:

- `x-priority: background`: texts of the job wait for those of people.
- 64 texts a request, and a few requests at a time for each worker: the server forms its own batches.
- 429 and 503 are waited out as told. A text that the server refuses raises, and names itself: leave
  it out before, or catch the error for its batch.
"""

import time

import msgpack
import numpy
import requests

TEXTS_PER_REQUEST = 64
TRIES = 20
# The last one: a connection that broke in the middle of a reply.
PASSING = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


def embed_texts(texts, url, session=None, input_type="passage"):
    """A matrix of float32, one row for each of the texts."""
    session = session or requests.Session()
    rows = [
        _embed(texts[start : start + TEXTS_PER_REQUEST], url, session, input_type)
        for start in range(0, len(texts), TEXTS_PER_REQUEST)
    ]
    return numpy.concatenate(rows)


def _embed(texts, url, session, input_type):
    for attempt in range(TRIES):
        try:
            reply = session.post(
                f"{url}/encode",
                json={"query": list(texts), "input_type": input_type},
                headers={"Accept": "application/msgpack", "x-priority": "background"},
                timeout=120,
            )
        except PASSING:
            # The server is being restarted, or a proxy in front of it is.
            time.sleep(min(10, 0.25 * 2**attempt))
            continue
        if reply.status_code in (429, 502, 503, 504):
            told = reply.headers.get("retry-after-ms")
            time.sleep(float(told) / 1000 if told else min(10, 0.25 * 2**attempt))
            continue
        if reply.status_code != 200:
            raise ValueError(reply.json()["error"]["message"])
        rows = msgpack.unpackb(reply.content)["embeddings"]
        return numpy.frombuffer(rows["data"], rows["dtype"]).reshape(rows["shape"])
    raise TimeoutError(f"{url} did not answer in {TRIES} tries")
