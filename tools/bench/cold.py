# SPDX-License-Identifier: Apache-2.0
"""Time the first steps of compiled training, and the steps after: ``python -m tools.bench.cold``.

Each case is trained without anything (``eager``), then in mixed precision and captured, without
compilation (``none``), with that of the whole function (``whole``), of its blocks (``blocks``), or
of the whole function with blocks that its compiler shares (``nested``). Each run is a process of
its own, whose compiler finds nothing that was compiled before. The runs of a case compile at the
same time; then they are timed one by one; then they take batches of other sizes at the same time.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tools.bench.own_process import InStages, answer
from tools.bench.report import device_name, duration, provenance, write_json

CHOICES = {"eager": None, "none": False, "whole": True, "blocks": "blocks", "nested": True}
"""What is compiled, as the decorators' argument; ``eager`` is not captured either."""

DEFAULT = ["eager", "none", "blocks", "whole"]

CASES = (
    *("SongUNet-64", "Pangu-1-degree", "GraphCastNet-1-degree", "AFNO-half-degree", "DLWP-64"),
    *("MeshGraphNet-20-thousand", "SFNO-1-degree", "FNO-3d", "FNO-2d", "UNet-128"),
    *("FullyConnected-32", "UNet-128-default-adam"),
)
"""Those whose steps take long to compile first, since runs of like lengths wait less."""

ONE_SAMPLE = {"GraphCastNet-1-degree"}
"""Cases whose models take batches of one sample alone."""

BESIDE = "another checkout, to time its packages in turn with those of this one"

TIMES = (2, 3)
"""By what batches grow after all: compilers take the first change for a rule, and the second."""

