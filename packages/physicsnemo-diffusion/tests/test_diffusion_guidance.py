# SPDX-License-Identifier: Apache-2.0
"""Guidance: posteriors of linear inverse problems, and weighted conditions."""

import math

import pytest
import torch

from physicsnemo.diffusion import EDM, VE, VP, ClassifierFree, Observed, sample

PRIOR_MEAN = torch.tensor([0.3, -0.5, 0.0], dtype=torch.float64)
PRIOR_STD = 0.5
ROWS = torch.tensor([[0.8, 0.6, 0.0], [0.0, 0.0, 2.0]], dtype=torch.float64)  # orthogonal
Y = torch.tensor([[1.2, -1.0]], dtype=torch.float64)
each_schedule = pytest.mark.parametrize(
    "schedule", [EDM(), VE(), VP()], ids=lambda it: type(it).__name__
)


class Prior(torch.nn.Module):
    """Estimate of independent normal data, whose mean a condition multiplies."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule

    def forward(self, x, t, condition=None):
        mean = PRIOR_MEAN if condition is None else condition["vector"] * PRIOR_MEAN
        level = self.schedule.level(t)[:, None]
        away = x / self.schedule.alpha(t)[:, None] - mean
        return mean + away * PRIOR_STD**2 / (PRIOR_STD**2 + level**2)


def samples_of(model, condition=None, n=4000, steps=100, **options):
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(n, 3, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        return sample(model, noise, condition, steps=steps, generator=generator, **options)


def posterior(std):
    precision = torch.eye(3, dtype=torch.float64) / PRIOR_STD**2 + ROWS.T @ ROWS / std**2
    covariance = torch.linalg.inv(precision)
    mean = PRIOR_MEAN + covariance @ ROWS.T @ (Y[0] - ROWS @ PRIOR_MEAN) / std**2
    return mean, covariance


def assert_normal(samples, mean, covariance):
    """Mean and covariance are these, within four standard errors."""
    n, variances = len(samples), covariance.diagonal()
    assert ((samples.mean(dim=0) - mean).abs() < 4 * (variances / n).sqrt()).all()
    error = ((variances[:, None] * variances + covariance**2) / n).sqrt()
    assert ((samples.T.cov() - covariance).abs() < 4 * error).all()


def of_estimate(level):
    """Return the variance of the estimate's error, of each observation, over that of the noise."""
    return PRIOR_STD**2 / (PRIOR_STD**2 + level**2) * ROWS.square().sum(dim=1)


@each_schedule
@pytest.mark.parametrize("method", ["heun", "dpm-solver", "churn"])
def test_assimilation_samples_the_posterior(method, schedule):
    """SDA, with the covariance of the prior."""
    std = 0.3
    observed = Observed(Y, std, operator=lambda x0: x0 @ ROWS.T, gamma=of_estimate)
    samples = samples_of(Prior(schedule), method=method, guidance=observed, steps=150)
    assert_normal(samples, *posterior(std))


def test_energies_of_parts_make_the_same_posterior():
    parts = [
        Observed(
            Y[:, i : i + 1],
            0.3,
            operator=lambda x0, i=i: x0 @ ROWS[i : i + 1].T,
            gamma=lambda level, i=i: of_estimate(level)[i],
        )
        for i in range(2)
    ]
    whole = Observed(Y, 0.3, operator=lambda x0: x0 @ ROWS.T, gamma=of_estimate)
    apart, together = (
        samples_of(Prior(EDM()), n=10, steps=20, guidance=energies) for energies in (parts, whole)
    )
    torch.testing.assert_close(apart, together)


@each_schedule
def test_posterior_sampling_where_the_estimate_is_better_than_observations(schedule):
    """DPS: exact where the data vary less than the noise of observations."""
    std, y = 8.0, torch.tensor([[0.0, 0.0, 300.0]], dtype=torch.float64)
    gain = PRIOR_STD**2 / (PRIOR_STD**2 + std**2)
    mean = PRIOR_MEAN + gain * (y[0] - PRIOR_MEAN)
    covariance = (1 - gain) * PRIOR_STD**2 * torch.eye(3, dtype=torch.float64)
    samples = samples_of(Prior(schedule), n=1000, guidance=Observed(y, std))
    assert_normal(samples, mean, covariance)


