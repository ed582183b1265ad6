#!/usr/bin/env bash
# transformers 5: XLMRobertaTokenizer does not follow the tokenizer.json that it loads.
#
# Expected: AutoTokenizer gives the token ids that tokenizers.Tokenizer gives for the same tokenizer.json.
# Seen (transformers 5.24.0 with tokenizers 0.23.3): the class builds a pipeline of its own,
# WhitespaceSplit before Metaspace, in place of the file's Metaspace. Every lone piece U+2581 is lost: at
# the end of a text that ends in white space, between two spaces, and of a text of one space. BGE-M3's
# vectors of such texts change with the upgrade, without a warning. transformers 4.57.6 follows the file.
#
# Needs Python 3.11 and pip. Exit status 0 while it behaves so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
cat >seen.py <<'PYTHON'
import json
import sys
from tokenizers import Tokenizer

SPACE = "\u2581"
special = ["<s>", "<pad>", "</s>", "<unk>"]
vocabulary = [[piece, 0.0] for piece in special]
vocabulary += [[SPACE, -2.0], [SPACE + "a", -3.0], [SPACE + "b", -3.0], ["a", -4.0], ["b", -4.0], ["<mask>", 0.0]]
single = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
          {"SpecialToken": {"id": "</s>", "type_id": 0}}]
added = [(id, piece) for id, (piece, _) in enumerate(vocabulary) if piece.startswith("<")]
metaspace = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True}
json.dump({
    "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
    "pre_tokenizer": metaspace, "decoder": metaspace,
    "added_tokens": [{"id": id, "content": piece, "single_word": False, "lstrip": False, "rstrip": False,
                      "normalized": False, "special": True} for id, piece in added],
    "post_processor": {"type": "TemplateProcessing", "single": single, "pair": single + single, "special_tokens": {
        piece: {"id": piece, "ids": [id], "tokens": [piece]} for piece, id in (("<s>", 0), ("</s>", 2))}},
    "model": {"type": "Unigram", "unk_id": 3, "vocab": vocabulary, "byte_fallback": False},
}, open("tokenizer.json", "w"))
json.dump({"tokenizer_class": "XLMRobertaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>",
           "sep_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"},
          open("tokenizer_config.json", "w"))
json.dump({"model_type": "xlm-roberta"}, open("config.json", "w"))

import transformers
from transformers import AutoTokenizer

file, loaded = Tokenizer.from_file("tokenizer.json"), AutoTokenizer.from_pretrained(".")
print("transformers", transformers.__version__, "pre-tokenizer:", loaded.backend_tokenizer.pre_tokenizer)
differing = []
for text in ("a b", "a b ", "a  b", " "):
    ours, theirs = file.encode(text).tokens, loaded.convert_ids_to_tokens(loaded(text)["input_ids"])
    print(f"  {text!r}: file {' '.join(ours)}   AutoTokenizer {' '.join(theirs)}")
    if ours != theirs:
        differing.append(text)
sys.exit(differing != (["a b ", "a  b", " "] if sys.argv[1] == "differs" else []))
PYTHON
for run in '4.57.6 agrees' '5.24.0 differs'; do
  read -r version wanted <<<"$run"
  python3.11 -m venv "venv-$version"
  "venv-$version/bin/pip" install --quiet "transformers==$version"
  "venv-$version/bin/python" seen.py "$wanted" 2>/dev/null || { echo "CHANGED: transformers $version"; exit 1; }
done
echo 'as recorded'
