# SPDX-License-Identifier: Apache-2.0
"""Compare captured training on two GPUs with one process that has the joint batches.

Run it on a machine with two GPUs: ``torchrun --nproc-per-node 2 -m tools.gpu.check_distributed``.
With ``--cpu`` it runs without GPUs, and so without CUDA graphs. The first process prints one line a
check and how many passed.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import mse_loss
from torch.nn.parallel import DistributedDataParallel

from physicsnemo import ModelMetaData, Module
from physicsnemo.utils import StaticCaptureTraining

STEPS = 60
WARMUP = 11  # DistributedDataParallel needs as many before a recording
TOLERANCE = 1e-4  # relative, of each step's loss
SIZE = 64


class Net(torch.nn.Module):
    """Two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Linear(SIZE, SIZE), torch.nn.Linear(SIZE, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, SIZE) to (batch, 1)."""
        output: Tensor = self.last(torch.tanh(self.first(x)))
        return output


@dataclass(frozen=True)
class Run:
    """One of two processes, and where it computes."""

    device: torch.device
    rank: int

    def model(self) -> Module:
        """Return the same model in each process."""
        torch.manual_seed(0)
        flags = ModelMetaData(name="Net", cuda_graphs=True, amp_gpu=True)
        model: Module = Module.from_torch(Net, flags)().to(self.device)
        return model

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield joint batches."""
        generator = torch.Generator().manual_seed(1)
        for _ in range(STEPS):
            x = torch.randn(16, SIZE, generator=generator)
            yield x.to(self.device), x.mean(1, keepdim=True).to(self.device)

    def side_stream(self) -> AbstractContextManager[Any]:
        """Return where DistributedDataParallel is to be made.

        It keeps the nodes that add up gradients, and these compute on the stream on which it was
        made. The default stream cannot be part of a recording.
        """
        if self.device.type == "cpu":
            return nullcontext()
        stream: AbstractContextManager[Any] = torch.cuda.stream(torch.cuda.Stream())
        return stream


Wrap = Callable[[Run, Module], torch.nn.Module]


def parallel(run: Run, model: Module) -> torch.nn.Module:
    """Wrap a model for data-parallel training, made as PyTorch asks for CUDA graphs."""
    devices = None if run.device.type == "cpu" else [run.device]
    with run.side_stream():
        wrapper = DistributedDataParallel(model, device_ids=devices)
    if devices is not None:
        torch.cuda.synchronize()
    return wrapper


def parallel_on_default_stream(run: Run, model: Module) -> torch.nn.Module:
    """Wrap a model for data-parallel training, made without care for CUDA graphs."""
    return DistributedDataParallel(model)


def sharded(run: Run, model: Module) -> torch.nn.Module:
    """Shard a model."""
    mesh = init_device_mesh(run.device.type, (dist.get_world_size(),))
    for part in (*model.inner_model.children(), model):  # type: ignore[union-attr]
        fully_shard(part, mesh=mesh)
    return model


def train(
    run: Run, model: Module, wrapper: torch.nn.Module, share: bool, **options: Any
) -> tuple[Tensor, int]:
    """Return the losses of a captured training, and how many steps were replays."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    settings = {"use_amp": False, "cuda_graph_warmup": WARMUP} | options

    @StaticCaptureTraining(wrapper, optimizer, **settings)
    def step(x: Tensor, y: Tensor) -> Tensor:
        return mse_loss(wrapper(x), y)

    losses = []
    for x, y in run.batches():
        if share:
            x, y = (part.chunk(dist.get_world_size())[run.rank] for part in (x, y))
        losses.append(step(x, y))
    return torch.stack(losses), step.replays()


def compare(run: Run, wrap: Wrap, least: int, most: int, options: dict[str, Any]) -> str:
    """Compare a distributed training with one process; return what is worth saying of it."""
    model = run.model()
    got, replays = train(run, model, wrap(run, model), share=True, **options)
    dist.all_reduce(got)
    got /= dist.get_world_size()
    alone = run.model()
    expected, _ = train(run, alone, alone, share=False, **options | {"use_graphs": False})
    error = ((got - expected).abs() / expected.abs().clamp_min(1e-6)).max().item()
    if not error <= TOLERANCE:
        raise AssertionError(f"losses differ by {error:.1e}")
    if run.device.type == "cuda" and not least <= replays <= most:
        raise AssertionError(f"{replays} of {STEPS} steps were replays")
    return f"losses differ by {error:.1e}, {replays} replays"


def checks() -> dict[str, Callable[[Run], str]]:
    """Return what is compared, by name."""
    every = STEPS - WARMUP
    options: dict[str, dict[str, Any]] = {
        "": {},
        ", clip": {"gradient_clip_norm": 0.1},
        ", accumulation of 3": {"accumulation_steps": 3},
        ", accumulation of 3, clip": {"accumulation_steps": 3, "gradient_clip_norm": 0.1},
        ", verified": {"verify": 3},
    }
    found: dict[str, Callable[[Run], str]] = {}
    for text, chosen in options.items():
        # Each place in an accumulation is recorded by itself.
        least = STEPS - WARMUP * chosen.get("accumulation_steps", 1)
        arguments = {"wrap": parallel, "least": least, "most": every, "options": chosen}
        found[f"DistributedDataParallel{text}"] = partial(compare, **arguments)
        arguments = {"wrap": sharded, "least": 0, "most": 0, "options": chosen}
        found[f"fully_shard{text}"] = partial(compare, **arguments)
    found["DistributedDataParallel made on the default stream"] = partial(
        compare, wrap=parallel_on_default_stream, least=0, most=every, options={}
    )
    return found


def main(*arguments: str) -> int:
    """Run the checks in this process, beside another one, and return the number of failures."""
    parser = argparse.ArgumentParser(description="Check captured training in two processes.")
    parser.add_argument("--cpu", action="store_true", help="use no GPUs, and no CUDA graphs")
    on_cpu = parser.parse_args(arguments).cpu
    rank = int(os.environ["LOCAL_RANK"])
    device = torch.device("cpu") if on_cpu else torch.device("cuda", rank)
    if not on_cpu:
        torch.cuda.set_device(device)
    dist.init_process_group("gloo" if on_cpu else "nccl", device_id=None if on_cpu else device)
    failed = 0
    for name, check in checks().items():
        try:
            verdict, note = "PASS", check(Run(device, rank))
        except Exception as failure:
            traceback.print_exc()
            verdict, note = "FAIL", str(failure)
        failed += verdict == "FAIL"
        if rank == 0:
            print(f"{verdict} {name}: {note}", flush=True)
    if rank == 0:
        print(f"{len(checks()) - failed} passed, {failed} failed")
    dist.destroy_process_group()
    return failed


if __name__ == "__main__":
    sys.exit(min(1, main(*sys.argv[1:])))
