# SPDX-License-Identifier: Apache-2.0
"""What a training step of a model takes, as benchmarks have measured it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from physicsnemo import Module
from physicsnemo.registry import ModelRegistry
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
    return sizes or list(_counted(model, facts))


def _measured(facts: Facts, results: Results) -> Iterator[Cost]:
    rows = [row for row in results.rows("cold") if row["step_s"] is not None]
    for name in facts.bench:
        runs = [row for row in rows if row["case"] == name]
        if runs:
            best = min(runs, key=lambda row: float(row["step_s"]))
            case, parameters = _case(name)
            ms, gb = best["step_s"] * 1e3, best["peak_bytes"] / 1e9
            yield Cost(_label(name, case), parameters, ms, gb, WAYS[best["compiled"]])


def _quarter_degree(model: str, results: Results) -> Iterator[Cost]:
    for row in results.rows("one_card"):
        if row["case"] == model and row["step_s"] is not None:
            ms, gb = row["step_s"] * 1e3, row["peak_bytes"] / 1e9
            yield Cost("¼°, batch of 1", row["parameters"], ms, gb, "captured, bfloat16")


def _counted(model: str, facts: Facts) -> Iterator[Cost]:
    for name in facts.bench:
        case, parameters = _case(name)
        yield Cost(_label(name, case), parameters)
    if facts.size:
        with torch.device("meta"):
            built = ModelRegistry().factory(model)(**facts.size.arguments)
        yield Cost(facts.size.at, _number_of_parameters(built))


def _case(name: str) -> tuple[bench.BenchCase, int]:
    """Return a case of the benchmark, and the number of parameters of its model."""
    (case,) = (case for case in bench.CASES if str(case) == name)
    with torch.device("meta"):
        return case, _number_of_parameters(case.build())


def _number_of_parameters(model: Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _label(name: str, case: bench.BenchCase) -> str:
    """Return the size of a case: as the page on performance has it, or the shape of its input."""
    if name in LABELS:
        return LABELS[name].partition(", ")[2]
    first: Any = case.inputs()
    while not isinstance(first, Tensor):
        first = first[0]
    return "×".join(map(str, first.shape))
