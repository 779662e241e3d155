# SPDX-License-Identifier: Apache-2.0
"""Sharded models compute what one process does, whatever is gathered, shared or recomputed."""

import re
from dataclasses import dataclass, field

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule

import physicsnemo
from physicsnemo.distributed import Plan, plan_of, shard
from physicsnemo.distributed.sharding import choose_units, find_blocks, outermost


class Block(nn.Module):
    def __init__(self, act, gain):
        super().__init__()
        self.linear, self.act, self.gain = nn.Linear(6, 6), act, gain
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x + self.gain * self.act(self.linear(x))


class Reader(nn.Module):
    """Reads the weight of a module without calling it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(6, 6, 1)

    def forward(self, x):
        return nn.functional.linear(x, self.conv.weight[..., 0], self.conv.bias)

    def step(self, x):
        return self(x)


class Net(physicsnemo.Module):
    """A module in several blocks, a parameter in two of them, one block called twice."""

    def __init__(self):
        super().__init__()
        act, gain = nn.PReLU(), nn.Parameter(torch.full((6,), 0.5))
        own = nn.Parameter(torch.full((6,), 0.25))
        self.blocks = nn.ModuleList([Block(act, gain), Block(act, gain), Block(act, own)])
        self.readers = nn.ModuleList([Reader()])
        self.last = nn.Linear(6, 2)
        self.register_buffer("scale", torch.rand(6, dtype=torch.float64), persistent=False)

    def forward(self, x):
        for block in (*self.blocks, self.blocks[2]):
            x = block(x)
        return self.last(self.readers[0].step(x * self.scale))


PLAN = Plan(blocks=(Block, Reader), whole=(Reader,), methods={Reader: ("step",)})


def named(model, modules):
    names = {module: name for name, module in model.named_modules()}
    return [names[module] for module in modules]


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        # Two blocks share a parameter, so they are part of the model's own unit.
        ("block", ["blocks.0.act", "blocks.2", "readers.0"]),
        (
            "leaf",
            [
                "blocks.0.linear",
                "blocks.0.act",
                "blocks.1.linear",
                "blocks.2.linear",
                "blocks.2",
                "readers.0",
                "last",
            ],
        ),
        ("model", []),
    ],
)
def test_units(units, expected):
    model = Net()
    assert named(model, choose_units(model, PLAN, units, find_blocks(model, PLAN))) == expected


def test_without_a_plan_the_items_of_lists_are_blocks():
    model = nn.Sequential(nn.Sequential(nn.Linear(1, 1), nn.ReLU()), nn.Linear(1, 1))
    assert named(model, find_blocks(nn.ModuleList([model]), Plan())) == [""]
    assert named(model, find_blocks(model, Plan())) == ["0", "1"]
    assert named(model, outermost(model.modules())) == [""]
    assert plan_of(model) == Plan()


def train(units, recompute, compiled, hybrid):
    torch.manual_seed(0)
    alone = Net().double()
    model = Net().double()
    model.load_state_dict(alone.state_dict())
    model.scale.copy_(alone.scale)
    rank, size = dist.get_rank(), dist.get_world_size()
    mesh = init_device_mesh("cpu", (2, 1), mesh_dim_names=("replica", "shard"))
    mesh = mesh if hybrid else init_device_mesh("cpu", (size,))
    original, shard.__globals__["plan_of"] = shard.__globals__["plan_of"], lambda model: PLAN
    try:
        shard(
            model,
            mesh,
            units=units,
            recompute=recompute,
            compile={"backend": "aot_eager"} if compiled else False,
        )
    finally:
        shard.__globals__["plan_of"] = original
    assert list(dict(model.named_parameters())) == list(dict(alone.named_parameters()))
    optimizers = [torch.optim.SGD(it.parameters(), lr=0.1) for it in (model, alone)]
    for step in range(3):
        torch.manual_seed(step)
        x = torch.randn(size, 4, 6, dtype=torch.float64)
        model(x[rank]).square().mean().backward()
        alone(x.flatten(end_dim=1)).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    for key, parameter in alone.named_parameters():
        own = dict(model.named_parameters())[key].full_tensor()
        torch.testing.assert_close(own, parameter, rtol=1e-12, atol=1e-12)
    return sum(block.calls for block in model.blocks), isinstance(model.last, FSDPModule)


@pytest.mark.parametrize("recompute", [False, True], ids=["plain", "recompute"])
@pytest.mark.parametrize("units", ["block", "leaf", "model"])
def test_training_equals_that_of_one_process(processes, units, recompute):
    for calls, is_unit in processes.run(train, units, recompute, False, False):
        assert calls == 3 * 4 * (2 if recompute else 1)
        assert is_unit == (units == "leaf")


def test_replicas_of_shards(processes):
    processes.run(train, "block", False, False, True)


@pytest.mark.parametrize("recompute", [False, True], ids=["plain", "recompute"])
def test_compiled_blocks(processes, recompute):
    processes.run(train, "block", recompute, True, False)


class Typed(nn.Module):
    """Notes in which types its blocks are called, compute and return."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.blocks = nn.ModuleList([Several(), Several()])
        self.seen = []

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            called, count = x.dtype, torch.arange(3)
            x, more = block(x, {"count": count, "embedding": torch.ones(6)})
            assert more["count"] is count
            self.seen.append((called, block.inside, x.dtype, more["sum"].dtype))
        return x