def test_posterior_sampling_follows_its_own_equation():
    """DPS elsewhere: mean and deviation by the Runge-Kutta method, of numbers."""
    std, y, variance = 0.4, 1.5, PRIOR_STD**2

    def slope(level, x, mean, y):
        keep = variance / (variance + level**2)
        x0 = mean + keep * (x - mean)
        guided = x0 - level**2 * keep * (x0 - y) / std**2
        return x - guided  # of the logarithm of the level

    def solved(x, mean, y, steps=20_000):
        h = math.log(0.002 / 80) / steps
        for i in range(steps):
            level, half = 80 * math.exp(i * h), math.exp(h / 2)
            k1 = slope(level, x, mean, y)
            k2 = slope(level * half, x + h / 2 * k1, mean, y)
            k3 = slope(level * half, x + h / 2 * k2, mean, y)
            k4 = slope(level * half**2, x + h * k3, mean, y)
            x += h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return x

    mean, deviation = solved(0.0, float(PRIOR_MEAN[0]), y), solved(80.0, 0.0, 0.0)
    mask = torch.tensor([True, False, False])
    observations = torch.tensor([[y, math.nan, math.nan]], dtype=torch.float64)
    samples = samples_of(Prior(EDM()), guidance=Observed(observations, std, mask=mask), steps=400)
    variances = torch.tensor([deviation**2, variance, variance], dtype=torch.float64)
    expected = PRIOR_MEAN.clone()
    expected[0] = mean
    assert_normal(samples, expected, variances.diag())


def test_energies():
    y = torch.tensor([[1.0, math.nan]])
    x0 = torch.tensor([[3.0, 7.0], [0.0, 0.0]], requires_grad=True)
    mask = torch.tensor([True, False])
    energy = Observed(y, std=2.0, mask=mask, gamma=3.0, p=1)(x0, 2.0)
    torch.testing.assert_close(energy, torch.tensor([2.0, 1.0]) / (2 * (4 + 12)))
    energy.sum().backward()
    assert torch.isfinite(x0.grad).all()
    std = torch.tensor([1.0, 2.0])
    energy = Observed(torch.zeros(1, 2), std)(torch.ones(1, 2), 1.0)
    torch.testing.assert_close(energy, torch.tensor([0.5 + 0.125]))
    with pytest.raises(ValueError, match="broadcasts"):
        Observed(torch.zeros(3, 1, 1), 1.0)(x0, 1.0)
    for options in ({"std": 0.0}, {"std": 1.0, "p": 0}):
        with pytest.raises(ValueError, match="above 0"):
            Observed(y, **options)


@each_schedule
@pytest.mark.parametrize("weight", [0.0, 1.5])
def test_weighted_conditions_move_the_mean(weight, schedule):
    """Of normal data of the same covariance, the guided score is that of another mean."""
    model = ClassifierFree(Prior(schedule), weight, without={"vector": torch.full((1, 1), 0.5)})
    samples = samples_of(model, {"vector": torch.full((1, 1), 2.0)})
    mean = ((1 + weight) * 2.0 - weight * 0.5) * PRIOR_MEAN
    assert_normal(samples, mean, PRIOR_STD**2 * torch.eye(3, dtype=torch.float64))


def test_zeros_stand_for_no_condition():
    prior, x, t = Prior(EDM()), torch.randn(2, 3).double(), torch.ones(2).double()
    condition = {"vector": torch.full((2, 1), 2.0).double()}
    zeros = {"vector": torch.zeros(2, 1).double()}
    expected = 4 * prior(x, t, condition) - 3 * prior(x, t, zeros)
    torch.testing.assert_close(ClassifierFree(prior, 3.0)(x, t, condition), expected)
    with pytest.raises(ValueError, match="condition to guide by"):
        ClassifierFree(prior, 3.0)(x, t)


def test_guidance_needs_gradients():
    with torch.inference_mode(), pytest.raises(RuntimeError, match="no_grad"):
        sample(Prior(EDM()), torch.ones(1, 3), guidance=Observed(torch.ones(1, 3), 1.0))
