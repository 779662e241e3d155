# SPDX-License-Identifier: Apache-2.0
"""Noise schedulers of release 2.2: closed forms of their table, by numbers."""

import math

import pytest
import torch

from physicsnemo.diffusion.noise_schedulers import (
    EDMLogUniformNoiseScheduler,
    EDMNoiseScheduler,
    IDDPMNoiseScheduler,
    LinearGaussianNoiseScheduler,
    NoiseScheduler,
    StudentTEDMNoiseScheduler,
    VENoiseScheduler,
    VPNoiseScheduler,
)
from physicsnemo.utils.diffusion import StackedRandomGenerator

T = torch.tensor([0.002, 0.1, 0.5, 1.0], dtype=torch.float64)
X, X0 = (torch.randn(4, 2, 3, dtype=torch.float64) for _ in range(2))
EXACT = {"rtol": 1e-12, "atol": 1e-12}
ALL = [
    EDMNoiseScheduler(),
    EDMLogUniformNoiseScheduler(),
    VENoiseScheduler(),
    VPNoiseScheduler(),
    IDDPMNoiseScheduler(M=100),
    StudentTEDMNoiseScheduler(),
]
each = pytest.mark.parametrize("scheduler", ALL, ids=lambda it: type(it).__name__)


def alpha_of_vp(t):
    return torch.exp(-0.5 * (0.5 * 19.1 * t**2 + 0.1 * t))


def wide(values):
    return values[:, None, None]


def test_factors_and_slopes():
    one, zero = torch.ones_like(T), torch.zeros_like(T)
    alpha = alpha_of_vp(T)
    alpha_dot = -0.5 * (0.1 + 19.1 * T) * alpha
    sigma = (1 - alpha**2).sqrt()
    for scheduler, expected in [
        (EDMNoiseScheduler(), (T, one, one, zero)),
        (IDDPMNoiseScheduler(), (T, one, one, zero)),
        (VENoiseScheduler(), (T.sqrt(), 0.5 / T.sqrt(), one, zero)),
        (VPNoiseScheduler(), (sigma, -alpha * alpha_dot / sigma, alpha, alpha_dot)),
    ]:
        found = (scheduler.sigma, scheduler.sigma_dot, scheduler.alpha, scheduler.alpha_dot)
        for function, values in zip(found, expected, strict=True):
            torch.testing.assert_close(function(T), values, rtol=1e-11, atol=1e-12)


@each
def test_times_of_noise_are_the_inverse(scheduler):
    torch.testing.assert_close(scheduler.sigma_inv(scheduler.sigma(T)), T, rtol=1e-10, atol=0)


@each
def test_conversions_agree(scheduler):
    alpha, sigma = wide(scheduler.alpha(T)), wide(scheduler.sigma(T))
    epsilon = (X - alpha * X0) / sigma
    score = (alpha * X0 - X) / sigma**2
    for found, expected in [
        (scheduler.x0_to_epsilon(X0, X, T), epsilon),
        (scheduler.x0_to_score(X0, X, T), score),
        (scheduler.score_to_epsilon(score, T), epsilon),
        (scheduler.epsilon_to_score(epsilon, T), score),
        (alpha * scheduler.epsilon_to_x0(epsilon, X, T), alpha * X0),
        (alpha * scheduler.score_to_x0(score, X, T), alpha * X0),
    ]:
        torch.testing.assert_close(found, expected, **EXACT)


def test_equations():
    t, rate = wide(T), wide(0.1 + 19.1 * T)
    score = VPNoiseScheduler().x0_to_score(X0, X, T)
    for scheduler, drift, diffusion, slope in [
        (EDMNoiseScheduler(), 0 * X, 2 * t, (X - X0) / t),
        (VENoiseScheduler(), 0 * X, torch.ones_like(t), (X - X0) / (2 * t)),
        (VPNoiseScheduler(), -0.5 * rate * X, rate, -0.5 * rate * (X + score)),
    ]:
        # Of all sizes there are, by the largest.
        close = {"rtol": 1e-10, "atol": 1e-12}
        torch.testing.assert_close(scheduler.drift(X, T), drift, **close)
        torch.testing.assert_close(scheduler.diffusion(X, T), diffusion, **close)
        for kind, predicted in {
            "x0": X0,
            "score": scheduler.x0_to_score(X0, X, T),
            "epsilon": scheduler.x0_to_epsilon(X0, X, T),
        }.items():
            given = {f"{kind}_predictor": lambda x, t, it=predicted: it}
            torch.testing.assert_close(scheduler.get_denoiser(**given)(X, T), slope, **close)
            stochastic = scheduler.get_denoiser(**given, denoising_type="sde")(X, T)
            torch.testing.assert_close(stochastic, 2 * slope - drift, **close)


