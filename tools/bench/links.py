# SPDX-License-Identifier: Apache-2.0
"""How long collectives of many sizes take, and the latency and bandwidth that this amounts to."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

ROUNDS = 5


@dataclass(frozen=True)
class Time:
    """What one collective took, of the slowest process.

    Attributes
    ----------
    kind, gpus
        Which collective, over how many processes.
    sent
        Bytes that leave each process, as :class:`tools.bench.traffic.Traffic` counts them.
    seconds
        The median.
    """

    kind: str
    gpus: int
    sent: int
    seconds: float


@dataclass(frozen=True)
class Link:
    """A collective that sends n bytes takes ``latency_s + n / bytes_per_s``."""

    kind: str
    gpus: int
    latency_s: float
    bytes_per_s: float

    def seconds(self, calls: float, sent: float) -> float:
        """Return how long collectives take that send so many bytes together."""
        return calls * self.latency_s + sent / self.bytes_per_s


def measure(device: torch.device, largest: int, report: Callable[[Time], None]) -> list[Time]:
    """Time collectives of all sizes up to one, in bytes, on all processes of the default group."""
    size = dist.get_world_size()
    found = []
    for kind, prepare in KINDS.items():
        if size == 1 or (kind == "pair" and size % 2):
            continue
        for count in _sizes(largest):
            call, sent = prepare(count // 4 // size * size, device)
            found.append(Time(kind, size, sent, _timed(call, device)))
            report(found[-1])
    return found


def fit(times: Sequence[Time]) -> list[Link]:
    """Return latency and bandwidth of each kind, for each number of processes.

    The sum of the squares of relative errors is the least, so that small sizes count as much as
    large ones; a latency below zero is none.
    """
    found = []
    for kind, gpus in dict.fromkeys((it.kind, it.gpus) for it in times):
        own = [it for it in times if (it.kind, it.gpus) == (kind, gpus)]
        seconds = np.array([it.seconds for it in own])
        terms = np.array([[1.0, it.sent] for it in own]) / seconds[:, None]
        (latency, slope), *_ = np.linalg.lstsq(terms, np.ones(len(own)), rcond=None)
        if latency < 0:
            latency, slope = 0.0, terms[:, 1].sum() / (terms[:, 1] ** 2).sum()
        found.append(Link(kind, gpus, float(latency), float(1 / slope)))
    return found


def closest(links: Sequence[Link], kind: str, gpus: int) -> Link | None:
    """Return the link of the largest number of processes up to one, else of the smallest."""
    own = sorted((it for it in links if it.kind == kind), key=lambda it: it.gpus)
    fewer = [it for it in own if it.gpus <= gpus]
    return fewer[-1] if fewer else next(iter(own), None)


def needed(
    links: Sequence[Link], gpus: int, calls: Mapping[str, int], sent: Mapping[str, int]
) -> float | None:
    """Return how many seconds links need for collectives, by kind; None for one not measured."""
    total = 0.0
    for kind, number in calls.items():
        link = closest(links, kind, gpus)
        if link is None:
            return None
        total += link.seconds(number, sent[kind])
    return total


def _sizes(largest: int) -> list[int]:
    """Return sizes from 1 KiB on, each eight times the one before, and the largest."""
    sizes = [1024]
    while sizes[-1] * 8 < largest:
        sizes.append(sizes[-1] * 8)
    return [*sizes, largest]


def _timed(call: Callable[[], object], device: torch.device) -> float:
    """Return how long a call takes, the median of some rounds, of the slowest process."""
    for _ in range(3):
        call()
    (estimate,) = _slowest([_round(call, 3, device)], device)
    repeats = max(1, min(50, int(0.02 / estimate)))
    rounds = [_round(call, repeats, device) for _ in range(ROUNDS)]
    return statistics.median(_slowest(rounds, device))


def _round(call: Callable[[], object], repeats: int, device: torch.device) -> float:
    dist.barrier()
    _wait(device)
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    _wait(device)
    return (time.perf_counter() - start) / repeats


def _slowest(seconds: list[float], device: torch.device) -> list[float]:
    both = torch.tensor(seconds, dtype=torch.float64, device=device)
    dist.all_reduce(both, dist.ReduceOp.MAX)
    found: list[float] = both.tolist()
    return found


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


# By their new names where PyTorch has them, as it warns of the old ones.
_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
Prepared = tuple[Callable[[], object], int]


def _all_reduce(count: int, device: torch.device) -> Prepared:
    x = torch.zeros(count, device=device)
    return lambda: dist.all_reduce(x), 2 * _others(x)


def _all_gather(count: int, device: torch.device) -> Prepared:
    x = torch.zeros(count, device=device)
    part = x.chunk(dist.get_world_size())[0].clone()
    return lambda: _gather(x, part), _others(x)


def _reduce_scatter(count: int, device: torch.device) -> Prepared:
    x = torch.zeros(count, device=device)
    part = x.chunk(dist.get_world_size())[0].clone()
    return lambda: _scatter(part, x), _others(x)


def _all_to_all(count: int, device: torch.device) -> Prepared:
    x = torch.zeros(count, device=device)
    y = torch.empty_like(x)
    return lambda: dist.all_to_all_single(y, x), _others(x)


def _pair(count: int, device: torch.device) -> Prepared:
    """Send to a neighbour what it sends back, all pairs at once."""
    x = torch.zeros(count, device=device)
    y, other = torch.empty_like(x), dist.get_rank() ^ 1

    def call() -> None:
        pending = [dist.P2POp(dist.isend, x, other), dist.P2POp(dist.irecv, y, other)]
        for work in dist.batch_isend_irecv(pending):
            work.wait()

    return call, x.nbytes


def _others(x: Tensor) -> int:
    size = dist.get_world_size()
    return x.nbytes * (size - 1) // size


KINDS: dict[str, Callable[[int, torch.device], Prepared]] = {
    "all_reduce": _all_reduce,
    "all_gather": _all_gather,
    "reduce_scatter": _reduce_scatter,
    "all_to_all": _all_to_all,
    "pair": _pair,
}
