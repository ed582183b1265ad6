"""The deterministic model, wrong on demand.

A fault comes by content: parameter `fault_tokens`, a JSON map from fault to token id, strikes the
texts (or the requests) that carry that id unmasked. Or it comes by a file: parameter
`control_file`, JSON {"fault": name, "delayMs": number}, read at each execution, strikes everything
until it changes.
"""
import json
import os
import time

import numpy as np
import triton_python_backend_utils as pb_utils
from deterministic_rows import DeterministicRows
from model_tensors import ModelTensors


def _nan(rows, hit):
    # One number in the middle: a check that looks only at the first would miss it.
    rows[hit, rows.shape[1] // 2] = np.nan


def _infinite(rows, hit):
    rows[hit, -1] = np.inf


def _zero(rows, hit):
    rows[hit] = 0


def _unscaled(rows, hit):
    rows[hit] *= 2


ROW_FAULTS = {"nan": _nan, "infinite": _infinite, "zero": _zero, "unscaled": _unscaled}


class TritonPythonModel:
    def initialize(self, args):
        self.tensors = ModelTensors(args)
        self.embedding = DeterministicRows(self.tensors.dimension)
        self.fault_tokens = json.loads(self.tensors.parameters.get("fault_tokens", "{}"))
        self.control_file = self.tensors.parameters.get("control_file")

    def execute(self, requests):
        control = self._control()
        return [self._answer(request, control) for request in requests]

    def _control(self):
        if self.control_file is None or not os.path.exists(self.control_file):
            return {}
        with open(self.control_file, encoding="utf-8") as file:
            return json.load(file)

    def _answer(self, request, control):
        ids, mask = self.tensors.read(request)
        rows = self.embedding.rows(ids, mask)
        batch_fault = None
        for fault, hit in self._strikes(ids, mask, control):
            if fault in ROW_FAULTS:
                ROW_FAULTS[fault](rows, hit)
            else:
                batch_fault = fault
        return self._respond(rows, batch_fault, control)

    def _strikes(self, ids, mask, control):
        """Pairs of a fault and the boolean [texts] that it strikes; only those that strike any."""
        strikes = [
            (fault, ((ids == token) & (mask != 0)).any(axis=1))
            for fault, token in self.fault_tokens.items()
        ]
        if control.get("fault", "none") != "none":
            strikes.append((control["fault"], np.ones(ids.shape[0], dtype=bool)))
        return [(fault, hit) for fault, hit in strikes if hit.any()]

    def _respond(self, rows, fault, control):
        if fault is None:
            return self.tensors.response(rows)
        if fault == "slow":
            time.sleep(control.get("delayMs", 1000) / 1000)
            return self.tensors.response(rows)
        if fault == "empty":
            return self.tensors.response(np.zeros((rows.shape[0], 0), dtype=np.float32))
        if fault == "short":
            return self.tensors.response(np.ascontiguousarray(rows[:, :-1]))
        if fault == "missing":
            return pb_utils.InferenceResponse(output_tensors=[])
        if fault == "error":
            error = pb_utils.TritonError("the model failed on request")
            return pb_utils.InferenceResponse(error=error)
        if fault == "crash":
            os._exit(1)
        raise ValueError(f"unknown fault {fault!r}")
