# SPDX-License-Identifier: Apache-2.0
"""FullyConnected has whatever is expected of models, and its metadata claims what it did."""

import runpy
from dataclasses import asdict
from pathlib import Path

from physicsnemo.models.mlp.fully_connected import MetaData
from physicsnemo.testing import conformance_test

CASES = runpy.run_path(str(Path(__file__).with_name("cases.py")))["CASES"]

# Between them they have every kind of layer.
test_conformance = conformance_test(CASES, thorough=["plain", "weight_norm", "weight_fact"])


def test_flags():
    flags = {name for name, value in asdict(MetaData()).items() if value is True}
    amp, onnx = {"amp", "amp_cpu", "amp_gpu"}, {"onnx", "onnx_cpu", "onnx_gpu", "onnx_runtime"}
    assert flags == {"jit", "cuda_graphs", "torch_fx", "func_torch", "auto_grad"} | amp | onnx
