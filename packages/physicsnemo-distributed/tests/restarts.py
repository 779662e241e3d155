# SPDX-License-Identifier: Apache-2.0
"""A training as users write it, started by torchrun, one process of which dies once.

``torchrun ... restarts.py FOLDER PARALLEL [RANK STEP MOMENT]`` trains in parallel by ``data``,
``sharded`` or ``shards``. Process ``RANK`` kills itself at ``STEP``, in the ``step`` or in
``saving`` after it, unless torchrun has started it anew. What each process has seen and what it
ends with go to files in the folder.
"""

import os
import random
import signal
import sys
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

import physicsnemo
from physicsnemo.distributed import shard, start
from physicsnemo.utils import StaticCaptureTraining, load_checkpoint, save_checkpoint

STEPS, SAMPLES = 8, 24  # three steps of two processes see all samples once


class Net(physicsnemo.Module):
    """Draws random numbers, and has buffers that change."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(6, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Dropout(0.3)
        )
        self.last = torch.nn.Linear(16, 6)

    def forward(self, x):
        return self.last(self.layers(x))


class Schedule(OneCycleLR):
    """May not live to say its state."""

    def state_dict(self):
        die(self.last_epoch - 1, "saving")
        return super().state_dict()


def die(step, moment):
    """Kill this process if it is the one, at that step and moment, of the first start."""
    place = [os.environ["RANK"], str(step), moment]
    if place == sys.argv[3:] and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)


def from_step(first, loader):
    """Yield the batches from a step on, in an order that depends on the number of epochs alone."""
    epoch, skipped = divmod(first, len(loader))
    for number in count(epoch):
        loader.sampler.set_epoch(number)
        yield from islice(loader, skipped if number == epoch else 0, None)


def perturb(x):
    """Add noise, scale and shift, with random numbers of three libraries."""
    noise = torch.from_numpy(np.random.randn(*x.shape))  # noqa: NPY002
    return x + 0.1 * noise + torch.rand(len(x), 1, dtype=x.dtype) + random.random()


def main(folder, parallel):
    with start(device="cpu") as job:
        torch.manual_seed(0)
        model = Net().double()
        if parallel == "data":
            wrapper = DistributedDataParallel(model)
        else:
            wrapper = shard(model, job.mesh(), units="leaf")
        optimizer = torch.optim.AdamW(model.parameters())
        schedule = Schedule(optimizer, max_lr=0.05, total_steps=STEPS)
        training = {"models": wrapper, "optimizer": optimizer, "scheduler": schedule}
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(100 + job.rank)

        fields = torch.linspace(-1, 1, 6 * SAMPLES, dtype=torch.float64).reshape(SAMPLES, 6)
        samples = TensorDataset(torch.arange(SAMPLES), fields)
        # With a generator of its own, since a loader draws from the shared one whenever it begins.
        loader = DataLoader(
            samples, 4, sampler=DistributedSampler(samples), generator=torch.Generator()
        )

        @StaticCaptureTraining(model=wrapper, optim=optimizer, gradient_clip_norm=1.0)
        def training_step(x):
            return (wrapper(perturb(x)) - x).square().mean()

        run = os.path.join(folder, "run")
        first = load_checkpoint(run, **training)
        note(folder, f"starts.{job.rank}", first)
        for step, (numbers, x) in enumerate(islice(from_step(first, loader), STEPS - first), first):
            die(step, "step")
            loss = training_step(x)
            schedule.step()
            note(folder, f"seen.{job.rank}", (step, numbers.tolist(), loss.item()))
            layout = "shards" if parallel == "shards" else "whole"
            save_checkpoint(run, **training, epoch=step + 1, keep_last=2, layout=layout)

        state = model.state_dict()
        if parallel != "data":  # buffers of one process are saved for all
            state = {key: state[key] for key, _ in model.named_parameters()}
        ends = {
            "model": state,
            "optimizer": optimizer.state_dict(),
            "rates": schedule.get_last_lr(),
            "random": [torch.rand(3), random.random(), np.random.rand()],  # noqa: NPY002
        }
        torch.save(tree_map(own_part, ends), Path(folder, f"ends.{job.rank}.pt"))


def own_part(value):
    """Return what this process has of a tensor."""
    return value.to_local() if hasattr(value, "to_local") else value


def note(folder, name, what):
    with open(os.path.join(folder, name), "a") as file:
        file.write(f"{what}\n")


if __name__ == "__main__":
    main(*sys.argv[1:3])
