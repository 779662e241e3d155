# SPDX-License-Identifier: Apache-2.0
"""SFNO has whatever is expected of models, and its metadata claims what it did."""

import runpy
from dataclasses import asdict
from pathlib import Path

from physicsnemo.models.sfno import MetaData
from physicsnemo.testing import conformance_test

CASES = runpy.run_path(str(Path(__file__).with_name("cases.py")))["CASES"]

test_conformance = conformance_test(CASES)


def test_flags():
    flags = {name for name, value in asdict(MetaData()).items() if value is True}
    assert flags == {
        "jit",
        "cuda_graphs",
        "amp",
        "amp_cpu",
        "amp_gpu",
        "bf16",
        "onnx",
        "onnx_cpu",
        "onnx_gpu",
        "onnx_runtime",
        "func_torch",
        "auto_grad",
    }
    assert MetaData().name == "SFNO"
    assert MetaData().var_dim == 0
