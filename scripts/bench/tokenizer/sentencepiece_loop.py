"""Times SentencePiece on request: one JSON line in, one out.

usage: python sentencepiece_loop.py MODEL
in: {"texts": [...]} sets the texts; {"seconds": s} encodes them over and over for s seconds.
out: {"ready": true}, or {"rounds": n, "seconds": t}
"""
import json
import sys
import time

import sentencepiece

processor = sentencepiece.SentencePieceProcessor(model_file=sys.argv[1])
texts = []
for line in sys.stdin:
    request = json.loads(line)
    if "texts" in request:
        texts = request["texts"]
        print(json.dumps({"ready": True}), flush=True)
        continue
    rounds = 0
    started = time.perf_counter()
    while time.perf_counter() - started < request["seconds"]:
        for text in texts:
            processor.EncodeAsIds(text)
        rounds += 1
    print(json.dumps({"rounds": rounds, "seconds": time.perf_counter() - started}), flush=True)