_COLUMNS = "{:<26} {:<8} {:>9} {:>9} {:>9} {:>9} {:>7} {:>9} {:>9}  {}"


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
    graphs
        Number of graphs that were compiled until then.
    peak_bytes
        The most memory that PyTorch's allocator had given at once until then, 0 on a CPU.
    step_s
        Median time of a step after that.
    other_batches_s
        Times of the first steps with twice and three times the batch.
    other_batches_graphs
        Numbers of graphs that each of these compiled.
    error
        Why the rest could not be measured, if so.
    commit
        Of another checkout whose packages were measured, if so.
    """

    case: str
    compiled: str
    cold_s: float | None = None
    first_s: float | None = None
    graphs: int | None = None
    peak_bytes: int | None = None
    step_s: float | None = None
    other_batches_s: Sequence[float] = ()
    other_batches_graphs: Sequence[int] = ()
    error: str | None = None
    commit: str | None = None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all, print each as it comes, and write the results after each batch of processes."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.cold", description=__doc__)
    parser.add_argument("--case", nargs="+", default=list(CASES), metavar="NAME")
    parser.add_argument("--compiled", nargs="+", choices=list(CHOICES), default=DEFAULT)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--beside", type=Path, metavar="FOLDER", help=BESIDE)
    parser.add_argument("--parallel", type=int, default=4, help="processes at the same time")
    parser.add_argument("--cold-limit", type=float, default=40.0, metavar="SECONDS")
    parser.add_argument("--batches-limit", type=float, default=15.0, metavar="SECONDS")
    parser.add_argument("--min-run-time", type=float, default=0.5, metavar="SECONDS")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        answer(stages(options.case[0], options.compiled[0], options.device, options.min_run_time))
        return
    print(
        _COLUMNS.format(
            *("case", "compiled", "cold", "first", "step", "memory", "graphs"),
            *(f"{times} x batch" for times in TIMES),
            "graphs of these",
        )
    )
    results: list[Run] = []
    trees = [None, options.beside] if options.beside else [None]
    remaining = product(options.case, options.compiled, trees)
    while batch := list(islice(remaining, options.parallel)):
        for run in _run_batch(batch, options):
            results.append(run)
            print(_line(run), flush=True)
        if options.json:
            environment = provenance() | {"device": device_name(options.device)}
            environment |= {"cores": os.cpu_count(), "parallel": options.parallel}
            write_json(options.json, environment, results=results)


def _run_batch(
    batch: Sequence[tuple[str, str, Path | None]], options: argparse.Namespace
) -> list[Run]:
    threads = max(1, (os.cpu_count() or 1) // len(batch))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        processes = [
            stack.enter_context(_process(*run, folder / str(number), threads, options))
            for number, run in enumerate(batch)
        ]
        found: list[dict[str, Any]] = [{} for _ in batch]

        def go_on(number: int, seconds: float) -> None:
            if "error" not in found[number]:
                found[number] |= processes[number].next(seconds)

        numbers = range(len(batch))
        with ThreadPoolExecutor(len(batch)) as together:
            list(together.map(go_on, numbers, [options.cold_limit] * len(batch)))
            for number in numbers:
                go_on(number, 10 + 5 * options.min_run_time)
            list(together.map(go_on, numbers, [options.batches_limit] * len(batch)))
        return [
            Run(case, compiled, **values, commit=_commit(tree) if tree else None)
            for (case, compiled, tree), values in zip(batch, found, strict=True)
        ]


def _process(
    case: str,
    compiled: str,
    tree: Path | None,
    caches: Path,
    threads: int,
    options: argparse.Namespace,
) -> InStages:
    arguments = ["--one", "--case", case, "--compiled", compiled, "--device", options.device]
    fresh = {
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
        "TRITON_CACHE_DIR": str(caches / "triton"),
        "TORCHINDUCTOR_COMPILE_THREADS": str(threads),
    }
    if tree:
        # What stands there is found before what is installed.
        sources = [str(path.resolve()) for path in sorted(tree.glob("packages/*/src"))]
        given = filter(None, [os.environ.get("PYTHONPATH")])
        fresh["PYTHONPATH"] = os.pathsep.join([*sources, *given])
    time_ = ("--min-run-time", str(options.min_run_time))
    return InStages("tools.bench.cold", *arguments, *time_, variables=fresh)


def _commit(tree: Path) -> str:
    command = ["git", "-C", str(tree), "rev-parse", "--short=12", "HEAD"]
    return subprocess.check_output(command, text=True).strip()


def stages(
    name: str, compiled: str, device_type: str, min_run_time: float
) -> Iterator[dict[str, Any]]:
    """Warm up, time steps, and take batches of other sizes."""
    import torch
    from torch.utils.benchmark import Timer

    from physicsnemo.core.capture.blocks import find_blocks
    from tools.bench.cases import CASES as ALL_CASES
    from tools.bench.variants import WARMUP, Variant, training_step

    case = next(case for case in ALL_CASES if str(case) == name)
    device = torch.device(device_type)
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
    start, before = time.perf_counter(), _compiled_graphs()
    step = training_step(case, variant, device)
    times = [time.perf_counter()]
    for _ in range(WARMUP):
        step()
        _wait(device)
        times.append(time.perf_counter())
    yield {
        "cold_s": times[-1] - start,
        "first_s": times[1] - times[0],
        "graphs": _compiled_graphs() - before,
        "peak_bytes": torch.cuda.max_memory_allocated() if device.type == "cuda" else 0,
    }
    median = Timer("step()", globals={"step": step}).blocked_autorange(min_run_time=min_run_time)
    yield {"step_s": median.median}
    if name in ONE_SAMPLE:
        yield {}
        return
    seconds, graphs = [], []
    for factor in TIMES:
        arguments = [larger(part, factor) for part in step.args]  # type: ignore[attr-defined]
        start, before = time.perf_counter(), _compiled_graphs()
        step.func(*arguments)  # type: ignore[attr-defined]
        _wait(device)
        seconds.append(time.perf_counter() - start)
        graphs.append(_compiled_graphs() - before)
    yield {"other_batches_s": seconds, "other_batches_graphs": graphs}


def larger(batch: Any, factor: int) -> Any:
    """Return a batch that holds another so many times; graphs are joined to one."""
    import torch
    from torch.utils import _pytree as pytree

    from physicsnemo.models.gnn_layers import Graph

    def repeated(part: Any) -> Any:
        if isinstance(part, Graph):
            return Graph.join([part] * factor)
        return torch.cat([part] * factor) if isinstance(part, torch.Tensor) else part

    return pytree.tree_map(repeated, batch, is_leaf=lambda it: isinstance(it, Graph))


def _compiled_graphs() -> int:
    dynamo = sys.modules.get("torch._dynamo.utils")
    return dynamo.counters["stats"]["unique_graphs"] if dynamo else 0


def _wait(device: Any) -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize()


def _line(run: Run) -> str:
    times = ["-" if it is None else duration(it) for it in (run.cold_s, run.first_s, run.step_s)]
    memory = "-" if run.peak_bytes is None else f"{run.peak_bytes / 2**30:.2f} G"
    graphs = "-" if run.graphs is None else run.graphs
    others = [duration(it) for it in run.other_batches_s] or ["-"] * len(TIMES)
    note = run.error or ", ".join(map(str, run.other_batches_graphs))
    kind = f"{run.compiled} of {run.commit}" if run.commit else run.compiled
    return _COLUMNS.format(run.case, kind, *times, memory, graphs, *others, note)


if __name__ == "__main__":
    main()
