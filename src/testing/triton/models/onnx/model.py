"""A real model in the engine's place: an ONNX graph in ONNX Runtime, on one thread of the CPU.

The graph is the one that the parameter `onnx_path` names or, where the configuration has none, as
that of an engine, the one whose path the file `model.plan` holds.
"""
import os

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils
from model_tensors import ModelTensors, tensor_of


class TritonPythonModel:
    def initialize(self, args):
        self.tensors = ModelTensors(args)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        path = self.tensors.parameters.get("onnx_path") or read_plan(args)
        self.session = onnxruntime.InferenceSession(path, options)

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        ids, mask = self.tensors.read(request)
        wanted = set(request.requested_output_names())
        names = [name for name in self.tensors.output_names if name in wanted]
        # Tensors of Triton are borrowed, and ONNX Runtime wants them contiguous.
        feeds = {"input_ids": np.ascontiguousarray(ids), "attention_mask": np.ascontiguousarray(mask)}
        try:
            arrays = self.session.run(names, feeds)
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        outputs = [tensor_of(name, np.ascontiguousarray(array)) for name, array in zip(names, arrays)]
        return pb_utils.InferenceResponse(output_tensors=outputs)


def read_plan(args):
    plan = os.path.join(args["model_repository"], args["model_version"], "model.plan")
    with open(plan, encoding="utf-8") as file:
        return file.read().strip()