class Several(nn.Linear):
    """Returns a tensor and a dictionary."""

    def __init__(self):
        super().__init__(6, 6)

    def forward(self, x, more):
        self.inside = x.dtype
        x = super().forward(x)
        return x, more | {"sum": x.sum()}


def low_precision(autocast):
    torch.manual_seed(0)
    alone, x = Typed(), torch.randn(3, 6)
    model = physicsnemo.Module.from_torch(Typed)()
    model.inner_model.load_state_dict(alone.state_dict())
    shard(model, init_device_mesh("cpu", (2,)), precision=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output, expected = model(x), alone(x)
    torch.testing.assert_close(output, expected, rtol=0.05, atol=0.05)
    output.float().sum().backward()
    kinds = {it.dtype for it in model.parameters()} | {it.grad.dtype for it in model.parameters()}
    return model.inner_model.seen, alone.seen, kinds


@pytest.mark.parametrize("autocast", [False, True])
def test_blocks_compute_in_lower_precision(processes, autocast):
    for seen, alone, kinds in processes.run(low_precision, autocast):
        between = torch.bfloat16 if autocast else torch.float32
        assert seen == [(between, torch.bfloat16, between, between)] * 2
        assert alone == [(between, between, between, between)] * 2
        assert kinds == {torch.float32}


class Normalized(nn.Module):
    """Blocks with normalizations, of which some keep running moments."""

    def __init__(self):
        super().__init__()
        norms = nn.BatchNorm1d(6), nn.InstanceNorm1d(6, affine=True), nn.BatchNorm1d(6)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Conv1d(6, 6, 3), norm) for norm in norms)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def normalized(units):
    torch.manual_seed(0)
    alone, x = Normalized(), torch.randn(4, 6, 20)
    model = Normalized()
    model.load_state_dict(alone.state_dict())
    mesh = init_device_mesh("cpu", (2,))
    shard(model, mesh, units=units, precision=torch.bfloat16)
    output, expected = model(x), alone(x)
    output.square().mean().backward()
    moments = [(model.blocks[0][1].running_mean, alone.blocks[0][1].running_mean)]
    for got, right in ((output, expected), *moments):
        assert got.dtype == torch.float32
        assert (got - right).norm() < 0.02 * right.norm()
    return [isinstance(block[1], FSDPModule) for block in model.blocks]


@pytest.mark.parametrize("units", ["block", "leaf", "model"])
def test_running_moments_stay_exact(processes, units):
    for found in processes.run(normalized, units):
        assert found == [True, units == "leaf", True]


