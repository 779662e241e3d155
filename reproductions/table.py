# SPDX-License-Identifier: Apache-2.0
"""The table of results in the README: ``python -m reproductions.table`` writes it anew.

It holds the full-size runs whose ``metrics.json`` lies in a folder below ``reproductions/results``.
"""

import json
import re
from pathlib import Path
from typing import Any

from reproductions.problems import PROBLEMS

HERE = Path(__file__).parent
README = HERE / "README.md"
REGION = re.compile(r"(<!-- results: begin -->\n).*?(<!-- results: end -->)", re.DOTALL)
HEAD = ("problem", "points", "the paper", "here", "seed", "training", "the paper's after", "device")


def main() -> None:
    """Write the table into the README."""
    README.write_text(written(README.read_text("utf-8"), HERE / "results"), "utf-8")


def written(text: str, results: Path) -> str:
    """Return a text with the table of a folder's results between its markers."""
    runs = [json.loads(path.read_text("utf-8")) for path in sorted(results.rglob("metrics.json"))]
    rows = [HEAD, ("---",) * len(HEAD)]
    for name, problem in PROBLEMS.items():
        for points, error in problem.paper.items():
            found = [it for it in runs if (it["problem"], it["resolution"]) == (name, points)]
            before = (name, str(points), f"{error:.4f}")
            rows += [before + _cells(run) for run in found] or [(*before, "not run yet", *"----")]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return REGION.sub(lambda match: f"{match[1]}\n{table}\n{match[2]}", text)


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
