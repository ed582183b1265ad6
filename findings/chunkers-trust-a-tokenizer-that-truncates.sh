#!/usr/bin/env bash
# Chunkers that count with a model's own tokenizer: the limit in its tokenizer.json leaves long texts uncut, or drops their end.
#
# Expected: pieces of at most 128 tokens, told by the tokenizer of the model that will embed them, have at most 128 tokens
# and together are the text. The `truncation` that many tokenizer.json files carry is the model's affair: a splitter turns it off.
# Seen: a text of 1,000 tokens and a tokenizer that truncates at 128. Where the piece may be as long as that, which is the
# natural choice, semantic-text-splitter 0.33.1, semchunk 4.1.1 and chonkie's RecursiveChunker 1.7.0 count 128 for the whole
# text and return it as one piece, of which the model then reads an eighth. Chonkie's TokenChunker returns the first 128 tokens
# at any size, and the rest of the text is in no piece. No error tells of it. `tokenizer.no_truncation()` before mends all four.
# The first of them was right up to 0.30.1: it adds up what the tokenizer cut off. tokenizers 0.23.1 and 0.23.2 hand over nothing
# of that, 0.23.3 does again, and since 0.31.0 the splitter has one of those two compiled in, whatever Python has beside it.
# The change in tokenizers is known there; what a splitter makes of it is not.
#
# Needs Python 3.11 and pip. Exit status 0 while it behaves so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
cat >seen.py <<'PYTHON'
import sys
from importlib.metadata import version

from semantic_text_splitter import TextSplitter
from tokenizers import Tokenizer, models, pre_tokenizers

LIMIT = 128
WORDS = [f"слово{place}" + "." * (place % 10 == 9) for place in range(1000)]
TEXT = " ".join(WORDS)


def tokenizer(truncates):
    made = Tokenizer(models.WordLevel({word: id for id, word in enumerate(["<unk>", *WORDS])}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if truncates:
        made.enable_truncation(LIMIT)
    # As it comes from a tokenizer.json.
    return Tokenizer.from_str(made.to_str())


def semantic(counter, size):
    return TextSplitter.from_huggingface_tokenizer(counter, size).chunks(TEXT)


chunkers = {"semantic-text-splitter": semantic}
if sys.argv[1] == "new":
    import chonkie
    import semchunk

    def chonkie_with(name):
        return lambda counter, size: [
            piece.text for piece in getattr(chonkie, name)(tokenizer=counter, chunk_size=size)(TEXT)]

    chunkers["semchunk"] = lambda counter, size: semchunk.chunkerify(counter, size)(TEXT)
    chunkers["chonkie"] = chonkie_with("RecursiveChunker")
    chunkers["chonkie TokenChunker"] = chonkie_with("TokenChunker")
seen = {}
for name, chunk in chunkers.items():
    for truncates in (False, True):
        for size in (64, LIMIT, 256):
            pieces = [piece.split() for piece in chunk(tokenizer(truncates), size)]
            seen[name, truncates, size] = max(map(len, pieces)), len({word for piece in pieces for word in piece})
            longest, covered = seen[name, truncates, size]
            package = name.split()[0]
            print(f"{name} {version(package)}, {'truncating' if truncates else 'plain'} tokenizer, pieces of {size}:"
                  f" the longest has {longest}, all have {covered} of {len(WORDS)} words")
whole, right = (len(WORDS),) * 2, {key for key, (longest, covered) in seen.items() if longest <= key[2] and covered == 1000}
if sys.argv[1] == "old":
    as_seen = right == set(seen)
else:
    wrong = {(name, True, size): whole for name in list(chunkers)[:3] for size in (LIMIT, 256)}
    wrong |= {("chonkie TokenChunker", True, size): (min(size, LIMIT), LIMIT) for size in (64, LIMIT, 256)}
    as_seen = right == set(seen) - set(wrong) and all(seen[key] == told for key, told in wrong.items())
print("as seen" if as_seen else "CHANGED")
sys.exit(0 if as_seen else 1)
PYTHON
declare -A packages=(
  [old]='semantic-text-splitter==0.30.1'
  [new]='semantic-text-splitter==0.33.1 semchunk==4.1.1 chonkie==1.7.0'
)
for age in old new; do
  python3.11 -m venv "$age"
  read -ra wanted <<<"${packages[$age]}"
  "$age/bin/pip" install --quiet --disable-pip-version-check tokenizers==0.23.3 numpy==2.2.6 "${wanted[@]}"
  "$age/bin/python" seen.py "$age"
done
