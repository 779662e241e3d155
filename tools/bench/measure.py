# SPDX-License-Identifier: Apache-2.0
"""Time and memory of a case's variants, measured side by side in one process."""

import gc
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

import torch
from torch.autograd.profiler import profile
from torch.utils.benchmark import Measurement, Timer

from tools.bench.cases import BenchCase
from tools.bench.costs import Cost, largest_costs
from tools.bench.variants import MODES, WARMUP, Function, Variant, check_plain, remarks

EAGER = Variant()
ROUNDS = 3

T = TypeVar("T")


@dataclass(frozen=True)
class Result:
    """What one variant of a case took.

    Attributes
    ----------
    case, mode, variant
        What was measured.
    median_s, iqr_s
        Median and interquartile range of the time of a step.
    blocks
        Number of timed blocks of steps that these are taken over.
    ratio_to_eager
        The time of ``eager`` divided by this one: above 1 is faster.
    warmup_s
        Time to build the model and make the first steps, which compile or record what there is to;
        what an earlier variant compiled may be used again.
    peak_tensor_bytes
        The most memory that PyTorch's allocator had given at once in that time: for weights,
        optimizer, activations, all other tensors and, on a GPU, the workspaces of cuBLAS, of which
        a captured step has its own. What libraries take by themselves is not in it.
    notes
        Where the variant is not what its name promises; of ``eager``, how axes are transformed.
    costs
        What takes most of its time, if asked for.
    """

    case: str
    mode: str
    variant: str
    median_s: float
    iqr_s: float
    blocks: int
    ratio_to_eager: float
    warmup_s: float
    peak_tensor_bytes: int
    notes: list[str]
    costs: list[Cost]


@dataclass(frozen=True)
class Failure:
    """A variant of a case that cannot run, and why."""

    case: str
    mode: str
    variant: str
    error: str


def measure(
    case: BenchCase,
    mode: str,
    variants: Sequence[Variant],
    device: torch.device,
    min_run_time: float,
    costs: bool = False,
) -> tuple[list[Result], list[Failure]]:
    """Measure variants of a case, ``eager`` always and first.

    They take turns, so that what slows the machine down for a while slows all of them. One that
    fails leaves the others undisturbed, and its traceback is printed. A plain version is timed if
    it computes the same as the case's model.

    Parameters
    ----------
    case
        What to measure.
    mode
        ``forward`` or ``train``.
    variants
        How to run it.
    device
        Where to run it.
    min_run_time
        How long to time each variant at least, in seconds.
    costs
        Whether to profile each variant as well.

    Raises
    ------
    Exception
        Whatever ``eager`` raises, since the others are compared with it.
    """
    # What earlier cases compiled counts towards a limit, past which all else would run eagerly.
    torch.compiler.reset()
    MODES[mode](case, EAGER, device)()  # loads libraries and makes their workspaces, once for all
    candidates = [_Candidate(case, mode, EAGER, device)]
    failures = []
    for variant in dict.fromkeys(variant for variant in variants if variant != EAGER):
        try:
            if variant.plain:
                check_plain(case, device)
            candidates.append(_Candidate(case, mode, variant, device))
        except Exception as error:
            traceback.print_exc()
            reason = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
            failures.append(Failure(str(case), mode, str(variant), reason))
    for _ in range(ROUNDS):
        for candidate in candidates:
            candidate.time(min_run_time / ROUNDS)
    return [candidate.result(candidates[0], costs) for candidate in candidates], failures


class _Candidate:
    """A variant that is ready to be timed, and how long its steps took so far."""

    def __init__(self, case: BenchCase, mode: str, variant: Variant, device: torch.device) -> None:
        def warm_up() -> tuple[Function, float]:
            start = time.perf_counter()
            step = MODES[mode](case, variant, device)
            for _ in range(WARMUP):
                step()
            return step, time.perf_counter() - start

        self._name = (str(case), mode, str(variant))
        self._notes = remarks(case, variant, device)
        (self._step, self._warmup_s), self._peak = watch_memory(warm_up, device)
        threads = torch.get_num_threads()
        self._timer = Timer("step()", globals={"step": self._step}, num_threads=threads)
        self._device = device
        self._measurements: list[Measurement] = []

    def time(self, seconds: float) -> None:
        self._measurements.append(self._timer.blocked_autorange(min_run_time=seconds))

    def merged(self) -> Measurement:
        (merged,) = Measurement.merge(self._measurements)
        return merged

    def result(self, eager: "_Candidate", costs: bool) -> Result:
        taken = self.merged()
        return Result(
            *self._name,
            median_s=taken.median,
            iqr_s=taken.iqr,
            blocks=len(taken.times),
            ratio_to_eager=eager.merged().median / taken.median,
            warmup_s=self._warmup_s,
            peak_tensor_bytes=self._peak,
            notes=self._notes,
            costs=largest_costs(self._step, self._device) if costs else [],
        )


def watch_memory(function: Callable[[], T], device: torch.device) -> tuple[T, int]:
    """Return what a function returns, and how far allocations rose above where they were before."""
    gc.collect()
    if device.type == "cpu":
        with profile(profile_memory=True) as profiler:
            result = function()
        events = [e for e in profiler.kineto_results.events() if e.name() == "[memory]"]
        events.sort(key=lambda event: event.start_ns())
        return result, max(accumulate(event.nbytes() for event in events), default=0)
    before = torch.accelerator.memory_allocated(device)
    torch.accelerator.reset_peak_memory_stats(device)
    result = function()
    return result, torch.accelerator.max_memory_allocated(device) - before
