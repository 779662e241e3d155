# SPDX-License-Identifier: Apache-2.0
"""Captured training in two processes equals that of one process on the joint batch."""

import subprocess
import sys

import pytest
import torch.distributed as dist

if not dist.is_available():
    pytest.skip("PyTorch was built without torch.distributed", allow_module_level=True)

PROGRAM = """
import datetime, logging, sys
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from physicsnemo import ModelMetaData, Module
from physicsnemo.core.capture.decorator import _why_no_graphs
from physicsnemo.utils import StaticCaptureTraining

folder, rank = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(1)
dist.init_process_group(
    "gloo",
    init_method=f"file://{folder}/meeting",
    rank=rank,
    world_size=2,
    timeout=datetime.timedelta(seconds=60),
)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Linear(4, 16), torch.nn.Linear(16, 1)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


def make():
    torch.manual_seed(0)
    return Module.from_torch(Net, ModelMetaData(name="Net", cuda_graphs=True))()


def batches(count=12):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        x = torch.randn(8, 4, generator=generator)
        yield x, x.sum(1, keepdim=True)


def train(model, wrapper, share, accumulation=1, failing=None, backward=True, **options):
    calls = []
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)

    class Last(torch.autograd.Function):
        # Ends in the middle of the backward pass if it shall.
        @staticmethod
        def forward(context, x, fails):
            context.fails = fails
            return x.clone()

        @staticmethod
        def backward(context, gradient):
            if context.fails:
                raise KeyError("of the user")
            return gradient, None

    capture = StaticCaptureTraining(
        wrapper, optimizer, use_amp=False, accumulation_steps=accumulation, **options
    )

    @capture
    def step(x, y, fails=False):
        calls.append(getattr(wrapper, "require_backward_grad_sync", None))
        output = wrapper(Last.apply(x.clone().requires_grad_(), fails))
        if fails and not backward:
            raise KeyError("of the user")
        return torch.nn.functional.mse_loss(output, y)

    losses = []
    for number, (x, y) in enumerate(batches()):
        x, y = share(x), share(y)
        if number == failing:
            try:
                step(x, y, fails=True)
                raise AssertionError("no error")
            except KeyError as error:
                assert error.__context__ is None, error.__context__
        losses.append(step(x, y))
    return torch.stack(losses), calls


def mine(batch):
    return batch.chunk(2)[rank]


def mean(losses):
    dist.all_reduce(losses)
    return losses / 2


def check(name, model, wrapper, **options):
    expected = make()
    expected_losses, _ = train(expected, expected, lambda batch: batch, **options)
    losses, calls = train(model, wrapper, mine, **options)
    torch.testing.assert_close(mean(losses), expected_losses, msg=lambda text: name + text)
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        ours = ours.full_tensor() if hasattr(ours, "full_tensor") else ours
        torch.testing.assert_close(ours.detach(), theirs.detach(), msg=lambda text: name + text)
    return calls


# Errors come before the backward pass: in it, an exchange of gradients that has begun goes on.
OPTIONS = [
    {},
    {"gradient_clip_norm": 0.1},
    {"accumulation": 3},
    {"accumulation": 3, "gradient_clip_norm": 0.1, "failing": 6},
    {"failing": 6},
]
for options in OPTIONS:
    model = make()
    calls = check("ddp", model, DistributedDataParallel(model), backward=False, **options)
    # Gradients are exchanged in the last call of an accumulation only.
    if "failing" not in options:
        cycle = options.get("accumulation", 1)
        assert calls == [n % cycle == cycle - 1 for n in range(12)], calls

    model = make()
    for part in (model.inner_model.first, model.inner_model.last, model):
        fully_shard(part, mesh=dist.init_device_mesh("cpu", (2,)))
    assert type(model).__name__ == "FSDP" + type(make()).__name__
    check("fsdp", model, model, backward=False, **options)

assert _why_no_graphs(model, model, model.meta) is None
plain = make()
assert _why_no_graphs(plain, plain, plain.meta) is None
assert "does not set cuda_graphs" in _why_no_graphs(plain, plain, ModelMetaData(name="Net"))
dist.barrier()
dist.destroy_process_group()
"""


def test_two_processes_train_as_one(tmp_path):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    processes = [
        subprocess.Popen([*command, str(rank)], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
