# SPDX-License-Identifier: Apache-2.0
"""What holds for every registered model."""

import copy

import pytest
import torch
from torch.utils import _pytree as pytree

from physicsnemo import Module
from physicsnemo.registry import ModelRegistry
from tools.cases import all_cases

CASES = [pytest.param(case, id=str(case)) for case in all_cases()]


def test_every_model_has_a_case():
    assert {case.model for case in all_cases()} == set(ModelRegistry().list_models())


@pytest.mark.parametrize("name", ModelRegistry().list_models())
def test_name_is_that_of_the_class(name):
    assert ModelRegistry().factory(name).__name__ == name


@pytest.mark.parametrize("case", CASES)
def test_checkpoint_round_trip_is_exact(case, tmp_path):
    model = case.build().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.save(tmp_path / "model.mdlus")
    twin = Module.from_checkpoint(tmp_path / "model.mdlus").eval()
    assert twin._args == model._args
    assert_equal(twin(*case.inputs()), model(*case.inputs()))


@pytest.mark.parametrize("case", CASES)
def test_copies_share_nothing(case):
    model = case.build().eval()
    twin = copy.deepcopy(model)
    before = model(*case.inputs())
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1)
    assert_equal(model(*case.inputs()), before)


@pytest.mark.parametrize("case", CASES)
def test_gradients_reach_every_parameter(case):
    model = case.build()
    outputs = pytree.tree_leaves(model(*case.inputs()))
    sum(output.square().sum() for output in outputs).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def assert_equal(got, expected):
    pairs = zip(pytree.tree_leaves(got), pytree.tree_leaves(expected), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
