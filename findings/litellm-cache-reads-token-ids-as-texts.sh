#!/usr/bin/env bash
# LiteLLM: with its cache on, one text of token ids is taken for as many texts as it has ids.
#
# Expected: `input: [11, 12]` is one text of two ids, as the API has it and as LiteLLM sends it on; a cache changes no answer.
# Seen (litellm 1.110.2, `aembedding`, in-memory cache, openai/ and hosted_vllm/): the cache looks up each number by itself.
# A text of one id is stored under it. From then on each text that holds this id comes apart: the server is asked for the
# other ids alone, as another text, and the reply has a row for each id. So [11, 12] after [11] has two rows, of which
# the first, which a client reads, is that of [11]; [12, 11] is then answered without the server. Where two or more ids
# are left over, there is a RuntimeError. The same ids without the cache, or as [[11, 12]], are right. One query of one
# token is enough, and no text with that token is right for as long as the entry lives.
#
# Needs Python 3.11 and pip. Exit status 0 while it behaves so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3.11 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check litellm==1.110.2
cat >seen.py <<'PYTHON'
import asyncio
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm
from litellm.caching.caching import Cache

asked = []


def vector(ids):
    """Another one for each text of at most three ids below 1,000."""
    return [float(number) for number in (list(ids) + [0, 0])[:3]]


class Embeddings(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        asked.append(body["input"])
        texts = [body["input"]] if isinstance(body["input"][0], int) else body["input"]
        rows = [{"object": "embedding", "index": place, "embedding": vector(ids)} for place, ids in enumerate(texts)]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        reply = json.dumps({"object": "list", "model": body["model"], "data": rows, "usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)


server = ThreadingHTTPServer(("127.0.0.1", 0), Embeddings)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/v1"


async def rows(provider, texts):
    """The rows of the reply, or the name of the error, and what the server was asked for."""
    asked.clear()
    try:
        reply = await litellm.aembedding(model=f"{provider}/bge-m3", input=texts, api_base=url, api_key="none")
        told = [row["embedding"] for row in reply.data]
    except Exception as error:
        told = type(error).__name__
    await asyncio.sleep(0.2)  # The cache is written behind the reply.
    return told, list(asked)


TEXTS = [[11], [11, 12], [12, 11], [21, 11, 22]]
SEEN = [
    ([vector([11])], [[11]]),
    ([vector([11]), vector([12])], [[12]]),
    ([vector([12]), vector([11])], []),
]


async def main():
    as_seen = True
    for provider in ("openai", "hosted_vllm"):
        for kept in (False, True):
            litellm.cache = Cache(type="local") if kept else None
            got = []
            for text in TEXTS:
                got.append(await rows(provider, text))
                print(f"{provider}, {'with' if kept else 'without'} cache, {text}: {got[-1][0]}, the server was asked {got[-1][1]}")
            if kept:
                listed = await rows(provider, [[11, 12]])
                print(f"{provider}, with cache, [[11, 12]]: {listed[0]}")
                as_seen = as_seen and got[:3] == SEEN and got[3][0] == "RuntimeError" and listed[0] == [vector([11, 12])]
            else:
                as_seen = as_seen and [one[0] for one in got] == [[vector(text)] for text in TEXTS]
    return as_seen


held = asyncio.run(main())
print("as seen" if held else "CHANGED")
sys.exit(0 if held else 1)
PYTHON
venv/bin/python seen.py 2>errors.log || { tail -5 errors.log; exit 1; }
