# SPDX-License-Identifier: Apache-2.0
"""Time a training step of models without another benchmark: ``python -m tools.bench.finder``.

The table of the site that finds models shows what a step of each takes. For models that ``cold.py``
does not train in all ways, this trains them in one: captured, in mixed precision, with fused Adam,
on noise of the size of the cases that ``docs/models/facts.toml`` names. One process takes one case
after the other. If one fails, or takes too long, another process goes on with those after it.
"""

import argparse
import gc
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from tools.bench.own_process import InStages, answer
from tools.bench.report import device_name, duration, provenance, write_json
from tools.performance_page import RESULTS, Results
from tools.site.facts import all_facts

START = 30.0
"""Seconds that a process has to load PyTorch, besides."""

_COLUMNS = "{:<32} {:>9} {:>9} {:>7} {:>9} {:>4}  {}"


@dataclass(frozen=True)
class Run:
    """What a training step took.

    Attributes
    ----------
    case
        What was trained.
    inputs
        Sizes of all tensors and graphs that the model is given.
    parameters
        Their number.
    step_s
        Median time of a step, after warm-up.
    peak_bytes
        The most memory that PyTorch's allocator had given at once for it, until then.
    captured, amp
        Whether a CUDA graph is replayed, and in mixed precision: where metadata forbids it, not.
    error
        Why it could not be measured, if so.
    """

    case: str
    inputs: Sequence[str] = ()
    parameters: int | None = None
    step_s: float | None = None
    peak_bytes: int | None = None
    captured: bool | None = None
    amp: bool | None = None
    error: str | None = None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all, print each as it comes, and write the results each time."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.finder", description=__doc__)
    parser.add_argument("--case", nargs="+", default=lacking(), metavar="NAME")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--limit", type=float, default=15.0, metavar="SECONDS", help="of a case")
    parser.add_argument("--total", type=float, default=85.0, metavar="SECONDS", help="of all")
    parser.add_argument("--min-run-time", type=float, default=0.3, metavar="SECONDS")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    parser.add_argument("--one-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one_process:
        answer(stages(options.case, options.device, options.min_run_time))
        return
    print(_COLUMNS.format("case", "M weights", "step", "GB", "captured", "AMP", "").rstrip())
    results: list[Run] = []
    for run in _runs(options):
        results.append(run)
        print(_line(run), flush=True)
        if options.json:
            environment = provenance() | {"device": device_name(options.device)}
            write_json(options.json, environment, results=results)


def lacking() -> list[str]:
    """Return the cases that stand for a model and that ``cold.py`` has not timed.

    Those that stand for their model in the table come first.
    """
    timed = {row["case"] for row in Results(RESULTS).rows("cold") if row["step_s"] is not None}
    by_place = zip_longest(*(facts.bench for facts in all_facts().values()))
    return [name for name in chain.from_iterable(by_place) if name and name not in timed]


def _runs(options: argparse.Namespace) -> Iterator[Run]:
    end = time.monotonic() + options.total
    remaining = list(options.case)
    while remaining:
        settings = ("--device", options.device, "--min-run-time", str(options.min_run_time))
        command = ("--one-process", *settings, "--case", *remaining)
        with InStages("tools.bench.finder", *command) as process:
            values: dict[str, Any] = {}
            limit = options.limit + START
            while remaining and "error" not in values:
                left = end - time.monotonic()
                if left <= 0:
                    yield from (Run(it, error="not tried: time was over") for it in remaining)
                    return
                values = process.next(min(limit, left))
                limit = options.limit
                yield Run(remaining.pop(0), **values)


def stages(names: Sequence[str], device_type: str, min_run_time: float) -> Iterator[dict[str, Any]]:
    """Train one case after the other."""
    import torch
    from torch.utils.benchmark import Timer

    from tools.bench.cases import CASES, sizes
    from tools.bench.measure import watch_memory
    from tools.bench.variants import MODES, WARMUP, Variant

    cases = {str(case): case for case in CASES}
    device = torch.device(device_type)

    def warm(name: str) -> Any:
        step = MODES["train"](cases[name], Variant(capture=True, amp=True), device)
        for _ in range(WARMUP):
            step()
        return step

    warm("FullyConnected-32")  # loads libraries, which keep what they then take
    for name in names:
        gc.collect()  # the former case, whose graph holds memory
        if device.type == "cuda":
            torch.cuda.empty_cache()
        with torch.device("meta"):
            model = cases[name].build()
        step, peak = watch_memory(partial(warm, name), device)
        timer = Timer("step()", globals={"step": step})
        median = timer.blocked_autorange(min_run_time=min_run_time)
        yield {
            "inputs": sizes(step.args[0]),
            "parameters": sum(it.numel() for it in model.parameters()),
            "step_s": median.median,
            "peak_bytes": peak,
            "captured": step.func.replays() > 0,
            "amp": getattr(model.meta, f"amp_{'gpu' if device.type == 'cuda' else 'cpu'}"),
        }
        del step, timer


def _line(run: Run) -> str:
    count, step, peak = run.parameters, run.step_s, run.peak_bytes
    cells = (
        "-" if count is None else f"{count / 1e6:.2f}",
        "-" if step is None else duration(step),
        "-" if peak is None else f"{peak / 1e9:.2f}",
        *("-" if it is None else "yes" if it else "no" for it in (run.captured, run.amp)),
    )
    return _COLUMNS.format(run.case, *cells, run.error or "").rstrip()


if __name__ == "__main__":
    main()
