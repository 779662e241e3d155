# SPDX-License-Identifier: Apache-2.0
"""Time training steps on several GPUs: ``torchrun --nproc-per-node 2 -m tools.bench.scaling``.

For each case and way of dividing the work it prints the time of a step and the largest memory of a
GPU. The problem has H rows (or nodes) on one GPU. Divided by domain, it is timed with H rows on all
GPUs together (fixed), and with H rows on each (weak); data-parallel and sharded steps have a sample
on each GPU. ``--device cpu --size small`` tries it on processors.
"""

import argparse
import gc
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.nn.parallel import DistributedDataParallel
from torch.utils import _pytree as pytree

from physicsnemo.distributed import distribute, partition, shard, split
from physicsnemo.models.afno import AFNO
from physicsnemo.models.diffusion import SongUNet
from physicsnemo.models.fno import FNO
from physicsnemo.models.gnn_layers import Graph
from physicsnemo.models.meshgraphnet import MeshGraphNet
from physicsnemo.models.sfno import SFNO
from physicsnemo.utils import StaticCaptureTraining
from tools.bench.report import provenance, show, write_json

WAYS = ("alone", "ddp", "fsdp", "domain-fixed", "domain-weak")
WARMUP, STEPS = 11, 10
Inputs = tuple[Any, ...]


@dataclass(frozen=True)
class Problem:
    """A model and a sample, of which ``rows`` are the size that is varied."""

    name: str
    rows: int
    model: Callable[[int], nn.Module]
    sample: Callable[[int], Inputs]


@dataclass(frozen=True)
class Row:
    """What one way of one problem took."""

    case: str
    way: str
    gpus: int
    rows: int
    captured: bool
    step_ms: float
    peak_gib: float
    replays: int
    error: str = ""


