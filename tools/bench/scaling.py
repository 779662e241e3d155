# SPDX-License-Identifier: Apache-2.0
"""Time training steps on several GPUs.

    torchrun --standalone --nproc-per-node 2 --max-restarts 50 -m tools.bench.scaling --json FILE

For each case and way of dividing the work it prints the time of a step and the largest memory of a
GPU. The problem has H rows (or nodes) on one GPU. Divided by domain, it is timed with H rows on all
GPUs together (fixed), and with H rows on each (weak); data-parallel and sharded steps have a sample
on each GPU. All but the step of one GPU average gradients.

A measurement that fails, or takes too long, in any process is noted, and ends all processes;
torchrun starts them again for the next one, as often as ``--max-restarts`` says. With as many
processes as GPUs, 1, 2, 4 or 8, the command is the same. ``--profile`` tells what part of steps is
communication that no computation hides. ``--device cpu --size small`` tries all this on processors.
"""

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel
from torch.utils import _pytree as pytree

from physicsnemo.distributed.meeting import meet
from physicsnemo.utils import StaticCaptureTraining
from tools.bench.overlap import Overlap, profiled
from tools.bench.report import provenance, show, write_json
from tools.bench.scaling_cases import WAYS, Inputs, Problem, divide, loss_of, problems

STEPS, SECONDS = 10, 4.0  # how many steps are timed; fewer, but three, of slow ones


@dataclass(frozen=True)
class Row:
    """What one way of one problem took: of all GPUs, the longest time and the largest memory.

    Attributes
    ----------
    case, way
        What was timed.
    gpus, rows
        The number of GPUs, and the size of the problem on all of them if it is divided.
    captured
        Whether the step was to be recorded as a CUDA graph; ``replays`` tells how often one ran.
    step_ms
        Median of the timed steps.
    peak_gib
        The most memory that PyTorch's allocator had given at once, from building the model to the
        last step: a recorded step gets its memory while it is recorded.
    whole_s
        Time of the whole measurement, with building the model and warming up.
    overlap
        What a profile tells.
    error
        What went wrong, and where.
    """

    case: str
    way: str
    gpus: int
    rows: int
    captured: bool
    step_ms: float | None = None
    peak_gib: float | None = None
    replays: int = 0
    whole_s: float | None = None
    overlap: Overlap | None = None
    error: str = ""


class Bench:
    """The processes, and what each does."""

    def __init__(
        self, device: torch.device, amp: torch.dtype | None, captured: bool, profile: bool
    ) -> None:
        self.device, self.amp = device, amp
        self.captured, self.profile = captured, profile
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.mesh = init_device_mesh(device.type, (self.size,))

    def planned(self, problem: Problem, way: str) -> Row:
        """Return what will be timed."""
        gpus = 1 if way == "alone" else self.size
        return Row(problem.name, way, gpus, problem.rows_of(way, self.size), self.captured)

    def run(self, problem: Problem, way: str) -> Row:
        """Time one way of one problem; all processes return the same."""
        torch.manual_seed(0)
        planned, start = self.planned(problem, way), time.perf_counter()
        timed = self._time(problem, planned) if self.rank < planned.gpus else (0.0, 0.0, 0.0, None)
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        step, peak, replays = self._largest(*timed[:3])
        found = {"step_ms": step, "peak_gib": peak, "replays": int(replays), "overlap": timed[3]}
        return Row(**vars(planned) | found | {"whole_s": time.perf_counter() - start})

    def _time(self, problem: Problem, planned: Row) -> tuple[float, float, float, Overlap | None]:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        inputs = problem.sample(planned.rows)
        with self.device:  # where random weights take no time
            model = problem.model(planned.rows)
        trained, inputs = self._divide(model, inputs, planned.way)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        warmup = 11 if isinstance(trained, DistributedDataParallel) else 3

        @StaticCaptureTraining(
            trained,
            optimizer,
            use_amp=self.amp is not None,
            amp_type=self.amp or torch.bfloat16,
            use_graphs=self.captured,
            cuda_graph_warmup=warmup,
        )
        def step(inputs: Inputs) -> Tensor:
            return loss_of(trained(*inputs))

        for _ in range(warmup + 2 if self.captured else 3):
            step(inputs)
        times = [self._timed(step, inputs)]
        # All take as many steps, those of the slowest.
        (longest,) = times if planned.gpus == 1 else self._largest(times[0])
        for _ in range(max(3, min(STEPS, int(SECONDS / longest))) - 1):
            times.append(self._timed(step, inputs))
        peak = torch.cuda.max_memory_allocated() / 2**30 if self.device.type == "cuda" else 0.0
        overlap = profiled(lambda: step(inputs), 3, self.device) if self.profile else None
        return 1e3 * statistics.median(times), peak, float(step.replays()), overlap

    def _divide(self, model: nn.Module, inputs: Inputs, way: str) -> tuple[nn.Module, Inputs]:
        model, inputs = divide(model, inputs, way, self.mesh, self.amp)
        inputs = pytree.tree_map_only(Tensor, lambda x: x.to(self.device), inputs)
        if way in ("alone", "fsdp"):
            return model, inputs
        # DistributedDataParallel adds up gradients on the stream on which it was made, and the
        # default one cannot be part of a CUDA graph.
        if self.device.type == "cpu":
            return DistributedDataParallel(model), inputs
        with torch.cuda.stream(torch.cuda.Stream()):
            wrapper = DistributedDataParallel(model, device_ids=[self.device])
        torch.cuda.synchronize()
        return wrapper, inputs

    def _timed(self, step: Any, inputs: Inputs) -> float:
        self._wait()
        start = time.perf_counter()
        step(inputs)
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _largest(self, *numbers: float) -> list[float]:
        """Return the largest of all processes' numbers, one by one."""
        both = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(both, dist.ReduceOp.MAX)
        found: list[float] = both.tolist()
        return found


