# SPDX-License-Identifier: Apache-2.0
"""Noise with a seed for each sample."""

import math

import pytest
import torch

from physicsnemo.utils.diffusion import StackedRandomGenerator

DRAWS = {
    "randn": lambda it, n: it.randn((n, 2, 3)),
    "randn_like": lambda it, n: it.randn_like(torch.zeros(n, 2, 3)),
    "randt": lambda it, n: it.randt(4.0, (n, 2, 3)),
    "randint": lambda it, n: it.randint(1000, size=(n, 2, 3)),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_each_sample_has_its_own_numbers(draw):
    seeds = [11, 12, 13]
    several = StackedRandomGenerator("cpu", seeds)
    alone = [StackedRandomGenerator("cpu", [seed]) for seed in seeds]
    torch.manual_seed(0)
    for _ in range(2):
        assert torch.equal(draw(several, 3), torch.cat([draw(it, 1) for it in alone]))
    first, again = draw(several, 3), draw(several, 3)
    assert not torch.equal(first, again)
    assert len(first.unique(dim=0)) == 3


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_the_global_generator_is_left_alone(draw):
    before = torch.get_rng_state()
    draw(StackedRandomGenerator("cpu", torch.tensor([1, 2])), 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_numbers_are_those_of_torch():
    found = StackedRandomGenerator("cpu", [7]).randn((1, 5), dtype=torch.float64)
    assert torch.equal(found[0], torch.randn(5, dtype=torch.float64, generator=_generator(7)))


def test_types_and_devices():
    it = StackedRandomGenerator("cpu", [1])
    assert it.randn_like(torch.zeros(1, 2, dtype=torch.float64)).dtype == torch.float64
    assert it.randn_like(torch.zeros(1, 2), dtype=torch.float64).dtype == torch.float64
    assert it.randn((1, 2), device="meta").device.type == "meta"
    assert it.randint(3, size=(1, 2)).dtype == torch.int64


def test_integers_are_in_their_range():
    it = StackedRandomGenerator("cpu", range(50))
    assert set(it.randint(3, size=(50, 9)).unique().tolist()) == {0, 1, 2}
    assert set(it.randint(-2, 1, size=(50, 9)).unique().tolist()) == {-2, -1, 0}


def test_students_noise_has_its_variance_and_heavy_tails_for_whole_samples():
    nu, n = 8.0, 4000
    noise = StackedRandomGenerator("cpu", range(n)).randt(nu, (n, 50), dtype=torch.float64)
    # The mean square of a sample over nu, up to the chi-squared number that it shares:
    # an F distribution with 50 and nu degrees of freedom.
    mean_square = noise.square().mean(1)
    variance = 2 * nu**2 * (50 + nu - 2) / (50 * (nu - 2) ** 2 * (nu - 4))
    assert mean_square.mean() == pytest.approx(nu / (nu - 2), abs=4 * math.sqrt(variance / n))
    assert mean_square.std() > 0.5


def _generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("size", [(2, 4), (4,), ()])
def test_the_batch_must_be_that_of_the_seeds(size):
    with pytest.raises(ValueError, match="first axis is the batch of 3 seeds, got"):
        StackedRandomGenerator("cpu", [1, 2, 3]).randn(size)


def test_there_must_be_seeds_and_degrees_of_freedom():
    with pytest.raises(ValueError, match="a seed for each sample, got none"):
        StackedRandomGenerator("cpu", [])
    with pytest.raises(ValueError, match="above 0, got 0"):
        StackedRandomGenerator("cpu", [1]).randt(0, (1, 2))
