# SPDX-License-Identifier: Apache-2.0
"""What captured steps ask of sharded models, as far as processors show it."""

import pytest
import torch

from physicsnemo import ModelMetaData, Module
from physicsnemo.core.base import class_of
from physicsnemo.core.capture.decorator import _why_no_graphs
from physicsnemo.core.capture.fully_sharded import ShardedUnits
from physicsnemo.core.capture.guards import Guards
from physicsnemo.distributed import shard, start
from physicsnemo.utils import StaticCaptureTraining


class Net(Module):
    """Two blocks, and a number that the forward pass reads."""

    def __init__(self):
        super().__init__(meta=ModelMetaData(cuda_graphs=True))
        self.blocks = torch.nn.ModuleList(torch.nn.Linear(5, 5) for _ in range(2))
        self.scale = 1.0

    def forward(self, x):
        """Map (batch, 5) to (batch, 5)."""
        for block in self.blocks:
            x = torch.tanh(block(x)) * self.scale
        return x


def net():
    torch.manual_seed(0)
    job = start(device="cpu")
    return shard(Net(), job.mesh(data=-1))


def guard_states():
    model = net()
    assert class_of(model) is Net
    assert _why_no_graphs(model, model, model.meta) is None
    own = list(model.parameters())
    guards = Guards(lambda x: model(x), model)
    before = guards.state()
    with torch.no_grad():
        model(torch.ones(3, 5))
    ShardedUnits(model).reshard()
    assert all(one is other for one, other in zip(own, model.parameters(), strict=True))
    assert before.matches(guards.state())
    model.scale = 2.0
    assert not before.matches(guards.state())
    model.scale = 1.0
    model.to_empty(device="cpu")
    assert not before.matches(guards.state())


def losses_around_a_failure(where):
    """Return the losses of steps of which one fails, forward or backward, and of those before."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.linspace(-1, 1, 15).reshape(3, 5)

    @StaticCaptureTraining(model, optimizer, use_amp=False)
    def step(fails=None):
        inner = model.blocks[1].register_forward_pre_hook(fails) if fails else None
        try:
            return model(x).square().mean()
        finally:
            if inner is not None:
                inner.remove()

    def forward(module, args):
        raise KeyError(where)

    def backward(module, args):
        args[0].register_hook(lambda gradient: forward(module, args))

    first = [float(step()) for _ in range(2)]
    with pytest.raises(KeyError):
        step({"forward": forward, "backward": backward}[where])
    return first + [float(step()) for _ in range(2)]


def losses():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.linspace(-1, 1, 15).reshape(3, 5)
    step = StaticCaptureTraining(model, optimizer, use_amp=False)(lambda: model(x).square().mean())
    return [float(step()) for _ in range(4)]


def test_guards_see_through_what_fsdp_adds(processes):
    processes.run(guard_states)


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_step_that_failed_halfway_is_as_if_never_made(processes, where):
    """Hooks of FSDP2 would otherwise wait for the rest of it."""
    assert processes.run(losses_around_a_failure, where) == processes.run(losses)
