# SPDX-License-Identifier: Apache-2.0
"""Tables of steps on several GPUs in the documentation: ``python -m tools.scaling_page``.

It writes those of ``docs/several_gpus.md`` anew from ``tools/bench/results/scaling-2.json``, which
``tools.bench.scaling`` has written.
"""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from tools.bench.report import ROOT
from tools.pages import rewritten, table

PAGE = ROOT / "docs" / "several_gpus.md"
RESULTS = ROOT / "tools" / "bench" / "results" / "scaling-2.json"

CASES = {
    "FNO 3D": "FNO 3D, 192³, 32 channels, 24 modes (453 M parameters)",
    "AFNO": "AFNO, 720×1440, patches of 6, 768×12",
    "SFNO": "SFNO, 721×1440, 256 channels",
    "SongUNet": "SongUNet, 360×1440, 128 channels",
    "Pangu": "Pangu, 384×720, 192 channels",
    "MeshGraphNet": "MeshGraphNet, 500,000 nodes, 3 million edges, recomputed",
    "GraphCast": "GraphCast, 721×1440, level 6, recomputed",
}
WAYS = {
    "alone": "one GPU",
    "ddp": "data parallel",
    "fsdp": "sharded",
    "domain-weak": "domain, weak",
    "domain-fixed": "domain, fixed",
}

Rows = dict[tuple[str, str], dict[str, Any]]


def times(rows: Rows) -> str:
    """Return the table of times of steps, and what part of one GPU's speed they keep."""

    def cell(case: str, way: str) -> str:
        row, alone = rows.get((case, way)), rows[case, "alone"]["step_ms"]
        if row is None:
            return "-"
        text = f"{row['step_ms']:.1f} ms" if row["step_ms"] < 300 else f"{row['step_ms']:.0f} ms"
        if way != "alone":
            text += f" ({alone / row['step_ms'] / _gpus_for_one(row):.0%})"
        return text if row["replays"] else text + " not recorded"

    return _table("", cell)


def memory(rows: Rows) -> str:
    """Return the table of the memory of a GPU."""

    def cell(case: str, way: str) -> str:
        row = rows.get((case, way))
        return "-" if row is None else f"{row['peak_gib']:.1f}"

    return _table("GiB on each GPU, at most", cell)


SECTIONS: dict[str, Callable[[Rows], str]] = {"scaling_times": times, "scaling_memory": memory}


def written(text: str) -> str:
    """Return the page with its tables made anew from the results."""
    found = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    rows = {(row["case"], row["way"]): row for row in found}
    return rewritten(text, {name: partial(make, rows) for name, make in SECTIONS.items()})


def _table(what: str, cell: Callable[[str, str], str]) -> str:
    rows = [(told, *(cell(case, way) for way in WAYS)) for case, told in CASES.items()]
    return table((what, *WAYS.values()), rows) + "\n"


def _gpus_for_one(row: dict[str, Any]) -> int:
    """Return on how many GPUs the problem is that one GPU has alone."""
    return int(row["gpus"]) if row["way"] == "domain-fixed" else 1


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
