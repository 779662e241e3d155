# SPDX-License-Identifier: Apache-2.0
"""Training steps whose blocks compute their activations again."""

import pytest
import torch
from torch import nn

from physicsnemo import Module
from physicsnemo.utils import StaticCaptureTraining, recomputed


class Block(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 8)
        self.dropout, self.calls = nn.Dropout(dropout), 0

    def forward(self, x):
        self.calls += 1
        return x + self.dropout(self.second(torch.tanh(self.first(x))))


class Net(Module):
    def __init__(self, depth=6, dropout=0.0):
        super().__init__()
        self.blocks = nn.ModuleList(Block(dropout) for _ in range(depth))
        self.last = nn.Linear(8, 1)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.last(x)


def trained(recompute, **options):
    """Return weights after three steps, how often blocks ran, and the bytes that were kept."""
    torch.manual_seed(0)
    net = Net(**options).double()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    kept = {}

    def keep(x):
        kept[x.untyped_storage()._cdata] = x.untyped_storage().nbytes()
        return x

    @StaticCaptureTraining(net, optimizer, use_amp=False, recompute=recompute)
    def step(x):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            return net(x).square().mean()

    for _ in range(3):
        step(torch.ones(64, 8, dtype=torch.float64))
    assert all("forward" not in vars(block) for block in net.blocks)
    return net.state_dict(), [block.calls for block in net.blocks], sum(kept.values())


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_same_training_keeps_less(dropout):
    plain, once, much = trained(False, dropout=dropout)
    again, twice, little = trained(True, dropout=dropout)
    assert once == [3] * 6
    assert twice == [6] * 6
    assert little < much / 2
    for name, value in plain.items():
        assert torch.equal(value, again[name])


def test_a_model_without_repeated_blocks_is_refused():
    net = Module.from_torch(nn.Linear)(2, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="for models of repeated blocks, and .* has none"):
        StaticCaptureTraining(net, optimizer, recompute=True)(lambda x: net(x).sum())


def test_a_function_by_itself():
    x = torch.linspace(0, 1, 5, dtype=torch.float64, requires_grad=True)
    calls = []

    def function(x, scale=1.0):
        calls.append(1)
        return (x * scale).exp().sin()

    expected = torch.autograd.grad((2 * x).exp().sin().sum(), x)
    assert torch.equal(
        torch.autograd.grad(recomputed(function)(x, scale=2.0).sum(), x)[0], *expected
    )
    assert len(calls) == 2
