# SPDX-License-Identifier: Apache-2.0
"""Without gradients, sampling computes in memory that is allocated once."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from physicsnemo.utils.diffusion import deterministic_sampler, stochastic_sampler


class Allocations(TorchDispatchMode):
    """Counts the tensors of each size that operators return in memory of their own."""

    def __init__(self):
        super().__init__()
        self.sizes = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = [*args, *(kwargs or {}).values()]
        known = {it.data_ptr() for it in given if isinstance(it, torch.Tensor)}
        if isinstance(result, torch.Tensor) and result.data_ptr() not in known:
            self.sizes[result.numel()] += 1
        return result


@pytest.mark.parametrize("sampler", [deterministic_sampler, stochastic_sampler])
def test_the_number_of_allocations_does_not_depend_on_the_steps(sampler):
    latents = torch.ones(2, 1, 4, 5, dtype=torch.float64)
    denoised, noise = latents.clone(), latents.clone()

    def allocations(num_steps):
        options = {"num_steps": num_steps, "S_churn": 1, "randn_like": lambda x: noise}
        with Allocations() as seen:
            sampler(lambda x, sigma: denoised, latents, **options)
        return seen.sizes[latents.numel()]

    with torch.no_grad():
        assert allocations(3) == allocations(9) <= 4
    assert allocations(3) < allocations(9)


@pytest.mark.parametrize("scaling", ["none", "vp"])
def test_the_net_finds_its_input_at_one_address(scaling):
    addresses = set()

    def net(x, sigma):
        addresses.add(x.data_ptr())
        return x / (1 + sigma)

    with torch.inference_mode():
        deterministic_sampler(net, torch.ones(2, 3, dtype=torch.float64), scaling=scaling)
    assert len(addresses) == 1
