# SPDX-License-Identifier: Apache-2.0
"""How long trainings last, at which learning rates, and what they had reached when."""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypedDict

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, StepLR

WARM = 20  # steps, after which a step is captured and compiled, and takes its usual time


class Record(TypedDict):
    """What a training had reached after a number of steps or epochs; its time is without tests."""

    count: int
    seconds: float
    train: float  # in the mean since the record before
    test: float


def recorded(losses: Iterable[Tensor], every: int, test: Callable[[], float]) -> Iterator[Record]:
    """Read the losses of a training now and then, and test; between, nothing waits for the device.

    Parameters
    ----------
    losses
        Those of each step, or each epoch, as tensors. They are iterated over as it trains.
    every
        How many of them a record is made after; one more is made at the end.
    test
        Returns an error.
    """
    seconds, count, rest = 0.0, 0, iter(losses)
    begin = time.perf_counter()
    while new := list(itertools.islice(rest, every)):
        count += len(new)
        mean = torch.stack(new).mean().item()  # waits for the device, so the time is right
        seconds += time.perf_counter() - begin
        error = test()
        print(f"{count}: loss {mean:.4f}, test {error:.4f}, {seconds:.0f} s", flush=True)
        yield {"count": count, "seconds": seconds, "train": mean, "test": error}
        begin = time.perf_counter()


def halved(optimizer: Optimizer, steps: int) -> Iterator[int]:
    """Count steps; the learning rate halves after each fifth of them.

    Parameters
    ----------
    optimizer, steps
        Whose steps are counted, and how many there are.
    """
    schedule = StepLR(optimizer, max(steps // 5, 1), gamma=0.5)
    for count in range(1, steps + 1):
        yield count
        schedule.step()


def paced(optimizer: Optimizer, steps: int, seconds: float = math.inf) -> Iterator[int]:
    """Count steps, and set the learning rate after each.

    It rises to that of the optimizer in a twentieth of the training, and falls to 0 as a cosine.

    Parameters
    ----------
    optimizer
        Whose steps are counted.
    steps
        How many there are at most.
    seconds
        How long they take at most, without the first ones. What is reached by then depends on the
        machine.
    """
    progress = 0.0

    def share(_: int) -> float:
        return min(20 * progress + 0.01, 0.5 + 0.5 * math.cos(math.pi * progress))

    schedule = LambdaLR(optimizer, share)
    begin = time.perf_counter()
    for count in range(1, steps + 1):
        yield count
        if count == WARM:
            begin = time.perf_counter()
        late = (time.perf_counter() - begin) / seconds if count > WARM else 0.0
        progress = max(count / steps, late)
        schedule.step()
        if progress >= 1:
            return
