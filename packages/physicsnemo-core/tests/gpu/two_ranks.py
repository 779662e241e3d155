# SPDX-License-Identifier: Apache-2.0
"""Captured training in two processes, and in one that has the joint batches: the losses of both.

``torchrun --nproc-per-node 2 two_ranks.py cuda RESULTS.json`` writes what each comparison finds;
with ``cpu`` in the place of ``cuda`` there are no CUDA graphs.
"""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import mse_loss
from torch.nn.parallel import DistributedDataParallel

from physicsnemo import ModelMetaData, Module
from physicsnemo.utils import StaticCaptureTraining, release_graphs

STEPS = 60
WARMUP = 11  # DistributedDataParallel needs as many before a recording
SIZE = 64
KEPT = []  # steps that are still there when processes part
OPTIONS = {
    "plain": {},
    "clip": {"gradient_clip_norm": 0.1},
    "accumulation of 3": {"accumulation_steps": 3},
    "accumulation of 3, clip": {"accumulation_steps": 3, "gradient_clip_norm": 0.1},
    "verified": {"verify": 3},
}


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Linear(SIZE, SIZE), torch.nn.Linear(SIZE, 1)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


def make(device):
    """Return the same model in each process."""
    torch.manual_seed(0)
    flags = ModelMetaData(name="Net", cuda_graphs=True, amp_gpu=True)
    return Module.from_torch(Net, flags)().to(device)


def batches(device):
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        x = torch.randn(16, SIZE, generator=generator)
        yield x.to(device), x.mean(1, keepdim=True).to(device)


def data_parallel(model, device):
    """Wrap a model as PyTorch asks for CUDA graphs: on a stream of its own.

    The wrapper keeps the nodes that add up gradients, and these compute on the stream on which it
    was made. The default stream cannot be part of a recording.
    """
    if device.type == "cpu":
        return DistributedDataParallel(model)
    with torch.cuda.stream(torch.cuda.Stream()):
        wrapper = DistributedDataParallel(model, device_ids=[device])
    torch.cuda.synchronize()
    return wrapper


def on_default_stream(model, device):
    """Wrap a model without care for CUDA graphs."""
    return DistributedDataParallel(model)


def sharded(model, device):
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for part in (*model.inner_model.children(), model):
        fully_shard(part, mesh=mesh)
    return model


def share_of_rank(batch):
    return batch.chunk(dist.get_world_size())[dist.get_rank()]


def train(model, wrapper, device, share, **options):
    """Return the losses of a captured training, and how many steps were replays."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    settings = {"use_amp": False, "cuda_graph_warmup": WARMUP} | options

    @StaticCaptureTraining(wrapper, optimizer, **settings)
    def step(x, y):
        return mse_loss(wrapper(x), y)

    KEPT.append(step)
    losses = [step(share(x), share(y)) for x, y in batches(device)]
    return torch.stack(losses), step.replays()


def compare(wrap, device, options):
    """Return the largest relative difference of a step's loss, and the number of replays."""
    model = make(device)
    got, replays = train(model, wrap(model, device), device, share_of_rank, **options)
    dist.all_reduce(got)
    got /= dist.get_world_size()
    alone = make(device)
    options = options | {"use_graphs": False}
    expected, _ = train(alone, alone, device, lambda batch: batch, **options)
    error = ((got - expected).abs() / expected.abs().clamp_min(1e-6)).max().item()
    return {"error": error, "replays": replays}


def main(kind, results):
    rank = int(os.environ["LOCAL_RANK"])
    device = torch.device("cpu") if kind == "cpu" else torch.device("cuda", rank)
    if kind == "cpu":
        dist.init_process_group("gloo")
    else:
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device)
    found = {}
    for wrap in (data_parallel, sharded):
        for name, options in OPTIONS.items():
            found[f"{wrap.__name__}, {name}"] = compare(wrap, device, options)
    found[on_default_stream.__name__] = compare(on_default_stream, device, {})
    if rank == 0:
        Path(results).write_text(json.dumps(found))
    release_graphs()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
