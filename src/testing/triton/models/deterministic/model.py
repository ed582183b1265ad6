"""A stand-in for the BGE-M3 engine: its tensors, numbers that a test recomputes bit for bit."""
from deterministic_rows import DeterministicRows
from model_tensors import ModelTensors


class TritonPythonModel:
    def initialize(self, args):
        self.tensors = ModelTensors(args)
        self.embedding = DeterministicRows(self.tensors.dimension)

    def execute(self, requests):
        return [self.tensors.response(self.embedding.rows(*self.tensors.read(r))) for r in requests]
