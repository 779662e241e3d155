# SPDX-License-Identifier: Apache-2.0
"""A rollout is a loop that keeps the last state only."""

import weakref

import pytest
import torch

from physicsnemo.models.dlwp import DLWP
from physicsnemo.utils.weather import rollout


def linear():
    return torch.nn.Linear(4, 4)


def test_equals_a_loop():
    model, state = linear(), torch.randn(2, 4)
    found = list(rollout(model, state, steps=3))
    for step in found:
        state = model(state)
        assert torch.equal(step, state)
        assert not step.requires_grad


def test_of_a_weather_model_with_constants_and_forcing():
    torch.manual_seed(0)
    model = DLWP(2 + 1 + 1, 2, nr_initial_channels=4, depth=1).eval()
    state, land = torch.randn(1, 2, 6, 4, 4), torch.randn(1, 1, 6, 4, 4)
    sun = torch.randn(3, 1, 1, 6, 4, 4)

    def following(state, insolation):
        return state + model(torch.cat((state, land, insolation), dim=1))

    found = list(rollout(following, state, 3, forcing=lambda step: sun[step]))
    with torch.no_grad():
        for step in range(3):
            state = state + model(torch.cat((state, land, sun[step]), dim=1))
            torch.testing.assert_close(found[step], state)


def test_states_of_several_parts():
    def leapfrog(state):
        before, now = state
        return now, before + now

    before, now = zip(*rollout(leapfrog, (0, 1), 6), strict=True)
    assert now == (1, 2, 3, 5, 8, 13)
    assert before == (1, 1, 2, 3, 5, 8)


def test_none_but_the_last_state_is_alive():
    model, seen = linear(), []
    for state in rollout(model, torch.randn(2, 4), steps=5):
        assert [reference() for reference in seen[:-1]] == [None] * len(seen[:-1])
        seen.append(weakref.ref(state))
    assert len(seen) == 5


def test_the_initial_state_is_let_go():
    initial = torch.randn(2, 4)
    reference = weakref.ref(initial)
    states = rollout(linear(), initial, steps=3)
    del initial
    next(states)
    assert reference() is None


def test_nothing_is_computed_ahead():
    calls = []
    states = rollout(lambda state, step: calls.append(step), None, 10**9, forcing=lambda step: step)
    assert calls == []
    next(states)
    next(states)
    assert calls == [0, 1]


def test_gradients_on_demand():
    model, initial = linear().double(), torch.randn(2, 4, dtype=torch.float64)
    *_, last = rollout(model, initial, 3, gradients=True)
    found = torch.autograd.grad(last.sum(), model.weight)[0]
    expected = torch.autograd.grad(model(model(model(initial))).sum(), model.weight)[0]
    assert torch.equal(found, expected)
    with torch.no_grad():
        *_, last = rollout(model, initial, 3, gradients=True)
    assert not last.requires_grad


def test_what_the_caller_does_between_steps_has_gradients():
    model = linear()
    for state in rollout(model, torch.randn(2, 4), steps=2):
        assert torch.is_grad_enabled()
        assert model(state).requires_grad


def test_wrong_number_of_steps():
    assert list(rollout(linear(), torch.zeros(4), steps=0)) == []
    with pytest.raises(ValueError, match="at least 0, got -1"):
        rollout(linear(), torch.zeros(4), steps=-1)