def test_weights():
    for scheduler, weight in [
        (EDMNoiseScheduler(sigma_data=2.0), (T**2 + 4) / (2 * T) ** 2),
        (EDMLogUniformNoiseScheduler(), (T**2 + 0.25) / (0.5 * T) ** 2),
        (StudentTEDMNoiseScheduler(nu=4), (2 * T**2 + 0.25) / (0.5 * T) ** 2 / 2),
        (VENoiseScheduler(), 1 / T),
        (VPNoiseScheduler(), alpha_of_vp(T) ** 2 / (1 - alpha_of_vp(T) ** 2)),
        (IDDPMNoiseScheduler(), 1 / T**2),
    ]:
        torch.testing.assert_close(scheduler.loss_weight(T), weight, rtol=1e-11, atol=0)
    of_channels = EDMNoiseScheduler(sigma_data=torch.tensor([0.5, 2.0])).loss_weight(T)
    torch.testing.assert_close(of_channels[:, 0], EDMNoiseScheduler().loss_weight(T))
    torch.testing.assert_close(of_channels[:, 1], EDMNoiseScheduler(sigma_data=2.0).loss_weight(T))


@each
def test_times(scheduler):
    assert isinstance(scheduler, NoiseScheduler)
    times = scheduler.timesteps(8, dtype=torch.float64)
    assert (times.diff() < 0).all()
    assert (times.shape, times[-1]) == ((9,), 0)
    assert scheduler.timesteps(1).tolist() == [pytest.approx(float(times[0])), 0]
    drawn = scheduler.sample_time(1000)
    assert (drawn.shape, drawn.dtype) == ((1000,), torch.float32)
    assert 0 < drawn.min() < drawn.max()


def test_times_to_a_latest_one():
    scheduler = VPNoiseScheduler(epsilon_s=0.2, t_max=0.8)
    assert scheduler.timesteps(4).tolist() == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0])
    drawn = scheduler.sample_time(4000, dtype=torch.float64)
    assert [float(drawn.min()), float(drawn.max())] == pytest.approx([0.2, 0.8], abs=0.01)
    assert float(drawn.mean()) == pytest.approx(0.5, abs=4 * 0.6 / math.sqrt(12 * 4000))


@each
def test_noise_has_the_deviation_of_the_schedule(scheduler):
    t = torch.full((4000,), 0.3, dtype=torch.float64)
    data = torch.ones(4000, 8, dtype=torch.float64)
    spread = scheduler.schedule.spread
    sigma, alpha = float(scheduler.sigma(t[0])), float(scheduler.alpha(t[0]))
    for noise in [
        scheduler.add_noise(data, t) - alpha,
        scheduler.init_latents((8,), t, dtype=torch.float64),
    ]:
        variances = noise.square().mean(dim=1) / (sigma * spread) ** 2
        assert abs(float(variances.mean()) - 1) < 4 * float(variances.std()) / math.sqrt(4000)


def test_noise_by_seeds():
    scheduler, t = EDMNoiseScheduler(), torch.ones(2)
    whole = scheduler.init_latents((3, 4), t, generator=StackedRandomGenerator("cpu", [1, 2]))
    one = scheduler.init_latents((3, 4), t[:1], generator=StackedRandomGenerator("cpu", [2]))
    torch.testing.assert_close(whole[1:], one)


class Cosine(LinearGaussianNoiseScheduler):
    """A schedule of one's own, without slopes."""

    def sigma(self, t):
        return (0.5 * math.pi * t).sin()

    def sigma_inv(self, sigma):
        return sigma.asin() / (0.5 * math.pi)

    def alpha(self, t):
        return (0.5 * math.pi * t).cos()

    def timesteps(self, num_steps, *, device=None, dtype=None):
        return torch.linspace(0.95, 0, num_steps + 1, device=device, dtype=dtype)

    def sample_time(self, N, *, device=None, dtype=None):  # noqa: N803
        return torch.rand(N, device=device, dtype=dtype)

    def loss_weight(self, t):
        return torch.ones_like(t)


def test_a_schedule_of_ones_own():
    half = 0.5 * math.pi
    torch.testing.assert_close(Cosine().sigma_dot(T), half * (half * T).cos(), **EXACT)
    times = T[:-1]
    expected = wide(math.pi * (half * times).tan())  # g^2, where a^2 + s^2 = 1
    torch.testing.assert_close(Cosine().diffusion(X[:-1], times), expected, **EXACT)


@pytest.mark.parametrize("gradients", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_slopes_whatever_the_mode_of_gradients(gradients):
    with gradients():
        t = torch.full((1,), 0.5).expand(2)  # as scripts make times of samples
        torch.testing.assert_close(VENoiseScheduler().sigma_dot(t), 0.5 / t.sqrt())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "got none"),
        ({"x0_predictor": abs, "score_predictor": abs}, "score_predictor and x0_predictor"),
        ({"x0_predictor": abs, "denoising_type": "pde"}, "ode"),
    ],
)
def test_predictors_that_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        EDMNoiseScheduler().get_denoiser(**options)


def test_numbers_that_are_refused():
    for make in (
        lambda: StudentTEDMNoiseScheduler(nu=2),
        lambda: EDMNoiseScheduler(sigma_min=2.0, sigma_max=1.0),
        lambda: VPNoiseScheduler(epsilon_s=0.5, t_max=0.4),
    ):
        with pytest.raises(ValueError, match="expected"):
            make()
