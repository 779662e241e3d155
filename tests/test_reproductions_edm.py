# SPDX-License-Identifier: Apache-2.0
"""The errors of samplers that ``reproductions.edm`` measures are those of the solutions."""

import json

import pytest
import torch

from physicsnemo.diffusion import EDM, VP, sample
from reproductions.edm import RADIUS, WIDTH, Mixture, errors, exact, main, steps_of


@pytest.mark.parametrize("schedule", [EDM(), VP()], ids=lambda it: type(it).__name__)
def test_the_estimate_follows_from_the_density(schedule):
    """By Tweedie's formula: data with noise, and the noise's variance times the score."""
    model = Mixture(schedule).double()
    t = torch.tensor(schedule.times(5)[:-1], dtype=torch.float64)
    x = torch.randn(len(t), 2, dtype=torch.float64, requires_grad=True)
    alpha, level = schedule.alpha(t)[:, None], schedule.level(t)[:, None]
    squares = (x[:, None] / alpha[..., None] - model.means).square().sum(-1)
    log_density = (squares / (-2 * (WIDTH**2 + level**2))).logsumexp(1)
    (score,) = torch.autograd.grad(log_density.sum(), x)
    torch.testing.assert_close(model(x, t), x / alpha + level**2 * alpha * score, rtol=1e-9, atol=0)


def test_the_exact_solution_is_the_limit_of_many_steps():
    noise = torch.randn(8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    schedule = EDM(sigma_min=1e-4)
    right = exact(noise, schedule, schedule.times(2))
    got = sample(Mixture(schedule).double(), noise, steps=800, method="heun")
    torch.testing.assert_close(got, right, rtol=0, atol=1e-5)
    assert (right.norm(dim=1) - RADIUS).abs().max() < 6 * WIDTH


def test_orders():
    """Twice the evaluations halve errors of Euler's method, and quarter those of Heun's."""
    found = errors(50, (159, 319), seed=1)
    for name, order, tolerance in [("EDM, Euler", 1, 0.2), ("VE, EDM's steps, Heun", 2, 0.3)]:
        coarse, fine = found[name].values()
        assert torch.tensor(coarse / fine).log2().item() == pytest.approx(order, abs=tolerance)
    assert found["EDM, Heun"][159] < found["VP, its own steps, Euler"][319] / 3
    assert (steps_of(79, "heun"), steps_of(79, "euler")) == (40, 79)


def test_results_are_written(tmp_path):
    main(["--output", str(tmp_path), "--small"])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["errors"]["EDM, Heun"]["79"] < 0.01
    assert (tmp_path / "errors.png").stat().st_size > 10_000