class Notes:
    """Rows of all measurements so far, in a file that outlives processes."""

    def __init__(self) -> None:
        # torchrun, whose children the processes are, is the same before and after a restart.
        self._path = Path(tempfile.gettempdir()) / f"scaling-{os.getppid()}.jsonl"
        if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0" and dist.get_rank() == 0:
            self._path.write_text("", encoding="utf-8")
        dist.barrier()

    def add(self, row: Row) -> None:
        """Note a row, in one write, as several processes may fail at once."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")

    def rows(self) -> list[Row]:
        """Return the first row of each measurement."""
        found: dict[tuple[str, str], Row] = {}
        for line in self._path.read_text(encoding="utf-8").splitlines():
            content = json.loads(line)
            if content["overlap"]:
                content["overlap"] = Overlap(**content["overlap"])
            row = Row(**content)
            found.setdefault((row.case, row.way), row)
        return list(found.values())

    def remove(self) -> None:
        """Delete the file."""
        self._path.unlink()


@contextmanager
def noted(notes: Notes, planned: Row, seconds: float) -> Iterator[None]:
    """Note a failure, or that time is up, and end the process."""

    def fail(error: str) -> None:
        error = f"process {dist.get_rank()}: {error}"[:300]
        notes.add(Row(**vars(planned) | {"error": error}))
        print(f"{planned.case}, {planned.way}: {error}", file=sys.stderr, flush=True)
        os._exit(1)  # others may wait for this process, and this one's threads for others

    timer = threading.Timer(seconds, fail, [f"not done after {seconds:g} seconds"])
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception as failure:
        timer.cancel()
        traceback.print_exc()
        fail(f"{type(failure).__name__}: {failure}")
    timer.cancel()


def main() -> None:
    """Time what the command line names."""
    options = _parser().parse_args()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler tells when it starts
    device = torch.device("cpu")
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ["LOCAL_WORLD_SIZE"])))
    if options.device == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    on_gpu = options.device == "cuda"
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    # Those that torchrun starts again would find addresses of those that have ended.
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=meet(address, port, rank, size, dist.default_pg_timeout),
        rank=rank,
        world_size=size,
        device_id=device if on_gpu else None,
    )
    bench = Bench(device, torch.bfloat16 if on_gpu else None, not options.eager, options.profile)
    notes = Notes()
    done = {(row.case, row.way) for row in notes.rows()}
    _write(notes, options.json, bench)
    for problem in problems(options.size == "small"):
        for way in options.way:
            if problem.name not in options.case or (problem.name, way) in done:
                continue
            if bench.rank == 0:
                print(f"{problem.name}, {way} ...", flush=True)
            with noted(notes, bench.planned(problem, way), options.limit):
                row = bench.run(problem, way)
            if bench.rank == 0:
                notes.add(row)
                print(row, flush=True)
                _write(notes, options.json, bench)
            dist.barrier()  # else the next one may fail, and end all processes, before that
    if bench.rank == 0:
        _show(notes.rows())
        notes.remove()
    dist.destroy_process_group()


def _parser() -> argparse.ArgumentParser:
    names = [problem.name for problem in problems(small=True)]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", nargs="+", choices=names, default=names)
    parser.add_argument("--way", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", choices=("full", "small"), default="full")
    parser.add_argument("--eager", action="store_true", help="do not record steps")
    parser.add_argument("--profile", action="store_true", help="profile steps after timing them")
    parser.add_argument("--limit", type=float, default=60.0, help="of a measurement, in seconds")
    parser.add_argument("--json", type=Path, help="write the table here too, after each row")
    return parser


def _write(notes: Notes, path: Path | None, bench: Bench) -> None:
    if path is None or bench.rank > 0:
        return
    on_gpu = bench.device.type == "cuda"
    machine = {
        "device": torch.cuda.get_device_name(bench.device) if on_gpu else "CPU",
        "gpus": bench.size,
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if on_gpu else None,
        "command": " ".join(["-m tools.bench.scaling", *sys.argv[1:]]),
    }
    write_json(path, provenance() | machine, rows=notes.rows())


def _show(rows: list[Row]) -> None:
    alone = {row.case: row.step_ms for row in rows if row.way == "alone" and row.step_ms}
    columns = ("case", "way", "GPUs", "rows", "ms", "efficiency", "GiB", "exposed ms", "")
    show("Steps", columns, [_cells(row, alone.get(row.case)) for row in rows])


def _cells(row: Row, alone: float | None) -> tuple[str, ...]:
    efficiency = ""
    if alone and row.step_ms:
        shared = row.gpus if row.way == "domain-fixed" else 1
        efficiency = f"{alone / row.step_ms / shared:.0%}"
    return (
        row.case,
        row.way,
        str(row.gpus),
        str(row.rows),
        "" if row.step_ms is None else f"{row.step_ms:.1f}",
        efficiency,
        "" if row.peak_gib is None else f"{row.peak_gib:.1f}",
        "" if row.overlap is None else f"{row.overlap.exposed:.1f}",
        "fails" if row.error else "",
    )


if __name__ == "__main__":
    main()
