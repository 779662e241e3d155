# SPDX-License-Identifier: Apache-2.0
"""Pangu, FengWu and SwinRNN claim the flags that nvidia-physicsnemo claims."""

from dataclasses import asdict

import pytest

from physicsnemo.models.fengwu import fengwu
from physicsnemo.models.pangu import pangu
from physicsnemo.models.swinvrnn import swinvrnn

FLAGS = {"cuda_graphs", "amp", "amp_cpu", "amp_gpu", "onnx_gpu", "onnx_runtime"}


@pytest.mark.parametrize(
    ("module", "name"), [(fengwu, "Fengwu"), (pangu, "Pangu"), (swinvrnn, "SwinRNN")]
)
def test_flags(module, name):
    meta = module.MetaData()
    assert {flag for flag, value in asdict(meta).items() if value is True} == FLAGS
    assert meta.name == name
    assert meta.var_dim == 1
