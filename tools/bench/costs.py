# SPDX-License-Identifier: Apache-2.0
"""Where the time of a step goes: the kernels, or operators on a CPU, that take most of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

STEPS = 5


@dataclass(frozen=True)
class Cost:
    """What one kind of kernel takes.

    Attributes
    ----------
    name
        The kernel or operator, without its template arguments.
    seconds
        Time in all its calls in one step.
    share
        That time as a part of the time of all of them.
    """

    name: str
    seconds: float
    share: float

    def __str__(self) -> str:
        return f"{self.name} {self.share:.0%}"


def largest_costs(step: Callable[[], Any], device: torch.device, count: int = 5) -> list[Cost]:
    """Profile a few steps and return what takes most time."""
    on_gpu = device.type == "cuda"
    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=kinds) as profiler:
        for _ in range(STEPS):
            step()
        if on_gpu:
            torch.cuda.synchronize(device)
    times = {
        event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total
        for event in profiler.key_averages()
        if not event.is_user_annotation and (not on_gpu or event.device_type.name == "CUDA")
    }
    total = sum(times.values()) or 1.0
    largest = sorted(times, key=times.__getitem__, reverse=True)[:count]
    return [Cost(_short(name), times[name] * 1e-6 / STEPS, times[name] / total) for name in largest]


def _short(name: str) -> str:
    name = (
        name.replace("(anonymous namespace)::", "")
        .removeprefix("void ")
        .partition("<")[0]
        .partition("(")[0]
    )
    return name.rpartition("::")[2] if "::" in name and not name.startswith("aten::") else name
