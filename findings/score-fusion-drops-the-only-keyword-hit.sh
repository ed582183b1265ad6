#!/usr/bin/env bash
# Fusion of scores: the only row with the word of a query counts as nothing for LanceDB and ranx, and as most of all for Haystack.
#
# Expected: keywords are searched beside vectors so that a case number finds its one document. A search with one hit is the surest
# there is; scaled to 0..1 the hit has 1, as the best of several has, and a weight of 0.7 on keywords brings it to the top.
# Seen: lists are scaled by their least and largest score, and of a list of one (or of equal scores) these are the same.
# LanceDB 0.40.0, `LinearCombinationReranker`, 2,000 rows and 50 numbers that one row has each: the hit gets 0, as a row without
# the word does. With a weight of 0.7, 0.3 and even 0 for vectors it is among ten results only if the vectors bring it there;
# `normalize="rank"` is no better. Of a word that two rows have, the better row gets 1 and the other 0. `RRFReranker`, the
# default, has all 50 among ten.
# ranx 0.3.21: `fuse` scales by "min-max" unless told otherwise, and gives a run's only hit 0.
# Haystack did the same in `distribution_based_rank_fusion`, which is known and mended there; 3.4.1 leaves such a score as it is,
# and a BM25 score of 12 stands among numbers of at most 1.
#
# Needs Python 3.11 and pip. Exit status 0 while it behaves so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3.11 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
  lancedb==0.40.0 ranx==0.3.21 haystack-ai==3.4.1 numpy==2.4.6 pyarrow==26.0.1
cat >seen.py <<'PYTHON'
import sys

import lancedb
import numpy
from haystack import Document
from haystack.components.joiners import DocumentJoiner
from lancedb.index import FTS
from lancedb.rerankers import LinearCombinationReranker, RRFReranker
from ranx import Run, fuse

COUNT, RARE = 2000, 50
random = numpy.random.default_rng(1)
vectors = random.normal(size=(COUNT, 64))
vectors = (vectors / numpy.linalg.norm(vectors, axis=1, keepdims=True)).astype(numpy.float32)
numbers = random.choice(numpy.arange(10000, 99999), RARE, replace=False)
texts = [f"case {numbers[place]}" if place < RARE else f"matter {place}" for place in range(COUNT)]
texts[COUNT - 2:] = ["appeal", "appeal of the other side"]
table = lancedb.connect("rows").create_table("rows", [
    {"id": place, "text": text, "vector": row} for place, (text, row) in enumerate(zip(texts, vectors))])
table.create_index("text", config=FTS())


def search(words, vector, reranker, normalize):
    hybrid = table.search(query_type="hybrid").vector(vector).text(words)
    return hybrid.rerank(reranker, normalize=normalize).limit(10).to_list()


def found(reranker, normalize="score"):
    """How often the row with the number is in ten results, and how often it is the first, for unrelated query vectors."""
    within = first = 0
    for place, number in enumerate(numbers):
        ids = [hit["id"] for hit in search(str(number), vectors[1000 + place], reranker, normalize)]
        within += place in ids
        first += ids[0] == place
    return within, first


told = {"RRF": found(RRFReranker())}
for weight in (0.7, 0.3, 0.0):
    for normalize in ("score", "rank"):
        told[f"{weight} for vectors, by {normalize}"] = found(LinearCombinationReranker(weight=weight), normalize)
for name, (within, first) in told.items():
    print(f"LanceDB, {name}: of {RARE} only hits {within} are among ten results, {first} the first")
both = search("appeal", vectors[1000], LinearCombinationReranker(weight=0.3), "score")
pair = {hit["text"]: round(hit["_relevance_score"], 3) for hit in both if hit["id"] >= COUNT - 2}
print("LanceDB, two rows with a word, 0.3 for vectors:", pair)

dense = {"a": 0.9, "b": 0.8, "c": 0.7}
runs = [Run({"query": {"hit": 12.0}}), Run({"query": dense})]
fused = {name: float(score) for name, score in fuse(runs, method="sum").to_dict()["query"].items()}
print("ranx:", fused)

lists = [[Document(id="hit", score=12.0)], [Document(id=name, score=score) for name, score in dense.items()]]
joiner = DocumentJoiner(join_mode="distribution_based_rank_fusion")
joined = {document.id: document.score for document in joiner.run(documents=lists)["documents"]}
print("Haystack:", {name: round(score, 2) for name, score in joined.items()})
as_seen = (told.pop("RRF")[0] == RARE and all(within < 5 for within, _ in told.values())
           and pair.get(texts[COUNT - 2]) == 0.7 and pair.get(texts[COUNT - 1], 0) < 0.1
           and fused["hit"] == 0 and fused["a"] == 1
           and joined["hit"] == 12 and max(joined[name] for name in dense) < 1)
print("as seen" if as_seen else "CHANGED")
sys.exit(0 if as_seen else 1)
PYTHON
# Without its compiler ranx gives the same scores, and saves two minutes.
NUMBA_DISABLE_JIT=1 venv/bin/python -W ignore seen.py
