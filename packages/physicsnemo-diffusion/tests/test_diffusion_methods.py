# SPDX-License-Identifier: Apache-2.0
"""Methods of sampling: orders of convergence, and distributions with a closed form."""

import math
from itertools import pairwise

import pytest
import torch

from physicsnemo.diffusion import (
    DDIM,
    EDM,
    IDDPM,
    VE,
    VP,
    Churn,
    DPMSolver,
    Euler,
    EulerMaruyama,
    Flow,
    Heun,
    sample,
)

STD = 0.5


class Mixture(torch.nn.Module):
    """Estimate of data that are a mixture of normal distributions, in noise of a schedule."""

    weights = torch.tensor([0.3, 0.7], dtype=torch.float64)
    means = torch.tensor([[-1.0, 0.5], [0.6, -0.4]], dtype=torch.float64)
    covariances = torch.tensor(
        [[[0.10, 0.05], [0.05, 0.20]], [[0.30, -0.10], [-0.10, 0.15]]], dtype=torch.float64
    )

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule

    def forward(self, x, t, condition=None):
        x = x / self.schedule.alpha(t)[:, None]
        level = self.schedule.level(t)[:, None, None, None]
        noisy = self.covariances + level**2 * torch.eye(2, dtype=x.dtype)
        away = (x[:, None] - self.means)[..., None]
        solved = torch.linalg.solve(noisy, away)
        exponent = 0.5 * (away * solved).sum(dim=(-2, -1)) + 0.5 * torch.logdet(noisy)
        shares = (self.weights.log() - exponent).softmax(dim=1)
        estimates = self.means + (self.covariances @ solved)[..., 0]
        return (shares[..., None] * estimates).sum(dim=1)

    def mean(self):
        return self.weights @ self.means

    def covariance(self):
        away = self.means - self.mean()
        within = torch.einsum("k,kij->ij", self.weights, self.covariances)
        return within + torch.einsum("k,ki,kj->ij", self.weights, away, away)


def assert_mean_and_covariance(samples, mean, covariance):
    """Within four standard errors."""
    n = len(samples)
    error = samples.std(dim=0) / math.sqrt(n)
    assert ((samples.mean(dim=0) - mean).abs() < 4 * error).all()
    away = samples - mean
    products = away[:, :, None] * away[:, None, :]
    error = products.std(dim=0) / math.sqrt(n)
    assert ((products.mean(dim=0) - covariance).abs() < 4 * error).all()


@pytest.mark.parametrize(
    ("method", "steps"),
    [
        ("euler", 300),
        ("heun", 100),
        ("ddim", 300),
        ("dpm-solver", 60),
        ("euler-maruyama", 400),
        ("churn", 100),
        (DDIM(eta=1.0), 400),
        (Churn(DPMSolver(), amount=20.0), 400),
    ],
    ids=str,
)
@pytest.mark.parametrize("schedule", [EDM(), VE(), VP()], ids=lambda it: type(it).__name__)
def test_mixtures(method, steps, schedule):
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(3000, 2, dtype=torch.float64, generator=generator)
    mixture = Mixture(schedule)
    samples = sample(mixture, noise, steps=steps, method=method, generator=generator)
    assert_mean_and_covariance(samples, mixture.mean(), mixture.covariance())


def test_a_mixture_with_discrete_levels():
    mixture = Mixture(IDDPM())
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(3000, 2, dtype=torch.float64, generator=generator)
    samples = sample(mixture, noise, steps=60)
    assert_mean_and_covariance(samples, mixture.mean(), mixture.covariance())


def gaussian(schedule):
    """Return the estimate of data of mean 0 and standard deviation STD."""

    def estimate(x, t):
        level = schedule.flow.schedule.sigma(t)
        return x / schedule.flow.s(t) * STD**2 / (STD**2 + level**2)

    return estimate


def deviation(schedule, t):
    """Return the standard deviation at a time."""
    return schedule.flow.s(t) * math.hypot(STD, schedule.flow.schedule.sigma(t))


