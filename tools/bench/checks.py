# SPDX-License-Identifier: Apache-2.0
"""Measure what checks of inputs cost: ``python -m tools.bench.checks``.

The share of an eager training step that is spent in Python functions of this library which look at
arguments and change nothing. The profiler slows down Python and not PyTorch's operators, so a share
is rather too large than too small.
"""

import argparse
import cProfile
import pstats
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tools.bench.cases import CASES, BenchCase
from tools.bench.report import duration, provenance, show, write_json
from tools.bench.variants import Variant, training_step

COLUMNS = ("case", "step", "checks", "calls", "share", "largest")
LIMIT = 0.05
FILES = {"checks.py", "_checks.py", "_inputs.py"}

Function = tuple[str, int, str]
"""File, line and name, as the profiler tells functions apart."""


@dataclass(frozen=True)
class Share:
    """What checks take of a training step.

    Attributes
    ----------
    case
        The model.
    step_s, checks_s
        Time of a step, and of checks in it, under the profiler.
    calls
        How many checks there are in a step.
    share
        Their quotient.
    largest
        The check that takes most.
    """

    case: str
    step_s: float
    checks_s: float
    calls: float
    share: float
    largest: str


def main(arguments: Sequence[str] | None = None, cases: Sequence[BenchCase] = CASES) -> None:
    """Measure the cases that the command line names."""
    known = {str(case): case for case in cases}
    parser = argparse.ArgumentParser(prog="python -m tools.bench.checks", description=__doc__)
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", type=torch.device, default=default)
    parser.add_argument("--case", nargs="+", choices=known, default=list(known), metavar="NAME")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    options = parser.parse_args(arguments)
    results = []
    for name in options.case:
        results.append(measure(known[name], options.device, options.steps))
        print(f"{name}: {results[-1].share:.1%}", flush=True)
    show(f"Checks in an eager training step, {options.device}", COLUMNS, [*map(_row, results)])
    if options.json:
        write_json(options.json, provenance(), results=results)
    if over := [result.case for result in results if result.share > LIMIT]:
        sys.exit(f"more than {LIMIT:.0%} of a step: {', '.join(over)}")


def measure(case: BenchCase, device: torch.device, steps: int) -> Share:
    """Profile training steps of a case."""
    step = training_step(case, Variant(), device)
    on_gpu = device.type == "cuda"
    wait: Callable[[], Any] = torch.cuda.synchronize if on_gpu else lambda: None
    for _ in range(2):
        step()
    wait()
    # What else runs on the machine does not count on a CPU; waiting for a GPU does.
    profiler = cProfile.Profile(time.perf_counter if on_gpu else time.thread_time)
    profiler.enable()
    for _ in range(steps):
        step()
    wait()
    profiler.disable()
    return share_of(str(case), pstats.Stats(profiler), steps)


def share_of(case: str, stats: pstats.Stats, steps: int) -> Share:
    """Return what a profile tells of checks; one inside of another is a part of that."""
    found: dict[Function, Any] = stats.stats  # type: ignore[attr-defined]
    times = {}
    calls = 0
    for function, (*_, callers) in found.items():
        if is_check(function):
            outer = [it for caller, it in callers.items() if not is_check(caller)]
            times[function] = sum(cumulative for *_, cumulative in outer)
            calls += sum(number for _, number, *_ in outer)
    total = float(stats.total_tt)  # type: ignore[attr-defined]
    largest = max(times, key=times.__getitem__, default=("", 0, "none"))
    return Share(
        case=case,
        step_s=total / steps,
        checks_s=sum(times.values()) / steps,
        calls=calls / steps,
        share=sum(times.values()) / total,
        largest=f"{largest[2]} in {Path(largest[0]).name}" if times else "none",
    )


def is_check(function: Function) -> bool:
    """Return whether a function belongs to this library and only looks at arguments."""
    file, _, name = function
    path = Path(file)
    named = name.lstrip("_").startswith("check") or path.name in FILES
    return named and "physicsnemo" in path.parts


def _row(result: Share) -> Sequence[str]:
    return (
        result.case,
        duration(result.step_s),
        duration(result.checks_s) if result.checks_s else "none",
        f"{result.calls:.0f}",
        f"{result.share:.1%}",
        result.largest,
    )


if __name__ == "__main__":
    main()
