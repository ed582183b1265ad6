"""Constant-time rows, for measuring everything but the model.

They come from a table of 997, looked up by the sum of the unmasked ids. A second output, where the
configuration has one, holds multi-vectors: for each token but the first, the row that many places
on in the table.
"""
import numpy as np
import triton_python_backend_utils as pb_utils

from deterministic_rows import DeterministicRows
from model_tensors import ModelTensors, tensor_of

ROW_COUNT = 997


class TritonPythonModel:
    def initialize(self, args):
        self.tensors = ModelTensors(args)
        keys = np.arange(ROW_COUNT, dtype=np.int64)[:, None]
        self.table = DeterministicRows(self.tensors.dimension).rows(keys, np.ones_like(keys))

        self.longer_table = self.table
        self.room = np.empty(0, dtype=np.float32)

    def execute(self, requests):
        self.is_alone = len(requests) == 1
        return [self.response(request) for request in requests]

    def response(self, request):
        ids, mask = self.tensors.read(request)
        keys = (ids.astype(np.int64) * mask).sum(axis=1) % ROW_COUNT
        asked = request.requested_output_names()
        outputs = []
        for at, name in enumerate(self.tensors.output_names):
            if name not in asked:
                continue
            rows = self.table[keys] if at == 0 else self.multi_vectors(keys, ids.shape[1])
            outputs.append(tensor_of(name, rows))
        return pb_utils.InferenceResponse(output_tensors=outputs)

    def multi_vectors(self, keys, token_count):
        """Rows that follow one another in the table, which is repeated until none needs a second
        look-up. They are copied into memory that is kept: fresh memory would cost more than the
        copy. The backend has sent what is in it before it executes again."""
        while len(self.longer_table) < ROW_COUNT + token_count:
            self.longer_table = np.concatenate([self.longer_table, self.table])
        shape = (len(keys), token_count - 1, self.tensors.dimension)
        size = int(np.prod(shape))
        if not self.is_alone or len(self.room) < size:
            self.room = np.empty(size, dtype=np.float32)
        rows = self.room[:size].reshape(shape)
        for text, key in enumerate(keys):
            rows[text] = self.longer_table[key + 1 : key + token_count]
        return rows
