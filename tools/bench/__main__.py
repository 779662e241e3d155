# SPDX-License-Identifier: Apache-2.0
"""Time models: ``python -m tools.bench --case FNO-2d --device cuda --variants capture,amp``."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tools.bench.cases import CASES, QUICK, BenchCase, sizes
from tools.bench.measure import Failure, Result, measure
from tools.bench.report import device_name, duration, provenance, show, write_json
from tools.bench.variants import MODES, Variant


def main(arguments: Sequence[str] | None = None, cases: Sequence[BenchCase] = CASES) -> None:
    """Measure the cases that the command line names."""
    known = {str(case): case for case in cases}
    options = _parser(list(known)).parse_args(arguments)
    if options.list:
        show("Cases", ("case", "inputs", "arguments"), [_describe(case) for case in cases])
        return
    torch.set_num_threads(options.threads)
    # Else the profiler, which watches memory on the CPU, logs each time that it starts and stops.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    results, failures = [], []
    for case in map(known.__getitem__, options.case):
        for mode in options.mode:
            run, failed = measure(
                case, mode, options.variants, options.device, options.min_run_time, options.costs
            )
            _show(f"{case}, {mode}, {device_name(options.device)}", run, failed)
            results += run
            failures += failed
    if options.json:
        environment = provenance() | _settings(options.device)
        write_json(options.json, environment, results=results, failures=failures)
    if failures:
        names = (f"{failure.case} {failure.mode} {failure.variant}" for failure in failures)
        sys.exit(f"could not be run: {', '.join(names)}")


def _parser(names: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("--list", action="store_true", help="list the cases, and do nothing else")
    parser.add_argument("--case", nargs="+", choices=names, default=QUICK, metavar="NAME")
    parser.add_argument("--mode", nargs="+", choices=list(MODES), default=list(MODES))
    parser.add_argument(
        "--variants",
        type=_variants,
        default="capture,amp",
        metavar="A,B,...",
        help="plain, capture, compile, amp, or some joined as in capture+amp; eager comes too",
    )
    parser.add_argument(
        "--device", type=_device, default="cuda" if torch.cuda.is_available() else "cpu"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="on the CPU")
    parser.add_argument(
        "--min-run-time", type=float, default=1.0, metavar="SECONDS", help="of each variant"
    )
    parser.add_argument("--costs", action="store_true", help="profile: what takes most time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    return parser


def _variants(text: str) -> list[Variant]:
    try:
        return [Variant.parse(name) for name in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _device(text: str) -> torch.device:
    try:
        return torch.empty(0, device=text).device
    except (RuntimeError, AssertionError) as error:  # a build without CUDA raises the latter
        raise argparse.ArgumentTypeError(str(error)) from error


def _describe(case: BenchCase) -> tuple[str, str, str]:
    arguments = [f"{name}={value}" for name, value in case.arguments.items()]
    return str(case), ", ".join(sizes(case.inputs())), ", ".join(arguments)


def _settings(device: torch.device) -> dict[str, Any]:
    return {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }


def _show(title: str, results: Sequence[Result], failures: Sequence[Failure]) -> None:
    columns = ("variant", "median", "IQR", "ratio", "peak memory", "warm-up", "notes")
    show(title, columns, [*map(_row, results), *map(_row_of_failure, failures)])


def _row(result: Result) -> Sequence[str]:
    return (
        result.variant,
        duration(result.median_s),
        duration(result.iqr_s),
        f"{result.ratio_to_eager:.2f}",
        f"{result.peak_tensor_bytes / 2**20:.1f} MiB",
        duration(result.warmup_s),
        "; ".join([*result.notes, *map(str, result.costs)]),
    )


def _row_of_failure(failure: Failure) -> Sequence[str]:
    return failure.variant, *["-"] * 5, f"fails: {failure.error}"


if __name__ == "__main__":
    main()
