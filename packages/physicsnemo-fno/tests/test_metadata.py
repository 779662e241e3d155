# SPDX-License-Identifier: Apache-2.0
"""What the metadata promises holds for every example."""

import runpy
from dataclasses import asdict
from pathlib import Path

import pytest

from physicsnemo.models.fno import MetaData
from physicsnemo.testing import check_flag, provable_flags

CASES = runpy.run_path(str(Path(__file__).with_name("cases.py")))["CASES"]


def test_flags():
    flags = {name for name, value in asdict(MetaData()).items() if value is True}
    assert flags == {"jit", "cuda_graphs"}
    assert MetaData().name == "FourierNeuralOperator"
    assert MetaData().var_dim == 1


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
