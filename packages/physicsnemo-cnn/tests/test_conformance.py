# SPDX-License-Identifier: Apache-2.0
"""The models have whatever is expected of models, and their metadata claims what it did."""

import runpy
from dataclasses import asdict
from pathlib import Path

import pytest

from physicsnemo.models.pix2pix import pix2pix
from physicsnemo.models.srrn import super_res_net
from physicsnemo.testing import conformance_test

CASES = runpy.run_path(str(Path(__file__).with_name("cases.py")))["CASES"]

FLAGS = {
    *("jit", "cuda_graphs", "amp", "amp_cpu", "amp_gpu", "torch_fx", "bf16"),
    *("onnx", "onnx_cpu", "onnx_gpu", "onnx_runtime", "func_torch", "auto_grad"),
}

test_conformance = conformance_test(CASES, thorough=["1d", "2d_finer", "3d", "x2"])


@pytest.mark.parametrize(
    ("module", "name"), [(pix2pix, "Pix2Pix"), (super_res_net, "SuperResolution")]
)
def test_flags(module, name):
    meta = module.MetaData()
    assert {flag for flag, value in asdict(meta).items() if value is True} == FLAGS
    assert meta.name == name
    assert meta.var_dim == 1
