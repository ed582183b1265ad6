#!/usr/bin/env bash
# DSPy: an Embedder over a model's own method is answered from the disk with the vectors of another model.
#
# Expected: `dspy.Embedder(model.encode)`, an example of its documentation, calls that model. Where it remembers what a text
# gave, it remembers the model as well; and `caching` is described as being for hosted models.
# Seen (dspy 3.4.1 with model2vec 0.10.0): the cache is on for functions too, under one folder for all programs of a user, and
# its key is the source text of the function with the batch of texts. Two models of one class have the same source. After an
# upgrade or a fine-tuning the same corpus gets its old vectors again, and so do queries seen before; other texts get new ones.
# Two models are mixed in one index, without an error where their lengths agree, and the nearest row is a wrong one.
# Things without a source, as each functools.partial, share the one key "lambda": the prompt for queries and the one for
# passages are one embedder then. Each call that the cache cannot answer makes a deep copy of the whole model first, for a key.
# `caching=False` is right, and copies nothing.
#
# Needs Python 3.11 and pip. Exit status 0 while it behaves so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3.11 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check dspy==3.4.1 model2vec==0.10.0 numpy==2.2.6
cat >seen.py <<'PYTHON'
import json
import sys
from functools import partial

import dspy
import numpy
from model2vec import StaticModel
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = ["<unk>", "query", "passage", "court", "contract", "tax", "appeal", "lease"]
PASSAGES = ["court appeal", "contract lease", "tax"]
OLD_QUERY, NEW_QUERY = "appeal", "lease"
copies = []


class Counted(StaticModel):
    def __deepcopy__(self, _):
        copies.append(1)
        return self


def encode(model, prompt, texts):
    return model.encode([f"{prompt} {text}" for text in texts])


def static_model(seed):
    tokenizer = Tokenizer(models.WordLevel({word: id for id, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    rows = numpy.random.default_rng(seed).normal(size=(len(WORDS), 16)).astype(numpy.float32)
    return Counted(rows, tokenizer, normalize=True)


def equal(embedder, texts, wanted):
    return bool(numpy.allclose(embedder(texts), wanted, atol=1e-6))


name = sys.argv[1]
model, other = (static_model(seed) for seed in ((1, 10) if name == "first" else (10, 1)))
embedder = dspy.Embedder(model.encode)
seen = {"corpus": equal(embedder, PASSAGES, model.encode(PASSAGES))}
seen["old query"] = equal(embedder, [OLD_QUERY], model.encode([OLD_QUERY]))
seen["copies of the model"] = len(copies)
if name == "second":
    seen["corpus is the first model's"] = equal(embedder, PASSAGES, other.encode(PASSAGES))
    seen["new query"] = equal(embedder, [NEW_QUERY], model.encode([NEW_QUERY]))
    seen["without cache"] = equal(dspy.Embedder(model.encode, caching=False), PASSAGES, model.encode(PASSAGES))
    # What a search makes of it: the new query's row against the corpus's, by the library's own retriever.
    found, right = (dspy.retrievers.Embeddings(PASSAGES, dspy.Embedder(model.encode, caching=kept), k=3).forward(NEW_QUERY)
                    for kept in (True, False))
    print(f"search for {NEW_QUERY!r}: {list(found.passages)}, without cache {list(right.passages)}")
    seen["nearest"] = found.indices[0] == right.indices[0]
queries, passages = (dspy.Embedder(partial(encode, model, prompt)) for prompt in ("query", "passage"))
seen["partial for queries"] = equal(queries, ["tax"], encode(model, "query", ["tax"]))
seen["partial for passages"] = equal(passages, ["tax"], encode(model, "passage", ["tax"]))
print(f"{name} program: {json.dumps(seen)}")
wanted = {"partial for passages": False, "partial for queries": name == "first", "corpus": name == "first"}
wanted |= {"old query": name == "first", "copies of the model": 2 if name == "first" else 0}
if name == "second":
    wanted |= {"corpus is the first model's": True, "new query": True, "without cache": True, "nearest": False}
print("as seen" if seen == wanted else "CHANGED")
sys.exit(0 if seen == wanted else 1)
PYTHON
export DSPY_CACHEDIR=$work/cache
for name in first second; do venv/bin/python seen.py $name 2>errors.log || { tail -5 errors.log; exit 1; }; done
