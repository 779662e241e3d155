# SPDX-License-Identifier: Apache-2.0
"""The deterministic sampler against exact solutions of the probability-flow equation."""

import itertools
import math

import numpy as np
import pytest
import torch

from physicsnemo.models.diffusion import VPPrecond
from physicsnemo.utils.diffusion import deterministic_sampler

ORDERS = {"euler": 1, "heun": 2}
PATHS = list(itertools.product(["linear", "vp", "ve"], ["none", "vp"]))
LATENTS = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]

# A long last step would set a floor to the error.
RANGE = {"sigma_min": 1e-4, "sigma_max": 5.0, "epsilon_s": 1e-5}


def gaussian(x, sigma, mean=1.0, std=0.7):
    """Return the expectation of normal data, given noisy ones."""
    return mean + (x - mean) * std**2 / (std**2 + sigma**2)


def gaussian_flow(x, sigma, mean=1.0, std=0.7):
    """Return the clean data at the end of the flow through noisy ones."""
    return mean + (x - mean) / math.hypot(1, sigma / std)


WEIGHTS, MEANS, STDS = torch.tensor([[0.3, 0.7], [-1, 2], [0.4, 0.6]], dtype=torch.float64)


def mixture(x, sigma):
    """Return the expectation of data from two normal distributions, given noisy ones."""
    variances = STDS**2 + sigma**2
    log_density = WEIGHTS.log() - 0.5 * variances.log() - 0.5 * (x - MEANS) ** 2 / variances
    means = MEANS + (x - MEANS) * STDS**2 / variances
    return (log_density.softmax(dim=1) * means).sum(dim=1, keepdim=True)


def mixture_flow(x, sigma):
    """Return the clean data of equal cumulative probability, which a flow on a line keeps."""

    def probability(x, sigma):
        cdf = torch.special.ndtr((x - MEANS) / (STDS**2 + sigma**2).sqrt())
        return (WEIGHTS * cdf).sum(dim=1, keepdim=True)

    low, high = torch.full_like(x, -20), torch.full_like(x, 20)
    for _ in range(60):
        middle = (low + high) / 2
        below = probability(middle, 0.0) < probability(x, sigma)
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return low


def observed_order(net, flow, **options):
    """Return the slope of the error's logarithm in that of the step, from 32 to 256 steps."""
    exact = flow(LATENTS * RANGE["sigma_max"], RANGE["sigma_max"])
    steps = [32, 64, 128, 256]
    errors = [
        float(
            (deterministic_sampler(net, LATENTS, num_steps=n, **RANGE, **options) - exact)
            .abs()
            .max()
        )
        for n in steps
    ]
    return -np.polyfit(np.log(steps), np.log(errors), 1)[0]


@pytest.mark.parametrize(("schedule", "scaling"), PATHS)
@pytest.mark.parametrize("discretization", ["edm", "vp", "ve"])
@pytest.mark.parametrize("solver", ORDERS)
def test_converges_at_its_order_for_a_gaussian(solver, discretization, schedule, scaling):
    order = observed_order(
        gaussian,
        gaussian_flow,
        solver=solver,
        discretization=discretization,
        schedule=schedule,
        scaling=scaling,
    )
    assert order == pytest.approx(ORDERS[solver], abs=0.15)


@pytest.mark.parametrize("solver", ORDERS)
@pytest.mark.parametrize("path", [("linear", "none"), ("vp", "vp")])
def test_converges_at_its_order_for_a_mixture(solver, path):
    schedule, scaling = path
    order = observed_order(mixture, mixture_flow, solver=solver, schedule=schedule, scaling=scaling)
    assert order == pytest.approx(ORDERS[solver], abs=0.15)


@pytest.mark.parametrize("alpha", [0.5, 2 / 3])
def test_every_second_slope_gives_second_order(alpha):
    assert observed_order(mixture, mixture_flow, alpha=alpha) == pytest.approx(2, abs=0.15)


