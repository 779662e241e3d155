# SPDX-License-Identifier: Apache-2.0
"""Weather models that give the same bits each time on a GPU, also compiled."""

import runpy
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.gpu

MODELS = {"DLWP", "HEALPixUNet", "HEALPixRecUNet", "GraphCastNet"}
EXAMPLES = runpy.run_path(str(Path(__file__).parents[1] / "cases.py"))["CASES"]
CASES = [case for case in EXAMPLES if case.model in MODELS]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_results_are_the_same_bits_each_time(case, on_gpu, assert_same_bits):
    model, inputs = on_gpu(case)
    for function in (model, torch.compile(model, fullgraph=True)):
        assert_same_bits(function, model, inputs)


def test_there_are_cases_of_each():
    assert {case.model for case in CASES} == MODELS
