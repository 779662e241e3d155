# SPDX-License-Identifier: Apache-2.0
"""Memory of samples with gradients: with chunks, states are kept, and nothing of the network."""

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from physicsnemo.diffusion import VP, Diffusion, sample
from physicsnemo.models.module import Module


class Live(TorchDispatchMode):
    """Knows the memory of all that operators have returned, as long as something holds it."""

    def __init__(self):
        super().__init__()
        self.sizes = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for it in result if isinstance(result, tuple) else (result,):
            if isinstance(it, torch.Tensor):
                storage = it.untyped_storage()
                self.sizes[StorageWeakRef(storage)] = storage.nbytes()
        return result

    def leave_out(self, *tensors):
        """Forget what was there before, of which operators return views."""
        for it in tensors:
            self.sizes.pop(StorageWeakRef(it.untyped_storage()), None)

    def bytes(self):
        return sum(size for storage, size in self.sizes.items() if not storage.expired())


class Wide(Module):
    """A network whose activations are many times its input."""

    def __init__(self, width):
        super().__init__()
        self.there, self.back = torch.nn.Linear(64, width), torch.nn.Linear(width, 64)

    def forward(self, x, t, condition=None):
        return self.back(self.there(x).tanh())


def states_kept(width, steps, **options):
    """Return how many times the memory of a state is kept for the gradient of samples."""
    model = Diffusion(Wide(width), VP())
    noise = torch.randn(8, 64, requires_grad=True)
    with Live() as live:
        samples = sample(model, noise, steps=steps, **options)
        live.leave_out(*model.parameters())
        kept = live.bytes() / (noise.numel() * noise.itemsize)
    (gradient,) = torch.autograd.grad(samples.sum(), noise)
    assert torch.isfinite(gradient).all()
    return kept


@pytest.mark.parametrize(("method", "estimates"), [("euler", 1), ("heun", 2), ("dpm-solver", 1)])
def test_a_state_for_each_estimate(method, estimates):
    """In 30 steps, whatever the network: it is 64 times as wide as a state here."""
    few, many = (states_kept(4096, steps, method=method, chunk=2) for steps in (10, 30))
    assert (many - few) / 20 < estimates + 0.1
    assert many < 30 * estimates + 20
    at_once = states_kept(4096, 30, method=method)
    assert at_once > 25 * many