def grid(schedule, steps):
    """Return times from much noise to little, smoothly spaced."""
    if isinstance(schedule, VP):
        return [1 - i / steps * 0.95 for i in range(steps + 1)]
    low, high = (level ** (1 / 7) for level in (0.1, 20.0))
    levels = ((high + i / steps * (low - high)) ** 7 for i in range(steps + 1))
    return [schedule.flow.schedule.sigma_inv(level) for level in levels]


def solved(method, schedule, steps):
    times = grid(schedule, steps)
    flow = Flow(gaussian(schedule), schedule, steps)
    x = torch.ones(1, 1, dtype=torch.float64) * deviation(schedule, times[0])
    for t, t_next in pairwise(times):
        x = method(flow, x, t, t_next)
    return abs(float(x) / deviation(schedule, times[-1]) - 1)


@pytest.mark.parametrize(
    ("method", "order"),
    [(Euler(), 1), (DDIM(), 1), (Heun(), 2), (Heun(alpha=0.7), 2), (DPMSolver(), 2)],
    ids=str,
)
@pytest.mark.parametrize("schedule", [EDM(), VE(), VP()], ids=lambda it: type(it).__name__)
def test_orders_of_convergence(method, order, schedule):
    coarse, fine = (solved(method, schedule, steps) for steps in (200, 400))
    assert abs(math.log2(coarse / fine) - order) < 0.15


class Told(Flow):
    """A flow whose noise is a given number."""

    number = 0.0

    def noise(self, x):
        return torch.full_like(x, self.number)


@pytest.mark.parametrize("method", [EulerMaruyama(), DDIM(eta=1.0)], ids=str)
@pytest.mark.parametrize("schedule", [EDM(), VE(), VP()], ids=lambda it: type(it).__name__)
def test_weak_orders_of_stochastic_methods(method, schedule):
    def error(steps):
        """Return that of the variance, which is linear in what a step multiplies and adds."""
        times = grid(schedule, steps)
        variance = deviation(schedule, times[0]) ** 2
        for t, t_next in pairwise(times):
            flow = Told(gaussian(schedule), schedule, steps)
            factor = float(method(flow, torch.ones(1, 1, dtype=torch.float64), t, t_next))
            flow.number = 1.0
            added = float(method(flow, torch.zeros(1, 1, dtype=torch.float64), t, t_next))
            variance = factor**2 * variance + added**2
        return abs(variance / deviation(schedule, times[-1]) ** 2 - 1)

    assert abs(math.log2(error(200) / error(400)) - 1) < 0.15


@pytest.mark.parametrize("schedule", [EDM(), VE(), VP()], ids=lambda it: type(it).__name__)
def test_churn_raises_the_variance_as_time_does(schedule):
    t, t_next = schedule.times(10)[4:6]
    reached = []

    def stay(flow, x, t, t_next):
        reached.append(t)
        return x

    churn = Churn(stay, amount=2.0)
    flow = Told(gaussian(schedule), schedule, steps=10)
    factor = float(churn(flow, torch.ones(1, 1, dtype=torch.float64), t, t_next))
    flow.number = 1.0
    added = float(churn(flow, torch.zeros(1, 1, dtype=torch.float64), t, t_next))
    variance = (factor * deviation(schedule, t)) ** 2 + added**2
    assert variance == pytest.approx(deviation(schedule, reached[0]) ** 2, rel=1e-12)
    level = schedule.flow.schedule.sigma
    assert level(reached[0]) == pytest.approx(1.2 * level(t), rel=1e-9)
    outside = Churn(stay, amount=2.0, level_max=level(t) / 2)
    torch.testing.assert_close(outside(flow, torch.ones(1, 1), t, t_next), torch.ones(1, 1))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Heun(alpha=0.0),
        lambda: DDIM(eta=1.5),
        lambda: Churn(amount=-1.0),
        lambda: Churn(level_min=2.0, level_max=1.0),
    ],
)
def test_options_that_are_refused(make):
    with pytest.raises(ValueError, match="expected"):
        make()
