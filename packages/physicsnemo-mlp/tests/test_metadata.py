# SPDX-License-Identifier: Apache-2.0
"""What the metadata promises holds for every example."""

import runpy
from dataclasses import asdict
from pathlib import Path

import pytest

from physicsnemo.models.mlp.fully_connected import MetaData
from physicsnemo.testing import check_flag, provable_flags

# Raised inside the exporter of PyTorch.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")

CASES = runpy.run_path(str(Path(__file__).with_name("cases.py")))["CASES"]


def test_flags():
    flags = {name for name, value in asdict(MetaData()).items() if value is True}
    amp, onnx = {"amp", "amp_cpu", "amp_gpu"}, {"onnx", "onnx_cpu", "onnx_gpu", "onnx_runtime"}
    assert flags == {"jit", "cuda_graphs", "torch_fx", "func_torch", "auto_grad"} | amp | onnx


@pytest.mark.parametrize(
    ("case", "flag"),
    [
        pytest.param(case, flag, id=f"{case.id}-{flag}")
        for case in CASES
        for flag in provable_flags(case)
    ],
)
def test_flag_is_true(case, flag):
    check_flag(case, flag)
