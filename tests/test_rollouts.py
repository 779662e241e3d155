# SPDX-License-Identifier: Apache-2.0
"""Rollouts of captured steps equal a plain loop, and keep the last state only."""

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from physicsnemo.utils.weather import rollout
from tools.bench import rollouts
from tools.bench.rollouts import FORECASTS, Forecast, prepare

CPU = torch.device("cpu")
STEPS = 4
FORECAST = pytest.mark.parametrize("forecast", FORECASTS["small"], ids=lambda it: str(it.case))


def plain_loop(forecast: Forecast, state: Any) -> Iterator[Any]:
    """Yield each state of a loop without the decorator and without ``rollout``."""
    model = forecast.case.build().eval()
    for _ in range(STEPS):
        with torch.no_grad():
            after = forecast.advance(model, state)
        state = pytree.tree_map(lambda it: it.clamp(-10, 10), after)
        yield state


@FORECAST
def test_a_rollout_of_captured_steps(forecast: Forecast) -> None:
    """It equals the loop; of states that were yielded, none is alive but the last."""
    following, state = prepare(forecast, "capture", CPU)
    (initial,) = forecast.case.inputs()
    seen: list[weakref.ref[Tensor]] = []
    tensors: list[int] = []
    expected = plain_loop(forecast, initial)
    for after in rollout(following, state, STEPS):
        torch.testing.assert_close(after, next(expected), rtol=0, atol=0)
        changing = pytree.tree_leaves(after)[0]
        assert [reference() for reference in seen] == [None] * len(seen)
        seen.append(weakref.ref(changing))
        del changing
        gc.collect()
        tensors.append(sum(type(it) is Tensor for it in gc.get_objects()))
    assert len(seen) == STEPS
    assert tensors[1:] == [tensors[1]] * (STEPS - 1)


def test_rollouts_are_timed(capsys: pytest.CaptureFixture[str]) -> None:
    rollouts.main(
        [
            *("--device", "cpu", "--size", "small", "--models", "DLWP"),
            *("--variants", "eager", "capture", "--steps", "6", "--min-run-time", "0.01"),
        ]
    )
    assert capsys.readouterr().out.count("DLWP-small") == 4
