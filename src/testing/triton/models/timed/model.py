"""Takes a GPU's time: one launch for an execution, then padded tokens at a fixed rate, one stream.

Where `length_tokens` is above 0, attention costs as much as the rest of a token at that length.

The rows are those of the deterministic model, so that a reply to the wrong caller shows.
"""
import time

from deterministic_rows import DeterministicRows
from model_tensors import ModelTensors


class TritonPythonModel:
    def initialize(self, args):
        self.tensors = ModelTensors(args)
        self.embedding = DeterministicRows(self.tensors.dimension)
        self.launch_s = float(self.tensors.parameters["launch_ms"]) / 1000
        self.tokens_per_second = float(self.tensors.parameters["tokens_per_second"])
        self.length_tokens = float(self.tensors.parameters["length_tokens"])

    def execute(self, requests):
        start = time.monotonic()
        padded_tokens, responses = 0, []
        for request in requests:
            ids, mask = self.tensors.read(request)
            square = ids.shape[1] / self.length_tokens if self.length_tokens > 0 else 0
            padded_tokens += ids.size * (1 + square)
            responses.append(self.tensors.response(self.embedding.rows(ids, mask)))
        # Computing the rows counts as service time.
        end = start + self.launch_s + padded_tokens / self.tokens_per_second
        time.sleep(max(0.0, end - time.monotonic()))
        return responses