class Steps(nn.Module):
    """Blocks that are called with no floating-point number, and with several types."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Embedding(5, 6), nn.Bilinear(6, 6, 6)])

    def forward(self, index, x):
        embedded = self.blocks[0](index)
        return embedded, self.blocks[1](x, embedded)


def types_of_results():
    model = shard(Steps(), init_device_mesh("cpu", (2,)), precision=torch.bfloat16)
    double = model(torch.arange(3), torch.ones(3, 6, dtype=torch.float64))
    half = model(torch.arange(3), torch.ones(3, 6, dtype=torch.float16))
    return [it.dtype for it in (*double, *half)]


def test_results_have_the_type_of_the_first_argument(processes):
    single, double, half = torch.float32, torch.float64, torch.float16
    assert processes.run(types_of_results) == [[single, double, single, half]] * 2


@dataclass(frozen=True)
class Sorted:
    """Like a graph, it is made once, and FSDP2 could not make it anew."""

    values: torch.Tensor
    order: torch.Tensor = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "order", self.values.argsort())


class Ordered(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.given = nn.Linear(6, 6), []

    def forward(self, x, ordered):
        self.given.append((x.dtype, ordered))
        return self.linear(x[ordered.order])


def dataclasses_among_arguments():
    class Net(physicsnemo.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([Ordered()])

        def forward(self, x, ordered):
            return self.blocks[0](x, ordered=ordered)

    model = shard(Net(), init_device_mesh("cpu", (2,)), precision=torch.bfloat16)
    ordered = Sorted(torch.rand(5))
    model(torch.rand(5, 6), ordered).sum().backward()
    assert model.blocks[0].given == [(torch.bfloat16, ordered)]


def test_dataclasses_among_arguments_stay_as_they_are(processes):
    processes.run(dataclasses_among_arguments)


def misuse():
    mesh = init_device_mesh("cpu", (2,))
    cube = init_device_mesh("cpu", (1, 1, 2), mesh_dim_names=("a", "b", "c"))
    sharded = shard(nn.Linear(2, 2), mesh)
    wrapped = nn.parallel.DistributedDataParallel(nn.Linear(2, 2))
    errors = []
    for model, arguments in (
        (sharded, {}),
        (wrapped, {}),
        (torch.compile(nn.Linear(2, 2)), {}),
        (nn.Linear(2, 2), {"mesh": cube}),
        (nn.Linear(2, 2), {"units": "layer"}),
    ):
        with pytest.raises((TypeError, ValueError)) as raised:
            shard(model, **{"mesh": mesh} | arguments)
        errors.append(str(raised.value))
    return errors


def placements():
    class Grid(physicsnemo.Module):
        def __init__(self):
            super().__init__()
            self.positions = nn.Parameter(torch.arange(40.0).reshape(1, 5, 8))
            self.odd = nn.Parameter(torch.ones(1, 5))

        def forward(self, x):
            return (self.positions * x).sum() + self.odd.sum()

    model = shard(Grid(), init_device_mesh("cpu", (2,)))
    model(torch.ones(8)).backward()
    assert model.positions.placements[0].dim == 2
    assert model.positions.to_local().shape == (1, 5, 4)
    assert torch.equal(model.positions.grad.full_tensor(), torch.ones(1, 5, 8))
    assert torch.equal(model.positions.full_tensor(), torch.arange(40.0).reshape(1, 5, 8))
    assert model.odd.placements[0].dim == 0


def test_an_axis_of_few_items_is_not_padded(processes):
    processes.run(placements)


def test_misuse_is_named(processes):
    texts = (
        "is sharded already",
        "wrapped in DistributedDataParallel: pass the model itself",
        "wrapped in OptimizedModule",
        r"one axis, or of two .*got \('a', 'b', 'c'\): index it",
        "'block', 'leaf' or 'model', got 'layer'",
    )
    for errors in processes.run(misuse):
        for error, text in zip(errors, texts, strict=True):
            assert re.search(text, error)


class Images(nn.Module):
    """Notes how its blocks lay images out."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))

    def forward(self, x):
        strides = []
        for block in self.blocks:
            x = block(x)
            strides.append(x.stride())
        return x, strides


def channels_last(batch, precision):
    torch.manual_seed(0)
    alone = Images().to(memory_format=torch.channels_last)
    model = physicsnemo.Module.from_torch(Images)().to(memory_format=torch.channels_last)
    model.inner_model.load_state_dict(alone.state_dict())
    shard(model, init_device_mesh("cpu", (2,)), precision=precision)
    x = torch.randn(batch, 4, 6, 5).to(memory_format=torch.channels_last)
    (output, strides), (expected, others) = model(x), alone(x)
    torch.testing.assert_close(output, expected, rtol=0.05, atol=0.05)
    output.sum().backward()
    return strides, others


@pytest.mark.parametrize("precision", [None, torch.bfloat16], ids=str)
@pytest.mark.parametrize("batch", [1, 2])
def test_channels_last_images_stay_so(processes, batch, precision):
    """PyTorch tells the layout by strides, in one image too, where that of the batch is free."""
    for strides, expected in processes.run(channels_last, batch, precision):
        assert strides == expected == [(120, 1, 20, 4)] * 3