def problems(small: bool) -> list[Problem]:
    """Return what is timed, at the sizes of the documentation or at small ones."""
    factor = 8 if small else 1
    n, nodes = 192 // factor, 500_000 // factor**3
    height, width = (96, 192) if small else (720, 1440)
    width_of = {"fno": 32, "afno": 768, "sfno": 256, "song": 128}
    w = {name: max(16, size // factor) for name, size in width_of.items()}
    depth = 2 if small else 12

    def fields(channels: int, *rest: int) -> Callable[[int], Inputs]:
        return lambda rows: (torch.randn(1, channels, rows, *rest),)

    return [
        Problem(
            "FNO 3D",
            n,
            lambda rows: FNO(
                3,
                3,
                dimension=3,
                latent_channels=w["fno"],
                num_fno_modes=24 // (4 if small else 1),
                padding=0,
            ),
            fields(3, n, n),
        ),
        Problem(
            "AFNO",
            height,
            lambda rows: AFNO(
                [rows, width], 20, 20, patch_size=[6, 6], embed_dim=w["afno"], depth=depth
            ),
            fields(20, width),
        ),
        Problem(
            "SFNO",
            height // 2 + 1,
            lambda rows: SFNO(
                [rows, width], [rows, width], 20, 20, embed_dim=w["sfno"], scale_factor=3
            ),
            fields(20, width),
        ),
        Problem(
            "SongUNet",
            height // 2,
            lambda rows: SongUNet(
                [rows, width], 4, 4, model_channels=w["song"], attn_resolutions=[], dropout=0.0,
                bottleneck_attention=False, channel_mult=[1, 2, 2],
            ),
            lambda rows: (torch.randn(1, 4, rows, width), torch.tensor([0.5]), None),
        ),
        Problem(
            "MeshGraphNet",
            nodes,
            lambda rows: MeshGraphNet(4, 3, 2, num_processor_checkpoint_segments=15),
            triangles,
        ),
    ]  # fmt: skip


def triangles(nodes: int) -> Inputs:
    """Return features of a mesh of triangles with about so many nodes, and the mesh."""
    columns = int(nodes**0.5)
    rows = nodes // columns
    row, column = torch.arange(rows * columns) // columns, torch.arange(rows * columns) % columns
    ends = []
    for y, x in ((0, 1), (1, 0), (1, 1), (0, -1), (-1, 0), (-1, -1)):
        inside = (row + y >= 0) & (row + y < rows) & (column + x >= 0) & (column + x < columns)
        start = inside.nonzero()[:, 0]
        ends.append(torch.stack((start, (row + y)[start] * columns + (column + x)[start])))
    position = torch.stack((row, column), dim=1).float()
    graph = Graph(torch.cat(ends, dim=1), rows * columns, pos=position)
    return torch.randn(rows * columns, 4), torch.randn(graph.num_edges, 3), graph


class Bench:
    """The processes, and what each does."""

    def __init__(self, device: torch.device, amp: torch.dtype | None) -> None:
        self.device, self.amp = device, amp
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.mesh = init_device_mesh(device.type, (self.size,))

    def run(self, problem: Problem, way: str, captured: bool) -> Row:
        """Time one way of one problem; on failure, say why."""
        torch.manual_seed(0)
        rows = problem.rows * (self.size if way == "domain-weak" else 1)
        gpus = 1 if way == "alone" else self.size
        try:
            timed = self._time(problem, way, rows, captured) if self.rank < gpus else None
            error = ""
        except Exception as failure:
            timed, error = None, f"{type(failure).__name__}: {failure}"[:300]
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        dist.barrier()
        step, peak, replays = timed or (float("nan"), float("nan"), 0)
        return Row(problem.name, way, gpus, rows, captured, step, peak, replays, error)

    def _time(
        self, problem: Problem, way: str, rows: int, captured: bool
    ) -> tuple[float, float, int]:
        inputs, model = problem.sample(rows), problem.model(rows).to(self.device)
        trained, inputs = self._divide(model, inputs, way)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

        @StaticCaptureTraining(
            trained,
            optimizer,
            use_amp=self.amp is not None,
            amp_type=self.amp or torch.bfloat16,
            use_graphs=captured,
            cuda_graph_warmup=WARMUP,
        )
        def step(inputs: Inputs) -> Tensor:
            return trained(*inputs).float().square().mean()

        for _ in range(WARMUP + 2 if captured else 3):
            step(inputs)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        times = []
        for _ in range(STEPS):
            self._wait()
            start = time.perf_counter()
            step(inputs)
            self._wait()
            times.append(time.perf_counter() - start)
        peak = torch.cuda.max_memory_allocated() / 2**30 if self.device.type == "cuda" else 0.0
        return 1e3 * statistics.median(times), peak, step.replays()

    def _divide(self, model: nn.Module, inputs: Inputs, way: str) -> tuple[nn.Module, Inputs]:
        mesh: DeviceMesh = self.mesh
        if way.startswith("domain"):
            distribute(model, mesh)
            if isinstance(inputs[-1], Graph):
                part = partition(inputs[-1], mesh)
                inputs = part.of_nodes(inputs[0]), part.of_edges(inputs[1]), part
            else:
                inputs = split(inputs[0], model), *inputs[1:]
        inputs = pytree.tree_map_only(Tensor, lambda x: x.to(self.device), inputs)
        if way == "alone":
            return model, inputs
        if way == "fsdp":
            return shard(model, mesh), inputs
        # DistributedDataParallel adds up gradients on the stream on which it was made, and the
        # default one cannot be part of a CUDA graph.
        if self.device.type == "cpu":
            return DistributedDataParallel(model), inputs
        with torch.cuda.stream(torch.cuda.Stream()):
            wrapper = DistributedDataParallel(model, device_ids=[self.device])
        torch.cuda.synchronize()
        return wrapper, inputs

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def main() -> None:
    """Time what the command line names."""
    names = [problem.name for problem in problems(small=True)]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", nargs="+", choices=names, default=names)
    parser.add_argument("--way", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", choices=("full", "small"), default="full")
    parser.add_argument("--eager", action="store_true", help="do not record steps")
    parser.add_argument("--json", type=Path, help="write the table here too")
    options = parser.parse_args()
    device = torch.device("cpu")
    if options.device == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if options.device == "cuda" else "gloo")
    bench = Bench(device, torch.bfloat16 if options.device == "cuda" else None)
    rows = []
    for problem in problems(options.size == "small"):
        if problem.name in options.case:
            for way in options.way:
                rows.append(bench.run(problem, way, not options.eager))
                if bench.rank == 0:
                    print(rows[-1], flush=True)
    if bench.rank == 0:
        columns = ("case", "way", "gpus", "rows", "step_ms", "peak_gib", "replays")
        show("Steps", columns, [tuple(str(getattr(row, it)) for it in columns) for row in rows])
        if options.json:
            write_json(options.json, provenance(), rows=rows)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
