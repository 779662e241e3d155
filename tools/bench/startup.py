# SPDX-License-Identifier: Apache-2.0
"""Time imports in fresh interpreters: ``python -m tools.bench.startup``.

To import ``physicsnemo``, or to list the models, may take at most 1.5 times as long as to import
``importlib_metadata``, which both need.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.bench.report import duration, provenance, show, write_json

LIMIT = 1.5
BASELINE = "import importlib_metadata"
LISTING = "from physicsnemo.registry import ModelRegistry; ModelRegistry().list_models()"
STATEMENTS = (BASELINE, "import physicsnemo", f"import physicsnemo; {LISTING}")


@dataclass(frozen=True)
class Startup:
    """How long an interpreter takes that runs one statement, from its start to its end.

    Attributes
    ----------
    statement
        What it runs.
    median_s, iqr_s, min_s
        Median, interquartile range and minimum of the wall time.
    ratio_to_baseline
        The median divided by that of the first statement.
    runs
        Number of interpreters.
    """

    statement: str
    median_s: float
    iqr_s: float
    min_s: float
    ratio_to_baseline: float
    runs: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure an interpreter, by default the running one."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.startup", description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="interpreters for each statement")
    parser.add_argument("--python", default=sys.executable, help="an environment's interpreter")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    options = parser.parse_args(arguments)
    if options.runs < 2:
        parser.error(f"expected at least 2 runs, got {options.runs}")
    results = measure(STATEMENTS, options.python, options.runs)
    _show(results)
    if options.json:
        environment = provenance() | {"interpreter": options.python}
        write_json(options.json, environment, results=results)


def measure(statements: Sequence[str], python: str, runs: int) -> list[Startup]:
    """Time statements in turn, so that what slows the machine down slows all of them."""
    for statement in statements:
        _run(python, statement)  # writes what bytecode is missing
    rounds = [[_run(python, statement) for statement in statements] for _ in range(runs)]
    times = list(zip(*rounds, strict=True))
    baseline = statistics.median(times[0])
    return [
        _summary(statement, taken, baseline)
        for statement, taken in zip(statements, times, strict=True)
    ]


def _run(python: str, statement: str) -> float:
    start = time.perf_counter()
    subprocess.run([python, "-c", statement], check=True)
    return time.perf_counter() - start


def _summary(statement: str, times: Sequence[float], baseline: float) -> Startup:
    first, median, third = statistics.quantiles(times, n=4, method="inclusive")
    return Startup(
        statement=statement,
        median_s=median,
        iqr_s=third - first,
        min_s=min(times),
        ratio_to_baseline=median / baseline,
        runs=len(times),
    )


def _show(results: Sequence[Startup]) -> None:
    rows = [
        (
            *(duration(seconds) for seconds in (result.median_s, result.iqr_s, result.min_s)),
            f"{result.ratio_to_baseline:.2f}",
            result.statement,
        )
        for result in results
    ]
    columns = ("median", "IQR", "minimum", "ratio", "statement")
    show(f"Start of an interpreter; a ratio of {LIMIT} is allowed", columns, rows)


if __name__ == "__main__":
    main()
