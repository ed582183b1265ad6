#!/usr/bin/env bash
# ONNX Runtime on a CPU: the optimizer merges a sum and the layer norm after it into an operator that takes
# some four times as long as the two apart.
#
# Expected: a fusion that is on by default (SkipLayerNormFusion, "extended" level) saves a pass over the
# memory, and is not slower than what it replaces.
# Seen (ONNX Runtime 1.30.0 and 1.32.0, one thread, rows of 1,024 floats, 2,048 of them): merged 5.3 µs a
# row, apart 1.4 µs, the least of 15 runs in turns. LayerNormalization is vectorized, SkipLayerNormalization sums
# value by value. An encoder of 24 layers has 48 of them. `disabled_optimizers=['SkipLayerNormFusion']`
# keeps them apart, as does a graph that subtracts the negative in place of adding.
#
# Needs Python 3 with venv and an x86-64 processor. Exit status 0 while it behaves so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT; cd "$work"
cat >seen.py <<'PY'
import sys
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

WIDTH, ROWS, ROUNDS = 1024, 2048, 15
random = np.random.default_rng(0)


def value(name):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ['texts', 'tokens', WIDTH])


weights = [numpy_helper.from_array(random.normal(size=WIDTH).astype(np.float32), name) for name in 'gb']
nodes = [
    helper.make_node('Add', ['x', 'skip'], ['sum']),
    helper.make_node('LayerNormalization', ['sum', 'g', 'b'], ['y'], axis=-1, epsilon=1e-5),
]
graph = helper.make_graph(nodes, 'norm', [value('x'), value('skip')], [value('y')], weights)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=9)


def open_session(name, disabled):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.optimized_model_filepath = f'{name}.onnx'
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, disabled_optimizers=disabled
    )
    return session, [node.op_type for node in onnx.load(f'{name}.onnx').graph.node]


merged, merged_ops = open_session('merged', [])
apart, apart_ops = open_session('apart', ['SkipLayerNormFusion'])
inputs = {name: random.normal(size=(1, ROWS, WIDTH)).astype(np.float32) for name in ('x', 'skip')}
equal = np.abs(merged.run(None, inputs)[0] - apart.run(None, inputs)[0]).max() < 1e-4
times = {merged: [], apart: []}
for _ in range(ROUNDS):
    for session, taken in times.items():
        started = time.perf_counter()
        session.run(None, inputs)
        taken.append(time.perf_counter() - started)
slow, fast = (min(taken) * 1e6 / ROWS for taken in times.values())
print(f'ONNX Runtime {onnxruntime.__version__}: {merged_ops} {slow:.2f} µs a row, {apart_ops} {fast:.2f} µs')
fused = merged_ops == ['SkipLayerNormalization'] and 'LayerNormalization' in apart_ops
sys.exit(0 if fused and equal and slow > 2 * fast else 1)
PY
for version in 1.30.0 1.32.0; do
  python3 -m venv "venv-$version"
  "venv-$version/bin/pip" install --quiet --disable-pip-version-check \
    "onnxruntime==$version" onnx==1.23.2 numpy==2.2.6
  "venv-$version/bin/python" seen.py || { echo 'CHANGED'; exit 1; }
done
echo 'as seen'
