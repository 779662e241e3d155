# SPDX-License-Identifier: Apache-2.0
"""Kill one of two processes again and again while they save; the last whole step must load.

``python kills.py COUNT LAYOUT FOLDER`` prints what it found, and fails unless every step that was
loaded is exactly what an undisturbed training has there, no step is lost, and no process hangs.
"""

import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

import physicsnemo
from physicsnemo.distributed import shard
from physicsnemo.utils import load_checkpoint, save_checkpoint

PATIENCE = 60.0  # seconds for a process that is left alone to notice


class Net(physicsnemo.Module):
    """Large enough that saving takes a while."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(*(torch.nn.Linear(64, 64) for _ in range(8)))

    def forward(self, x):
        return self.layers(x)


def prepared():
    torch.manual_seed(0)
    model = Net().double()
    return model, torch.optim.AdamW


def advance(model, optimizer, step):
    torch.manual_seed(step)
    model(torch.randn(4, 64, dtype=torch.float64)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def train(rank, store, folder, layout):
    """Resume, and save every step until killed."""
    dist.init_process_group("gloo", store=dist.FileStore(store, 2), rank=rank, world_size=2)
    model, kind = prepared()
    shard(model, init_device_mesh("cpu", (2,)), units="model")
    optimizer = kind(model.parameters())
    first = load_checkpoint(folder, model, optimizer) + 1 if newest(folder) >= 0 else 0
    options = {"layout": "shards", "wait": layout == "shards"} if layout != "whole" else {}
    for step in range(first, 100_000):
        advance(model, optimizer, step)
        saving = save_checkpoint(folder, model, optimizer, epoch=step, keep_last=2, **options)
        if saving is not None and step % 2:
            saving.wait()


def newest(folder):
    """Return the largest step that has appeared, -1 if none has."""
    names = (path.name for path in Path(folder).glob("manifest.0.*.json"))
    return max((int(name.split(".")[2]) for name in names), default=-1)


class Reference:
    """The undisturbed training, advanced as far as it is asked for."""

    def __init__(self):
        self.model, kind = prepared()
        self.optimizer, self.step = kind(self.model.parameters()), -1

    def at(self, step):
        while self.step < step:
            self.step += 1
            advance(self.model, self.optimizer, self.step)
        return self.model.state_dict()


def forked(function, *arguments):
    child = os.fork()
    if child:
        return child
    try:
        os.close(2)
        os.open(os.devnull, os.O_WRONLY)
        function(*arguments)
    except BaseException:
        os._exit(1)
    os._exit(0)


@contextmanager
def reaped(children):
    try:
        yield
    finally:
        for child in children:
            try:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            except (ProcessLookupError, ChildProcessError):
                pass


def ended(child, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.waitpid(child, os.WNOHANG)[0]:
            return True
        time.sleep(0.01)
    return False


def main(count, layout, folder):
    torch.set_num_threads(1)
    draw, reference, found = random.Random(0), Reference(), Counter()
    last, delay = -1, 1.0
    for trial in range(count):
        store = os.path.join(folder, f"store{trial}")
        run = os.path.join(folder, "run")
        children = [forked(train, rank, store, run, layout) for rank in range(2)]
        with reaped(children):
            begin = time.monotonic()
            early = trial > 0 and draw.random() < 0.1
            while not early and newest(run) <= last and time.monotonic() < begin + PATIENCE:
                time.sleep(0.01)  # until the training has gone on by a step
            time.sleep(draw.uniform(0.0, delay))
            victim = draw.randrange(2)
            os.kill(children[victim], signal.SIGKILL)
            os.waitpid(children[victim], 0)
            # While they have not met, the other one waits for as long as the group allows.
            found["hung"] += not early and not ended(children[1 - victim], PATIENCE)
        if last < 0 and newest(run) < 0:
            found["before the first step"] += 1
            continue
        model, kind = prepared()
        optimizer = kind(model.parameters())
        try:
            step = load_checkpoint(run, model, optimizer)
        except Exception as error:
            found["not loaded"] += 1
            print(trial, repr(error), flush=True)
            continue
        whole = reference.at(step)
        close = all(
            torch.allclose(value, whole[key], rtol=0, atol=1e-12)
            for key, value in model.state_dict().items()
        )
        found["whole"] += close
        found["differs"] += not close
        found["lost"] += step < last
        found["went on"] += step > last
        last = step
    left = [name for name in os.listdir(run) if name.startswith(".saving")]
    print(f"{count} kills, layout {layout}: {dict(found)}, last step {last}, left over: {left}")
    bad = found["hung"] + found["not loaded"] + found["differs"] + found["lost"]
    return int(bool(bad) or found["whole"] + found["before the first step"] != count)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