def test_iddpm_visits_the_levels_of_a_cosine_schedule():
    seen = []

    def net(x, sigma):
        seen.append(float(sigma))
        return gaussian(x, sigma)

    options = {"sigma_min": 0.05, "sigma_max": 60.0, "C_2": 0.01, "M": 300, "num_steps": 40}
    deterministic_sampler(net, LATENTS, solver="euler", discretization="iddpm", **options)
    # The recursion of the levels telescopes: n_j^2 + 1 = signal_M / signal_j.
    signal = np.sin(0.5 * np.pi * np.arange(1, 301) / 300 / 1.01) ** 2
    levels = np.sqrt(signal[-1] / signal - 1)
    inside = levels[(levels >= 0.05) & (levels <= 60)]
    chosen = np.round((len(inside) - 1) / 39 * np.arange(40)).astype(int)
    assert seen == pytest.approx(inside[chosen].tolist())


@pytest.mark.parametrize(("schedule", "scaling"), PATHS)
def test_the_levels_of_iddpm_lead_to_the_exact_map(schedule, scaling):
    start = 4.9989446  # the highest level below 5, of the 1000 that there are
    samples = deterministic_sampler(
        gaussian,
        LATENTS,
        num_steps=300,
        discretization="iddpm",
        schedule=schedule,
        scaling=scaling,
        **(RANGE | {"sigma_min": 1e-3}),
    )
    torch.testing.assert_close(samples, gaussian_flow(LATENTS * start, start), rtol=0, atol=0.01)


@pytest.mark.parametrize("discretization", ["edm", "vp", "ve", "iddpm"])
def test_default_ranges_give_the_distribution(discretization):
    latents = torch.special.ndtri(torch.linspace(0.001, 0.999, 999, dtype=torch.float64))[:, None]
    samples = deterministic_sampler(gaussian, latents, num_steps=200, discretization=discretization)
    torch.testing.assert_close(samples, 1 + 0.7 * latents, rtol=0, atol=0.05)


def first_level(**options):
    seen = []

    def net(x, sigma):
        seen.append(float(sigma))
        return 0 * x

    deterministic_sampler(net, LATENTS, num_steps=3, discretization="vp", **options)
    return seen[0], seen[-1]


def test_default_range_of_vp_is_that_of_the_paper():
    highest, lowest = first_level()
    assert highest == pytest.approx(math.sqrt(math.expm1(0.5 * 19.9 + 0.1)), rel=1e-12)
    assert highest == pytest.approx(VPPrecond(8, 1, model_channels=4, num_blocks=1).sigma_max)
    assert lowest == pytest.approx(math.sqrt(math.expm1(0.5 * 19.9e-6 + 0.1e-3)), rel=1e-9)


def test_default_range_of_another_schedule():
    highest, _ = first_level(beta_d=19.1, schedule="vp", scaling="vp")
    assert highest == pytest.approx(math.sqrt(math.expm1(0.5 * 19.1 + 0.1)), rel=1e-12)


def test_schedule_does_not_change_a_range_that_is_given():
    options = {"num_steps": 4, "discretization": "vp", "schedule": "vp", "scaling": "vp", **RANGE}
    expected = deterministic_sampler(gaussian, LATENTS, **options)
    assert torch.equal(deterministic_sampler(gaussian, LATENTS, beta_d=19.1, **options), expected)


def test_numpy_numbers_are_numbers():
    options = {"num_steps": 3, "rho": 5, "M": 100, "sigma_max": 10, "S_churn": 1}
    numpy = {name: np.int64(value) for name, value in options.items()}
    noise = {"randn_like": torch.zeros_like, "sigma_min": np.float32(0.5)}
    expected = deterministic_sampler(gaussian, LATENTS, **options, **noise)
    assert torch.equal(deterministic_sampler(gaussian, LATENTS, **numpy, **noise), expected)


def test_one_step_is_one_denoising():
    samples = deterministic_sampler(gaussian, LATENTS, num_steps=1, sigma_max=3.0)
    torch.testing.assert_close(samples, gaussian(3 * LATENTS, 3.0))


@pytest.mark.parametrize(("schedule", "scaling"), PATHS)
def test_churn_keeps_the_distribution(schedule, scaling):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(20_000, 1, generator=generator)
    samples = deterministic_sampler(
        gaussian,
        latents,
        num_steps=80,
        randn_like=lambda x: torch.randn(x.shape, dtype=x.dtype, generator=generator),
        schedule=schedule,
        scaling=scaling,
        S_churn=20,
        **RANGE | {"sigma_max": 20.0},
    )
    error = 0.7 / math.sqrt(len(samples))
    # At the start, the data's mean is still there, beneath the noise.
    assert samples.mean() == pytest.approx(1, abs=4 * error + 0.7 / 20)
    assert samples.std() == pytest.approx(0.7, abs=4 * error / math.sqrt(2))


