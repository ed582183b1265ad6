#!/usr/bin/env bash
# ScaNN and USearch: a batch of searches fills short answers with row 0, as many times as rows are missing.
#
# Expected: where a search finds fewer rows than it was asked for, the rest is marked as no row. faiss writes -1 there.
# Seen (scann 1.4.2, 20,000 rows in 141 leaves, 7 of them searched, 1,000 rows asked for as candidates of a reranker): more
# than half of the answers are short, and each missing row is id 0, the first row of the corpus, with a distance of NaN. `search`
# of a single query returns a short answer instead, so whoever tried one query has not seen it. No error tells of it, and
# fusion by rank reads no distances: row 0 gets a share for each missing place, and is the best row of about half of the
# queries once their lists are fused with exact ones. It is the nearest row of none.
# A corpus of six rows of which ten are asked for does the same in USearch 2.26.6: `keys` ends in 0, even where no row has
# that key. Its `counts` are right, as is a single result.
#
# ScaNN's Python module has no word on it. That sentence-transformers passed USearch's filler on is known there.
# Needs Python 3.11 and pip. Exit status 0 while it behaves so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3.11 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check scann==1.4.2 usearch==2.26.6 faiss-cpu==1.15.1 numpy==2.4.6
cat >seen.py <<'PYTHON'
import sys

import faiss
import numpy
import scann
from usearch.index import Index

COUNT, WIDTH, GROUPS, ASKED, LEAVES, SEARCHED = 20000, 128, 300, 1000, 141, 7
random = numpy.random.default_rng(1)


def unit(rows):
    return (rows / numpy.linalg.norm(rows, axis=1, keepdims=True)).astype(numpy.float32)


groups = random.zipf(1.5, size=COUNT) % GROUPS
rows = unit(random.normal(size=(GROUPS, WIDTH))[groups] + 0.6 * random.normal(size=(COUNT, WIDTH)))
of = random.integers(1, COUNT, 500)
queries = unit(rows[of] + 0.3 * random.normal(size=(500, WIDTH)) / numpy.sqrt(WIDTH))
index = (scann.scann_ops_pybind.builder(rows, ASKED, "dot_product")
         .tree(num_leaves=LEAVES, num_leaves_to_search=SEARCHED, training_sample_size=COUNT)
         .score_ah(2, anisotropic_quantization_threshold=0.2).reorder(2 * ASKED).build())
found, products = index.search_batched(queries)
missing = numpy.isnan(products)
short = float(missing.any(axis=1).mean())
singly = [index.search(query) for query in queries[:50]]
lengths = [len(ids) for ids, _ in singly]
complete = not any(numpy.isnan(single).any() for _, single in singly)
print(f"ScaNN: of {len(queries)} answers {short:.0%} are short; ids in their missing places: "
      f"{sorted(set(found[missing].tolist()))}; single queries get {min(lengths)} to {max(lengths)} rows")

scores = queries @ rows.T
exact = numpy.argsort(-scores, axis=1)[:, :ASKED]
shares = 1 / (60 + 1 + numpy.arange(ASKED))
best = 0
for answers in zip(found, exact):
    fused = numpy.zeros(COUNT)
    for answer in answers:
        numpy.add.at(fused, answer, shares)
    best += int(fused.argmax() == 0)
close = int((exact[:, 0] == 0).sum())
print(f"row 0 is the nearest of {close} queries, and the best of {best} after rank fusion with exact answers")

inverted = faiss.IndexIVFFlat(faiss.IndexFlatIP(WIDTH), WIDTH, LEAVES, faiss.METRIC_INNER_PRODUCT)
inverted.train(rows)
inverted.add(rows)
inverted.nprobe = 1
by_faiss = inverted.search(queries, ASKED)[1]
last = sorted(set(by_faiss[by_faiss[:, -1] < 0][:, -1].tolist()))
print("faiss: ids in the last place of short answers:", last)

few = Index(ndim=WIDTH, metric="cos")
few.add(numpy.arange(6) + 100, rows[:6])
several = few.search(queries[:3], 10)
tail = sorted(set(several.keys[:, 6:].ravel().tolist()))
print("USearch: counts", several.counts.tolist(), "ids in missing places:", tail,
      "length of a single result:", len(several[0]))
as_seen = (0.2 < short < 0.9 and set(found[missing].tolist()) == {0} and complete and min(lengths) < ASKED
           and close == 0 and best > 50 and last == [-1] and tail == [0] and len(several[0]) == 6)
print("as seen" if as_seen else "CHANGED")
sys.exit(0 if as_seen else 1)
PYTHON
venv/bin/python seen.py 2>notes.log || { tail -3 notes.log; exit 1; }
