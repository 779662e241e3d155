# SPDX-License-Identifier: Apache-2.0
"""Time and memory of building GraphCast's graphs, level by level: ``python -m tools.bench.graphs``.

Each build runs in a process of its own; ratios are to the first level. Memory is how far the peak
of what the process held rose above where it was before.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from tools.bench.own_process import peak_bytes, printed_by
from tools.bench.report import duration, provenance, show, write_json


@dataclass(frozen=True)
class Build:
    """What it took to build the graphs of one mesh and grid.

    Attributes
    ----------
    level
        The level of the mesh.
    points, edges
        Number of points of the grid, and of edges of all three graphs.
    seconds
        Wall time.
    cpu_seconds
        Time that processors worked on it, which other work on the machine hardly changes.
    peak_bytes
        The most memory that it took, the graphs included.
    graph_bytes
        What the graphs hold in the end.
    """

    level: int
    points: int
    edges: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    graph_bytes: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure levels side by side, or one in this process."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.graphs", description=__doc__)
    parser.add_argument("--levels", type=int, nargs="+", default=[4, 6], metavar="LEVEL")
    parser.add_argument("--grid", type=int, nargs=2, default=[721, 1440], metavar=("LATS", "LONS"))
    parser.add_argument("--numerics", default="paper")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one is not None:
        print(json.dumps(build(options.one, options.grid, options.numerics)))
        return
    results = [_in_process(level, options.grid, options.numerics) for level in options.levels]
    _show(results, options.grid)
    if options.json:
        environment = provenance() | {"numerics": options.numerics}
        write_json(options.json, environment, results=results)


def build(level: int, grid: Sequence[int], numerics: str) -> dict[str, float]:
    """Build graphs once in this process, and return what is measured of it."""
    import torch
    from torch.utils import _pytree as pytree

    from physicsnemo.models.graphcast import build_graphs

    import_module("scipy.spatial")  # which is no part of the time
    torch.set_num_threads(1)
    before, start, cpu = peak_bytes(), time.perf_counter(), time.process_time()
    built = build_graphs(level, grid, numerics=numerics)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    peak = peak_bytes()
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in pytree.tree_leaves(list(vars(built).values()))
        if isinstance(tensor, torch.Tensor)
    }
    return {
        "level": level,
        "points": built.g2m.num_nodes,
        "edges": sum(graph.num_edges for graph in (built.g2m, built.mesh, built.m2g)),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_bytes": peak - before,
        "graph_bytes": sum(storages.values()),
    }


def _in_process(level: int, grid: Sequence[int], numerics: str) -> Build:
    one = ("--one", str(level), "--grid", *map(str, grid), "--numerics", numerics)
    return Build(**printed_by("tools.bench.graphs", *one))


def _show(results: Sequence[Build], grid: Sequence[int]) -> None:
    first = results[0]
    rows = [
        (
            f"level {result.level}",
            f"{result.edges:,}",
            duration(result.seconds),
            duration(result.cpu_seconds),
            f"{result.cpu_seconds / first.cpu_seconds:.2f}",
            f"{result.peak_bytes / 1e6:.0f} MB",
            f"{result.graph_bytes / 1e6:.0f} MB",
        )
        for result in results
    ]
    columns = ("mesh", "edges", "time", "CPU time", "ratio", "peak", "graphs hold")
    title = f"GraphCast's graphs of a grid of {grid[0]} x {grid[1]} points"
    show(title, columns, rows)


if __name__ == "__main__":
    main()
