# SPDX-License-Identifier: Apache-2.0
"""Rollouts on a GPU: one replay a step, the states of a plain loop, and memory that stays."""

import gc

import pytest
import torch

from physicsnemo.utils.weather import rollout
from tools.bench.rollouts import FORECASTS, Forecast, prepare

pytestmark = pytest.mark.gpu

WARMUP, STEPS = 2, 12


@pytest.mark.parametrize("forecast", FORECASTS["small"], ids=lambda it: str(it.case))
def test_replayed_steps(
    forecast: Forecast, gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    plain, state = prepare(forecast, "eager", gpu)
    captured, _ = prepare(forecast, "capture", gpu, warmup=WARMUP)
    for expected in rollout(plain, state, STEPS):
        del expected  # loads libraries, and makes their workspaces
    memory = []
    expectations = rollout(plain, state, STEPS)
    for after in rollout(captured, state, STEPS):
        torch.testing.assert_close(after, next(expectations), rtol=1e-3, atol=1e-3)
        gc.collect()
        memory.append(torch.cuda.memory_allocated())
    # The state that a rollout begins with may lie in memory unlike those that follow.
    assert captured.replays() >= STEPS - WARMUP - 1
    assert memory[WARMUP + 2 :] == [memory[-1]] * (STEPS - WARMUP - 2)
