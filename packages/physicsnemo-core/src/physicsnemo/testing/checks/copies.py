# SPDX-License-Identifier: Apache-2.0
"""Copies of a model, and other models of its class, are independent of it."""

import copy
import pickle

import torch

from physicsnemo.models.module import Module
from physicsnemo.testing._compare import (
    assert_equal,
    assert_same_state,
    disturb,
    exactness,
    move,
    prepare,
    run,
)
from physicsnemo.testing.case import Case


def check_deepcopy(case: Case, device: torch.device) -> None:
    """Deep copies of a used model compute the same, and share nothing with it."""
    model, inputs = prepare(case, device)
    before = run(model, inputs)
    twin = copy.deepcopy(model)
    assert_same_state(twin.state_dict(), model.state_dict())
    assert_equal(run(twin, inputs), before, exactness(device), "the copy's output")
    _use(twin, case, device)
    assert_equal(run(model, inputs), before, exactness(device), "after use of its copy, the output")


def check_pickle(case: Case, device: torch.device) -> None:
    """Pickling a used model, as other processes need, brings back the same."""
    model, inputs = prepare(case, device)
    before = run(model, inputs)
    twin = pickle.loads(pickle.dumps(model))
    assert_same_state(twin.state_dict(), model.state_dict())
    assert_equal(run(twin, inputs), before, exactness(device))


def check_instances(case: Case, device: torch.device) -> None:
    """Models of one class, made earlier or later, do not change each other."""
    first, inputs = prepare(case, device)
    before = run(first, inputs)
    _use(case.build(seed=1).to(device), case, device)
    message = "after use of another model, the output of {}"
    assert_equal(run(first, inputs), before, exactness(device), message.format("an older one"))
    later = prepare(case, device)[0]
    assert_equal(run(later, inputs), before, exactness(device), message.format("a newer one"))


def _use(model: Module, case: Case, device: torch.device) -> None:
    """Change the weights, as training does, and call the model in training mode."""
    disturb(model)
    run(model.train(), move(case.inputs(), device), seed=1)
