# SPDX-License-Identifier: Apache-2.0
"""Every model can be built again with the arguments that it has, from its own weights."""

import pytest
import torch

from physicsnemo.utils import adapt
from tools.cases import all_cases

CASES = {case.model: case for case in reversed(all_cases())}


@pytest.mark.parametrize("name", CASES)
def test_without_a_change_all_is_carried_over(name):
    model = CASES[name].build()
    adapted = adapt(model)
    assert {it.how for it in adapted.tensors} <= {"copied", "computed"}
    state = adapted.model.state_dict()
    assert state.keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        assert torch.equal(state[key], value), key
