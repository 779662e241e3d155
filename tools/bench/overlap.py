# SPDX-License-Identifier: Apache-2.0
"""What part of a step is communication that no computation hides, by PyTorch's profiler."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.autograd.profiler import profile

Span = tuple[int, int]  # start and end, in nanoseconds


@dataclass(frozen=True)
class Overlap:
    """How the time of a step divides, in milliseconds.

    Attributes
    ----------
    step
        From the first kernel to the end of the last.
    computation, communication
        While kernels of that kind run, whatever else runs.
    exposed
        While kernels of communication run and no others.
    idle
        While no kernel runs.
    worst
        Which kernels of communication are exposed longest, and how long.
    """

    step: float
    computation: float
    communication: float
    exposed: float
    idle: float
    worst: list[tuple[str, float]]


def profiled(step: Callable[[], object], repeats: int, device: torch.device) -> Overlap:
    """Profile a step: kernels on a GPU; on a CPU the operators that the main thread calls.

    Parameters
    ----------
    step
        What to profile, called ``repeats`` times; the result is for one of them.
    repeats
        How often.
    device
        Where it runs.
    """
    kind = getattr(DeviceType, device.type.upper())
    with profile(use_device="cuda" if device.type == "cuda" else None) as profiler:
        for _ in range(repeats):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize()
    events = [it for it in profiler.kineto_results.events() if it.device_type() == kind]
    if device.type == "cuda":  # without ranges that have names, which kernels and gaps lie in
        events = [it for it in events if not it.is_user_annotation()]
    kernels = [(it.name(), (it.start_ns(), it.end_ns())) for it in events if it.duration_ns() > 0]
    if device.type == "cpu":
        kernels = [it for it in kernels if it[0].startswith(("aten::", "gloo:"))]
    return divide(kernels, repeats)


def divide(kernels: Sequence[tuple[str, Span]], repeats: int = 1) -> Overlap:
    """Divide the time of some steps by what runs, given the kernels' names and spans."""
    groups: dict[bool, list[Span]] = {True: [], False: []}
    named: dict[str, list[Span]] = defaultdict(list)
    for name, span in kernels:
        groups[communicates(name)].append(span)
        if communicates(name):
            named[name.partition("(")[0]].append(span)
    computing, communicating = union(groups[False]), union(groups[True])
    running = union([*computing, *communicating])
    step = running[-1][1] - running[0][0] if running else 0
    scale = 1e-6 / repeats
    exposed = {name: length(running_alone(spans, computing)) for name, spans in named.items()}
    worst = sorted(exposed.items(), key=lambda item: -item[1])[:5]
    return Overlap(
        step * scale,
        length(computing) * scale,
        length(communicating) * scale,
        length(running_alone(communicating, computing)) * scale,
        (step - length(running)) * scale,
        [(name, time * scale) for name, time in worst],
    )


def communicates(kernel: str) -> bool:
    """Tell whether a kernel, or an operator, waits for other processes."""
    return kernel.lower().startswith(("nccl", "gloo"))


def union(spans: Iterable[Span]) -> list[Span]:
    """Return spans that do not overlap, in order, and cover what the given ones do.

    Examples
    --------
    >>> union([(5, 7), (0, 2), (1, 3)])
    [(0, 3), (5, 7)]
    """
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def running_alone(spans: Iterable[Span], others: Sequence[Span]) -> list[Span]:
    """Return the parts of spans that others, which are in order and apart, do not cover.

    Examples
    --------
    >>> running_alone([(0, 10)], [(2, 4), (8, 12)])
    [(0, 2), (4, 8)]
    """
    left: list[Span] = []
    for start, end in union(spans):
        at = max(0, bisect_left(others, (start, start)) - 1)
        while at < len(others) and others[at][0] < end:
            first, last = others[at]
            at += 1
            if first > start:
                left.append((start, first))
            start = max(start, last)
        if start < end:
            left.append((start, end))
    return left


def length(spans: Iterable[Span]) -> int:
    """Return how long spans that do not overlap are together."""
    return sum(end - start for start, end in spans)
