# SPDX-License-Identifier: Apache-2.0
"""The tables of results in the README: ``python -m reproductions.table`` writes them anew.

They hold the runs at full size whose ``metrics.json`` lies in a folder below
``reproductions/results``.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reproductions.problems import PROBLEMS

HERE = Path(__file__).parent
README = HERE / "README.md"
REGION = re.compile(r"(<!-- (\w+): begin -->\n).*?(<!-- \2: end -->)", re.DOTALL)
Runs = list[dict[str, Any]]

HEAD = ("problem", "points", "the paper", "here", "seed", "training", "the paper's after", "device")


def main() -> None:
    """Write the tables into the README."""
    README.write_text(written(README.read_text("utf-8"), HERE / "results"), "utf-8")


def written(text: str, results: Path) -> str:
    """Return a text with the tables of a folder's results between their markers."""
    runs = [json.loads(path.read_text("utf-8")) for path in sorted(results.rglob("metrics.json"))]
    return REGION.sub(lambda it: f"{it[1]}\n{SECTIONS[it[2]](runs)}\n{it[3]}", text)


def fno(runs: Runs) -> str:
    """Return the table of errors of Fourier neural operators."""
    runs = [run for run in runs if "relative_l2" in run]
    rows = []
    for name, problem in PROBLEMS.items():
        for points, error in problem.paper.items():
            found = [it for it in runs if (it["problem"], it["resolution"]) == (name, points)]
            before = (name, str(points), f"{error:.4f}")
            rows += [before + _cells(run) for run in found] or [(*before, "not run yet", *"----")]
    return _table(HEAD, rows)


def edm(runs: Runs) -> str:
    """Return the table of errors of samplers, by their evaluations."""
    (errors,) = (run["errors"] for run in runs if "errors" in run)
    counts = list(next(iter(errors.values())))
    rows = [(way, *(f"{points[count]:.1e}" for count in counts)) for way, points in errors.items()]
    return _table(("evaluations", *counts), rows)


SECTIONS: dict[str, Callable[[Runs], str]] = {"fno": fno, "edm": edm}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in lines)


def _cells(run: dict[str, Any]) -> tuple[str, ...]:
    way = ", plain PyTorch" if run["plain"] else ", compiled" if run["compiled"] else ""
    reached = run["seconds_to_paper"]
    return (
        f"{run['relative_l2']:.4f}",
        str(run["seed"]),
        f"{run['epochs']} epochs, {run['training_seconds']:.0f} s",
        "never" if reached is None else f"{reached:.0f} s",
        run["environment"]["device"] + way,
    )


if __name__ == "__main__":
    main()
