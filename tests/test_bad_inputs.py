# SPDX-License-Identifier: Apache-2.0
"""Every registered model says what is wrong with an input that it cannot take."""

import pytest

from physicsnemo.registry import ModelRegistry
from physicsnemo.testing import check_bad_inputs
from tools.cases import all_cases

CASES = all_cases()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_inputs(case):
    check_bad_inputs(case)


def test_every_registered_model_is_tried():
    assert {case.model for case in CASES} == set(ModelRegistry().list_models())
