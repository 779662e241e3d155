# SPDX-License-Identifier: Apache-2.0
"""The stochastic sampler gives the distribution that the net knows, each sample by its seed."""

import math

import pytest
import torch

from physicsnemo.utils.diffusion import (
    StackedRandomGenerator,
    deterministic_sampler,
    stochastic_sampler,
)

MEAN = torch.tensor([0.5, -1.0, 0.0], dtype=torch.float64)
COVARIANCE = torch.tensor(
    [[1.0, 0.6, -0.2], [0.6, 0.8, 0.1], [-0.2, 0.1, 0.3]], dtype=torch.float64
)


def gaussian(x, sigma):
    """Return the expectation of normal vectors, given noisy ones."""
    noisy = COVARIANCE + sigma**2 * torch.eye(3, dtype=x.dtype)
    return MEAN + (x - MEAN) @ torch.linalg.solve(noisy, COVARIANCE)


@pytest.mark.parametrize("churn", [0.0, 10.0, 40.0])
def test_mean_and_covariance(churn):
    generator = torch.Generator().manual_seed(1)
    n, start = 20_000, 200.0
    latents = torch.randn(n, 3, dtype=torch.float64, generator=generator)
    samples = stochastic_sampler(
        gaussian,
        latents,
        randn_like=lambda x: torch.randn(x.shape, dtype=x.dtype, generator=generator),
        num_steps=100,
        sigma_max=start,
        S_churn=churn,
        S_min=0.01,
        S_max=50.0,
    )
    variances = COVARIANCE.diagonal()
    error_of_mean = (variances / n).sqrt()
    # Wick's theorem: var(cov_ij) = (C_ii C_jj + C_ij^2) / n.
    error_of_covariance = ((variances[:, None] * variances + COVARIANCE**2) / n).sqrt()
    assert ((samples.mean(0) - MEAN).abs() < 4 * error_of_mean + MEAN.abs() / start).all()
    assert ((samples.T.cov() - COVARIANCE).abs() < 4 * error_of_covariance).all()


def test_churn_forgets_the_latents():
    generator = torch.Generator().manual_seed(2)
    latents = torch.randn(4000, 3, dtype=torch.float64, generator=generator)

    def correlation(churn):
        samples = stochastic_sampler(
            gaussian,
            latents,
            randn_like=lambda x: torch.randn(x.shape, dtype=x.dtype, generator=generator),
            num_steps=40,
            S_churn=churn,
        )
        return torch.stack((latents[:, 2], samples[:, 2])).corrcoef()[0, 1]

    assert correlation(0) > 0.3
    assert correlation(40).abs() < 4 / math.sqrt(4000)


def test_without_churn_it_is_the_deterministic_one():
    latents = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)
    options = {"num_steps": 7, "sigma_max": 30.0, "rho": 5.0}
    assert torch.equal(
        stochastic_sampler(gaussian, latents, **options),
        deterministic_sampler(gaussian, latents, **options),
    )


def test_growth_by_churn_has_no_end():
    seen = []

    def net(x, sigma):
        seen.append(float(sigma))
        return torch.zeros_like(x)

    stochastic_sampler(net, torch.zeros(1, 1), num_steps=1, sigma_max=2.0, S_churn=3.0)
    assert seen == pytest.approx([8.0])


def test_inflated_noise_spreads_the_samples():
    generator = torch.Generator()

    def spread(noise):
        generator.manual_seed(0)
        samples = stochastic_sampler(
            gaussian,
            torch.randn(2000, 3, dtype=torch.float64, generator=generator),
            randn_like=lambda x: torch.randn(x.shape, dtype=x.dtype, generator=generator),
            S_churn=18,
            S_noise=noise,
        )
        return samples.var(0).sum()

    assert spread(1.1) > 1.05 * spread(1.0)


@pytest.mark.parametrize("sampler", [deterministic_sampler, stochastic_sampler])
def test_a_sample_depends_on_its_seed_and_not_on_its_batch(sampler):
    def sample(seeds):
        noise = StackedRandomGenerator("cpu", seeds)
        latents = noise.randn((len(seeds), 3), dtype=torch.float64)
        options = {"S_churn": 9, "randn_like": noise.randn_like}
        return sampler(lambda x, sigma: x / (1 + sigma**2), latents, **options)

    together = sample([3, 1, 4, 15])
    split = torch.cat((sample([3]), sample([1, 4, 15])))
    assert torch.equal(together, split)
    assert len(together.unique(dim=0)) == 4


def test_the_state_has_the_type_of_the_latents_by_default():
    def net(x, sigma):
        return x / (1 + sigma)

    for given, expected in [("bfloat16", "float32"), ("float32", "float32"), ("float64",) * 2]:
        latents = torch.zeros(1, 1, dtype=getattr(torch, given))
        assert stochastic_sampler(net, latents).dtype == getattr(torch, expected)
    assert stochastic_sampler(net, latents.float(), dtype=torch.float64).dtype == torch.float64


def test_differentiable():
    latents = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3).requires_grad_()
    noise = torch.Generator()

    def sample(latents):
        noise.manual_seed(0)
        return stochastic_sampler(
            gaussian,
            latents,
            randn_like=lambda x: torch.randn(x.shape, dtype=x.dtype, generator=noise),
            num_steps=4,
            S_churn=2,
        )

    assert torch.autograd.gradcheck(sample, latents)
