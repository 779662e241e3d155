# SPDX-License-Identifier: Apache-2.0
"""The models have whatever is expected of models, and their metadata claims what it did."""

import runpy
from dataclasses import asdict
from pathlib import Path

import pytest

from physicsnemo.models.afno import afno, modafno
from physicsnemo.models.fno import fno
from physicsnemo.testing import conformance_test

CASES = runpy.run_path(str(Path(__file__).with_name("cases.py")))["CASES"]

AFNO_FLAGS = {"cuda_graphs", "amp", "amp_cpu", "amp_gpu", "onnx_gpu", "onnx_runtime"}

test_conformance = conformance_test(CASES)


@pytest.mark.parametrize(
    ("module", "name", "expected"),
    [
        (fno, "FourierNeuralOperator", {"jit", "cuda_graphs", "amp", "amp_cpu", "amp_gpu"}),
        (afno, "AFNO", AFNO_FLAGS),
        (modafno, "ModAFNO", AFNO_FLAGS),
    ],
)
def test_flags(module, name, expected):
    meta = module.MetaData()
    assert {flag for flag, value in asdict(meta).items() if value is True} == expected
    assert meta.name == name
    assert meta.var_dim == 1
