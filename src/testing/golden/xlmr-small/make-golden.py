"""Makes the small XLM-RoBERTa with heads, and what PyTorch says it answers.

The reference is `transformers`' own XLMRobertaModel over the whole vocabulary of 250,002 pieces, with the published
formulas of BGE-M3's heads. So that the files stay small, row `i` of its word embeddings is row `i % 1021` of a table;
the ONNX exports hold the table alone and take the remainder in the graph.

Written beside this script:
  golden.golden.json   texts, token ids, and the reference's answers (float32, little endian, base64)
  hub/                 the layout of the published export: operators of version 11, layer norms in pieces, weights in
                       model.onnx_data, one constant in a file of its own, outputs token_embeddings and
                       sentence_embedding, and the two heads as torch files (one float32, one float16)
  bare/                operators of version 17, everything in one file, only last_hidden_state

Run once, with torch 1.13.1, transformers 4.36.2, onnx 1.12 and tokenizers 0.15:
  python make-golden.py --tokenizer PATH/tokenizer.json
"""

import argparse
import base64
import io
import json
import pathlib

import numpy as np
import onnx
import torch
from onnx.external_data_helper import convert_model_to_external_data, set_external_data
from tokenizers import Tokenizer
from transformers import XLMRobertaConfig, XLMRobertaModel

HERE = pathlib.Path(__file__).parent
HIDDEN, ROWS, VOCABULARY = 32, 1021, 250_002
SPECIAL_IDS = {0, 1, 2, 3}
TEXTS = [
    "Статья 10. Пределы осуществления гражданских прав.",
    "исковая давность",
    "Срок исковой давности составляет три года со дня, определяемого в соответствии со статьёй 200 Кодекса.",
    "What is BGE M3?",
    "BGE M3 is an embedding model supporting dense retrieval, lexical matching and multi-vector interaction.",
    "民法典第一条 为了保护民事主体的合法权益",
    "Договор купли-продажи: продавец обязуется передать вещь в собственность покупателю.",
    "a",
    "договор договор договор",
    "Die Würde des Menschen ist unantastbar. 🙂 <3",
]
PADDED_BATCH = [0, 1, 3, 7]
PAIRS = [(3, 4), (3, 2), (1, 2), (8, 6)]
SCORE_WEIGHTS = [0.4, 0.2, 0.4]


