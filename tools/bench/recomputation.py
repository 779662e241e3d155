# SPDX-License-Identifier: Apache-2.0
"""Memory and time of GraphCast by what it computes again: ``tools.bench.recomputation``.

A training step in mixed precision is taken with each of the model's switches; ratios are to the
first, which computes nothing twice.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.optim import Adam
from torch.utils.benchmark import Timer

from physicsnemo.models.graphcast import GraphCastNet
from tools.bench.report import duration, provenance, show, write_json

SEGMENTS, CHUNKS = 7, 8
VARIANTS = (
    "nothing",
    "encoder and decoder",
    "encoder and decoder in chunks",
    "processor",
    "all three",
    "all three in chunks",
    "the whole model",
)


@dataclass(frozen=True)
class Step:
    """What a training step took.

    Attributes
    ----------
    again
        What is computed again in the backward pass.
    seconds
        The median time.
    peak_bytes
        The most memory that PyTorch's allocator had given at once.
    """

    again: str
    seconds: float
    peak_bytes: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one variant after the other."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench.recomputation", description=__doc__
    )
    parser.add_argument("--level", type=int, default=5, help="of the mesh")
    parser.add_argument("--grid", type=int, nargs=2, default=[181, 360], metavar=("LATS", "LONS"))
    parser.add_argument("--min-run-time", type=float, default=2.0, help="in seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    options = parser.parse_args(arguments)
    results = [
        measure(again, options.level, options.grid, options.min_run_time) for again in VARIANTS
    ]
    rows = [
        (
            step.again,
            duration(step.seconds),
            f"{step.seconds / results[0].seconds:.2f}",
            f"{step.peak_bytes / 2**30:.2f} GiB",
            f"{step.peak_bytes / results[0].peak_bytes:.2f}",
        )
        for step in results
    ]
    height, width = options.grid
    title = f"GraphCast, level {options.level}, {height} x {width}, {torch.cuda.get_device_name()}"
    show(title, ("computed again", "step", "ratio", "peak memory", "ratio of it"), rows)
    if options.json:
        write_json(options.json, provenance(), results=results)


def measure(again: str, level: int, grid: Sequence[int], min_run_time: float) -> Step:
    """Train a model on a GPU for some steps."""
    torch.manual_seed(0)
    model = GraphCastNet(mesh_level=level, input_res=(grid[0], grid[1])).cuda()
    switch(model, again)
    optimizer = Adam(model.parameters(), fused=True)
    fields = torch.randn(1, model.input_dim_grid_nodes, *grid, device="cuda")

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(fields).float().square().mean()
        loss.backward()
        optimizer.step()

    step()
    torch.cuda.reset_peak_memory_stats()
    median = Timer("step()", globals={"step": step}).blocked_autorange(min_run_time=min_run_time)
    return Step(again, median.median, torch.cuda.max_memory_allocated())


def switch(model: GraphCastNet, again: str) -> None:
    """Turn a variant on."""
    chunks = CHUNKS if again.endswith("in chunks") else 1
    if again.startswith(("encoder and decoder", "all three")):
        model.set_checkpoint_encoder(True, chunks=chunks)
        model.set_checkpoint_decoder(True, chunks=chunks)
    if again.startswith(("processor", "all three")):
        model.set_checkpoint_processor(SEGMENTS)
    model.set_checkpoint_model(again == "the whole model")


if __name__ == "__main__":
    main()
