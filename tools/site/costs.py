# SPDX-License-Identifier: Apache-2.0
"""What a training step of a model takes, as benchmarks have measured it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from physicsnemo import Module
from physicsnemo.models.gnn_layers import Graph
from tools.bench import cases as bench
from tools.performance_page import CASES as LABELS
from tools.performance_page import RESULTS, Results
from tools.site.facts import Facts

WAYS = {
    "eager": "eager, float32",
    "none": "captured, AMP",
    "blocks": "captured, AMP, blocks compiled",
    "whole": "captured, AMP, compiled",
}


@dataclass(frozen=True)
class Cost:
    """What a training step takes, or None where it was not measured.

    Attributes
    ----------
    at
        The size, in words.
    parameters
        Their number.
    step_ms, memory_gb
        Time and peak memory.
    way
        How it was computed, or that it was not.
    """

    at: str
    parameters: int
    step_ms: float | None = None
    memory_gb: float | None = None
    way: str = "not measured"


def costs(model: str, facts: Facts, results: Results | None = None) -> list[Cost]:
    """Return the costs of a model, the first of which stands for it in a table.

    Those at the sizes of its benchmarks come first, the fastest way of each, then that at a
    quarter of a degree; if neither was measured, the number of parameters alone.
    """
    results = results or Results(RESULTS)
    sizes = [*_measured(facts, results), *_quarter_degree(model, results)]
    return sizes or list(_counted(facts))


def _measured(facts: Facts, results: Results) -> Iterator[Cost]:
    compared, single = (
        [row for row in results.rows(name) if row["step_s"] is not None]
        for name in ("cold", "finder")
    )
    for name in facts.bench:
        ways = [(row, WAYS[row["compiled"]]) for row in compared if row["case"] == name]
        ways += [(row, _way(row)) for row in single if row["case"] == name]
        if ways:
            best, way = min(ways, key=lambda it: float(it[0]["step_s"]))
            case, parameters = _case(name)
            ms, gb = best["step_s"] * 1e3, best["peak_bytes"] / 1e9
            yield Cost(_label(name, case), parameters, ms, gb, way)


def _way(row: Mapping[str, Any]) -> str:
    return f"{'captured' if row['captured'] else 'eager'}, {'AMP' if row['amp'] else 'float32'}"


def _quarter_degree(model: str, results: Results) -> Iterator[Cost]:
    for row in results.rows("one_card"):
        if row["case"] == model and row["step_s"] is not None:
            ms, gb = row["step_s"] * 1e3, row["peak_bytes"] / 1e9
            yield Cost("¼°, batch of 1", row["parameters"], ms, gb, "captured, bfloat16")


def _counted(facts: Facts) -> Iterator[Cost]:
    for name in facts.bench:
        case, parameters = _case(name)
        yield Cost(_label(name, case), parameters)


def _case(name: str) -> tuple[bench.BenchCase, int]:
    """Return a case of the benchmark, and the number of parameters of its model."""
    (case,) = (case for case in bench.CASES if str(case) == name)
    with torch.device("meta"):
        return case, _number_of_parameters(case.build())


def _number_of_parameters(model: Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _label(name: str, case: bench.BenchCase) -> str:
    """Return the size of a case: as the page on performance has it, or what its inputs are."""
    if name in LABELS:
        return LABELS[name].partition(", ")[2]
    inputs = case.inputs()
    for graph in inputs:
        if isinstance(graph, Graph):
            return f"{graph.num_nodes:,} nodes, {graph.edge_index.shape[1]:,} edges"
    tensors = [it for it in pytree.tree_leaves(inputs) if isinstance(it, Tensor)]
    batch, channels, *grid = tensors[0].shape
    # Fields on one grid are joined, such as those to be refined and their condition.
    joined = [
        it.shape[1] for it in tensors if it.ndim > 1 and it.shape == (batch, it.shape[1], *grid)
    ]
    together = f"({'+'.join(map(str, joined))})" if len(joined) > 1 else channels
    return "×".join(map(str, (batch, together, *grid)))
