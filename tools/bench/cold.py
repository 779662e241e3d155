# SPDX-License-Identifier: Apache-2.0
"""Time the first steps of compiled training, and the steps after: ``python -m tools.bench.cold``.

Each case is trained in mixed precision and captured, without compilation (``none``), with that of
the whole function (``whole``), of its blocks (``blocks``), and of the whole function with blocks
that its compiler shares (``nested``). Each run is a process of its own, whose compiler finds
nothing that was compiled before. Several compile at the same time; then they are timed one by one.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.bench.report import ROOT, duration, provenance, write_json

CHOICES = {"eager": None, "none": False, "whole": True, "blocks": "blocks", "nested": True}
"""What is compiled, as the decorators' argument; ``eager`` is not captured either."""

CASES = (
    *("SongUNet-64", "Pangu-1-degree", "GraphCastNet-1-degree", "AFNO-half-degree", "DLWP-64"),
    *("MeshGraphNet-20-thousand", "SFNO-1-degree", "FNO-3d", "FNO-2d", "UNet-128"),
    "FullyConnected-32",
)
"""Those whose steps take long to compile first, since runs of like lengths wait less."""

QUICK = ("FNO-2d-small", "MeshGraphNet-small")
_COLUMNS = "{:<26} {:<8} {:>9} {:>9} {:>9} {:>9}  {}"


@dataclass(frozen=True)
class Run:
    """What one case took, compiled in one way.

    Attributes
    ----------
    case, compiled
        What was run.
    cold_s
        Time from a new model to the end of warm-up, imports of the compiler included.
    first_s
        Time of the first step alone.
    step_s
        Median time of a step after that.
    graphs
        Number of graphs that were compiled.
    peak_bytes
        The most memory that PyTorch's allocator had given at once, 0 on a CPU.
    error
        Why it could not be run, if so.
    """

    case: str
    compiled: str
    cold_s: float = 0.0
    first_s: float = 0.0
    step_s: float = 0.0
    graphs: int = 0
    peak_bytes: int = 0
    error: str | None = None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all, print each as it comes, and write the results after each batch of processes."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.cold", description=__doc__)
    parser.add_argument("--case", nargs="+", default=list(CASES), metavar="NAME")
    parser.add_argument("--compiled", nargs="+", choices=list(CHOICES), default=list(CHOICES))
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--parallel", type=int, default=12, help="processes at the same time")
    parser.add_argument("--min-run-time", type=float, default=1.0, metavar="SECONDS")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        _run_here(options.case[0], options.compiled[0], options.device, options.min_run_time)
        return
    runs = [(case, compiled) for case in options.case for compiled in options.compiled]
    print(_COLUMNS.format("case", "compiled", "cold", "first", "step", "memory", "graphs"))
    results: list[Run] = []
    remaining = iter(runs)
    while batch := list(islice(remaining, options.parallel)):
        for run in _run_batch(batch, options):
            results.append(run)
            print(_line(run), flush=True)
        if options.json:
            environment = provenance() | {"device": _device_name(options.device)}
            environment |= {"cores": os.cpu_count(), "parallel": options.parallel}
            write_json(options.json, environment, results=results)


def _run_batch(batch: Sequence[tuple[str, str]], options: argparse.Namespace) -> Iterator[Run]:
    threads = max(1, (os.cpu_count() or 1) // len(batch))
    with TemporaryDirectory() as folder:
        started = [
            _start(case, compiled, Path(folder) / str(number), threads, options)
            for number, (case, compiled) in enumerate(batch)
        ]
        try:
            warm = [process.stdout.readline() for process in started]  # type: ignore[union-attr]
            for (case, compiled), process, line in zip(batch, started, warm, strict=True):
                # Told to go on, it is the only one that computes.
                last = process.communicate("go\n")[0] if line.strip() == "warm" else line
                values = _parsed(last)
                yield Run(case, compiled, **values)
        finally:
            for process in started:
                process.kill()
                process.wait()


def _start(
    case: str, compiled: str, caches: Path, threads: int, options: argparse.Namespace
) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tools.bench.cold", "--one", "--case", case]
    command += ["--compiled", compiled, "--device", options.device]
    command += ["--min-run-time", str(options.min_run_time)]
    fresh = {
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
        "TRITON_CACHE_DIR": str(caches / "triton"),
        "TORCHINDUCTOR_COMPILE_THREADS": str(threads),
    }
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=ROOT, env=os.environ | fresh, stdin=pipe, stdout=pipe, text=True
    )


def _parsed(text: str) -> dict[str, object]:
    lines = text.strip().splitlines()
    try:
        values: dict[str, object] = json.loads(lines[-1])
        return values
    except (IndexError, ValueError):
        return {"error": "the process ended early"}


def _run_here(case_name: str, compiled: str, device_name: str, min_run_time: float) -> None:
    """Warm up, say so, and time steps when told to; the last line printed is the result."""
    output, sys.stdout = sys.stdout, sys.stderr  # libraries print, too
    try:
        values = _measured(case_name, compiled, device_name, min_run_time, output)
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        values = {"error": f"{type(error).__name__}: {lines[0]}"}
    print(json.dumps(values), file=output, flush=True)


def _measured(
    case_name: str, compiled: str, device_name: str, min_run_time: float, output: object
) -> dict[str, float]:
    import torch
    from torch.utils.benchmark import Timer

    from physicsnemo.core.capture.blocks import find_blocks
    from tools.bench.cases import CASES as ALL_CASES
    from tools.bench.variants import WARMUP, Variant, training_step

    case = next(case for case in ALL_CASES if str(case) == case_name)
    device = torch.device(device_name)
    captured = compiled != "eager"
    variant = Variant(
        capture=captured,
        amp=captured,
        compile=CHOICES[compiled] is True,
        blocks=compiled == "blocks",
    )
    torch.zeros(1, device=device)  # the context of the device is no part of the measurement
    if compiled == "nested":
        # In the class, so that the compiler sees one function, called for several modules.
        for kind in {type(blocks[0]) for blocks in find_blocks(case.build())}:
            kind.forward = torch.compiler.nested_compile_region(kind.forward)
    start = time.perf_counter()
    step = training_step(case, variant, device)
    times = [start]
    built = time.perf_counter()
    for _ in range(WARMUP):
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter())
    print("warm", file=output, flush=True)  # type: ignore[call-overload]
    sys.stdin.readline()
    median = Timer("step()", globals={"step": step}).blocked_autorange(min_run_time=min_run_time)
    dynamo = sys.modules.get("torch._dynamo.utils")
    return {
        "cold_s": times[-1] - start,
        "first_s": times[1] - built,
        "step_s": median.median,
        "graphs": dynamo.counters["stats"]["unique_graphs"] if dynamo else 0,
        "peak_bytes": torch.cuda.max_memory_allocated() if device.type == "cuda" else 0,
    }


def _line(run: Run) -> str:
    if run.error:
        return _COLUMNS.format(run.case, run.compiled, *["-"] * 4, run.error)
    times = map(duration, (run.cold_s, run.first_s, run.step_s))
    memory = f"{run.peak_bytes / 2**30:.2f} G"
    return _COLUMNS.format(run.case, run.compiled, *times, memory, run.graphs)


def _device_name(device: str) -> str:
    if device == "cpu":
        return "CPU"
    import torch

    return str(torch.cuda.get_device_name())


if __name__ == "__main__":
    main()