def test_growth_by_churn_ends_at_the_root_of_two():
    seen = []

    def net(x, sigma):
        seen.append(float(sigma))
        return gaussian(x, sigma)

    options = {"solver": "euler", "num_steps": 2, "sigma_min": 1.0, "sigma_max": 4.0}
    deterministic_sampler(net, LATENTS, S_churn=100.0, **options)
    assert seen == pytest.approx([4 * math.sqrt(2), math.sqrt(2)])


def test_noise_comes_between_its_limits_only_but_is_drawn_at_each_step():
    seen, drawn = [], []

    def net(x, sigma):
        seen.append(float(sigma))
        return gaussian(x, sigma)

    def randn_like(x):
        drawn.append(x.shape)
        return torch.zeros_like(x)

    options = {"solver": "euler", "num_steps": 3, "discretization": "ve", "S_min": 1.5, "S_max": 3}
    deterministic_sampler(
        net, LATENTS, randn_like=randn_like, sigma_min=1.0, sigma_max=4.0, S_churn=0.3, **options
    )
    assert seen == pytest.approx([4, 2.2, 1])
    assert len(drawn) == 3


def test_levels_are_those_that_the_net_knows():
    class Coarse(torch.nn.Module):
        sigma_min, sigma_max = 0.5, 8.0

        def round_sigma(self, sigma):
            return (2 * torch.as_tensor(sigma)).round() / 2

        def forward(self, x, sigma):
            seen.append(float(sigma))
            return gaussian(x, sigma)

    seen = []
    deterministic_sampler(Coarse(), LATENTS, num_steps=5, solver="euler")
    assert seen[0] == 8
    assert seen[-1] == 0.5
    assert all(level == round(2 * level) / 2 for level in seen)


def test_differentiable_in_latents_conditioning_and_parameters():
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(2, 1, 2, 2, dtype=torch.float64, generator=generator),
        torch.randn(2, 1, 2, 2, dtype=torch.float64, generator=generator),
        torch.tensor(0.3, dtype=torch.float64),
    ]

    def sample(latents, image, weight):
        def net(x, img_lr, sigma):
            return torch.tanh(weight * x + img_lr) / (1 + sigma)

        return deterministic_sampler(net, latents, image, num_steps=4, schedule="vp", scaling="vp")

    assert torch.autograd.gradcheck(sample, [it.requires_grad_() for it in inputs])


@pytest.mark.parametrize("solver", ORDERS)
def test_equal_with_and_without_gradients(solver):
    options = {"solver": solver, "schedule": "vp", "scaling": "vp", "num_steps": 6, "S_churn": 2}
    options["randn_like"] = torch.ones_like
    with_graph = deterministic_sampler(gaussian, LATENTS.clone().requires_grad_(), **options)
    with torch.no_grad():
        without = deterministic_sampler(gaussian, LATENTS, **options)
    assert with_graph.requires_grad
    assert not without.requires_grad
    torch.testing.assert_close(without, with_graph.detach(), rtol=1e-14, atol=0)


def test_a_net_may_change_or_return_its_input():
    def in_place(x, sigma):
        return x.sub_(1).mul_(0.49 / (0.49 + sigma**2)).add_(1)

    with torch.no_grad():
        samples = deterministic_sampler(in_place, LATENTS, num_steps=8)
    torch.testing.assert_close(samples, deterministic_sampler(gaussian, LATENTS, num_steps=8))


@pytest.mark.parametrize("state", [torch.float32, torch.float64])
@pytest.mark.parametrize("given", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("returned", [torch.bfloat16, torch.float64])
def test_the_net_gets_the_type_of_the_latents_and_the_state_has_its_own(given, state, returned):
    types = set()

    def net(x, img_lr, sigma):
        types.update({x.dtype, img_lr.dtype})
        return gaussian(x, sigma).to(returned)

    latents = torch.zeros(2, 1, 3, 3, dtype=given)
    samples = deterministic_sampler(net, latents, latents.half(), dtype=state)
    assert samples.dtype == state
    assert types == {torch.float64 if given == state == torch.float64 else torch.float32}