def make_weights():
    """Random, but wide enough that each layer matters and no two tokens come out alike."""
    config = XLMRobertaConfig(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5,
        pad_token_id=1, bos_token_id=0, eos_token_id=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    torch.manual_seed(20_240_131)
    reference = XLMRobertaModel(config, add_pooling_layer=False).eval()
    table = torch.randn(ROWS, HIDDEN) * 0.5
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            if "LayerNorm.weight" in name:
                parameter.copy_(1 + 0.2 * torch.randn_like(parameter))
            elif "word_embeddings" not in name:
                parameter.copy_(torch.randn_like(parameter) * (0.25 if parameter.dim() > 1 else 0.1))
        reference.embeddings.word_embeddings.weight.copy_(table[torch.arange(VOCABULARY) % ROWS])
    sparse = torch.nn.Linear(HIDDEN, 1)
    colbert = torch.nn.Linear(HIDDEN, HIDDEN).half()
    torch.nn.init.normal_(sparse.weight, std=0.2)
    return reference, table, sparse, colbert


class Small(torch.nn.Module):
    """The same model over the table, for export."""

    def __init__(self, reference, table, with_pooling):
        super().__init__()
        config = XLMRobertaConfig.from_dict({**reference.config.to_dict(), "vocab_size": ROWS})
        self.model = XLMRobertaModel(config, add_pooling_layer=False).eval()
        state = {k: v for k, v in reference.state_dict().items() if "word_embeddings" not in k}
        self.model.load_state_dict(state, strict=False)
        self.model.embeddings.word_embeddings.weight.data.copy_(table)
        self.with_pooling = with_pooling

    def forward(self, input_ids, attention_mask):
        real = (input_ids != 1).long()
        positions = torch.cumsum(real, dim=1) * real + 1
        words = self.model.embeddings.word_embeddings(input_ids % ROWS)
        states = self.model(inputs_embeds=words, position_ids=positions, attention_mask=attention_mask)[0]
        if not self.with_pooling:
            return states
        return states, torch.nn.functional.normalize(states[:, 0], dim=-1)


def export(small, folder, opset):
    folder.mkdir(exist_ok=True)
    names = ["token_embeddings", "sentence_embedding"] if small.with_pooling else ["last_hidden_state"]
    dynamic = {"input_ids": {0: "batch", 1: "sequence"}, "attention_mask": {0: "batch", 1: "sequence"},
               names[0]: {0: "batch", 1: "sequence"}}
    ids = torch.tensor([[0, 5, 6, 2], [0, 7, 2, 1]])
    buffer = io.BytesIO()
    torch.onnx.export(small, (ids, (ids != 1).long()), buffer, opset_version=opset, do_constant_folding=True,
                      input_names=["input_ids", "attention_mask"], output_names=names, dynamic_axes=dynamic)
    model = onnx.load_from_string(buffer.getvalue())
    for value in model.graph.output[1:]:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    path = folder / "model.onnx"
    for old in folder.glob("*"):
        old.unlink()
    if not small.with_pooling:
        onnx.save(model, str(path))
        return
    convert_model_to_external_data(model, location="model.onnx_data", size_threshold=1024)
    # The published export keeps its largest constant node in a file of its own.
    constants = [a.t for n in model.graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value"]
    largest = max(constants, key=lambda t: len(t.raw_data))
    set_external_data(largest, location="Constant_7_attr__value")
    onnx.save(model, str(path))


def encode(reference, sparse, colbert, ids, mask):
    with torch.no_grad():
        states = reference(input_ids=ids, attention_mask=mask)[0]
        dense = torch.nn.functional.normalize(states[:, 0], dim=-1)
        weights = torch.relu(sparse(states)).squeeze(-1)
        vectors = colbert.float()(states[:, 1:]) * mask[:, 1:, None].float()
        return dense, weights, torch.nn.functional.normalize(vectors, dim=-1)


def lexical(ids, weights):
    """FlagEmbedding's aggregation: the largest weight of each id, special ids and non-positive weights dropped."""
    out = {}
    for token, weight in zip(ids, weights):
        if token not in SPECIAL_IDS and weight > 0:
            out[token] = max(out.get(token, 0.0), weight)
    return out


def pack(tensor):
    return base64.b64encode(tensor.numpy().astype("<f4").tobytes()).decode()


def score(a, b):
    dense = float(a["dense"] @ b["dense"])
    sparse = sum(w * b["lexical"][t] for t, w in a["lexical"].items() if t in b["lexical"])
    colbert = float((a["vectors"] @ b["vectors"].T).max(-1).values.mean())
    d, s, c = SCORE_WEIGHTS
    return {"dense": dense, "sparse": sparse, "multi_vector": colbert,
            "weighted": (d * dense + s * sparse + c * colbert) / (d + s + c)}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--tokenizer", required=True)
    tokenizer = Tokenizer.from_file(arguments.parse_args().tokenizer)
    reference, table, sparse, colbert = make_weights()
    export(Small(reference, table, True), HERE / "hub", 11)
    export(Small(reference, table, False), HERE / "bare", 17)
    torch.save(sparse.state_dict(), HERE / "hub" / "sparse_linear.pt")
    torch.save(colbert.state_dict(), HERE / "hub" / "colbert_linear.pt")

    rows, results = [], []
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        dense, weights, vectors = encode(reference, sparse, colbert, torch.tensor([ids]), torch.ones(1, len(ids)).long())
        words = lexical(ids, weights[0].tolist())
        results.append({"dense": dense[0], "lexical": words, "vectors": vectors[0]})
        rows.append({"text": text, "ids": ids, "dense": pack(dense[0]), "tokenWeights": pack(weights[0]),
                     "sparse": {"indices": list(words), "values": list(words.values())},
                     "multiVector": pack(vectors[0])})
    longest = max(len(rows[i]["ids"]) for i in PADDED_BATCH) + 3
    padded = torch.tensor([rows[i]["ids"] + [1] * (longest - len(rows[i]["ids"])) for i in PADDED_BATCH])
    dense, weights, vectors = encode(reference, sparse, colbert, padded, (padded != 1).long())
    golden = {
        "model": {"hidden": HIDDEN, "tokensMax": 512, "vocabulary": VOCABULARY},
        "made": f"torch {torch.__version__}, transformers XLMRobertaModel, float32",
        "texts": rows,
        "paddedBatch": {"texts": PADDED_BATCH, "tokenCount": longest, "dense": pack(dense),
                        "tokenWeights": pack(weights * (padded != 1)), "multiVector": pack(vectors)},
        "scores": {"weights": SCORE_WEIGHTS,
                   "pairs": [{"query": q, "text": t, **score(results[q], results[t])} for q, t in PAIRS]},
    }
    (HERE / "golden.golden.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")
    drift = max((dense[j] - results[i]["dense"]).abs().max().item() for j, i in enumerate(PADDED_BATCH))
    print("padded against alone, dense:", drift)
    print("dense cosines:", np.round((lambda m: m @ m.T)(torch.stack([r["dense"] for r in results])).numpy(), 2)[0])


main()
