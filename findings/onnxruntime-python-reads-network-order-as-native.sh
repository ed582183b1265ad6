#!/usr/bin/env bash
# ONNX Runtime's Python API: an input in network byte order is computed as other numbers, without an error.
#
# Expected: `session.run` looks at the array's dtype, as it does for its kind, its size and its strides
# (a transposed or reversed view is computed as numpy shows it), and swaps or refuses '>f4' and '>i8'.
# Seen (ONNX Runtime 1.32.0, onnx 1.23.2, numpy 2.2.6): by `run`, by OrtValue.ortvalue_from_numpy and by an
# I/O binding, floats and token ids in big-endian order are taken for native ones. A mean over stored rows
# of PostgreSQL's binary COPY, as a pooling or reranking head makes it, is finite and wrong. onnx and
# Triton's client refuse the same arrays, and safetensors swaps them.
#
# Needs Python 3 with venv. Exit status 0 while it behaves so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.2.6
venv/bin/python - <<'PY'
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, helper


def identity(element):
    x, y = (helper.make_tensor_value_info(name, element, ['rows', 'width']) for name in 'xy')
    graph = helper.make_graph([helper.make_node('Identity', ['x'], ['y'])], 'identity', [x], [y])
    opset = [helper.make_opsetid('', 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString())


def run(session, rows):
    return session.run(None, {'x': rows})[0]


def ort_value(_, rows):
    return onnxruntime.OrtValue.ortvalue_from_numpy(rows).numpy()


def bound(session, rows):
    binding = session.io_binding()
    binding.bind_cpu_input('x', rows)
    binding.bind_output('y')
    session.run_with_iobinding(binding)
    return binding.copy_outputs_to_cpu()[0]


seen = []
for kind, element in (('f4', TensorProto.FLOAT), ('i8', TensorProto.INT64)):
    session = identity(element)
    native = np.array([[1, 2, 3], [4, 5, 6]], dtype=kind)
    network = native.astype('>' + kind)
    swapped = np.frombuffer(network.tobytes(), dtype=kind).reshape(native.shape)
    for way in (run, ort_value, bound):
        views = all((way(session, view) == view).all() for view in (native, native.T, native[::-1]))
        got = way(session, network)
        seen.append(views and got.tobytes() == swapped.tobytes())
        print(f'>{kind} {way.__name__}: views right {views}, {network[0].tolist()} gives {got[0].tolist()}')
print('as seen' if all(seen) else 'CHANGED')
sys.exit(0 if all(seen) else 1)
PY
