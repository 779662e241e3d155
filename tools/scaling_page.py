# SPDX-License-Identifier: Apache-2.0
"""Tables of steps on several GPUs in the documentation: ``python -m tools.scaling_page``.

It writes those of ``docs/several_gpus.md`` anew from files in ``tools/bench/results``: measured
steps, which ``tools.bench.scaling`` has written, and what the predictions of others follow from,
which is links and counted traffic, by ``tools.bench.communication measure`` and ``scaling``.
"""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

from tools.bench.communication import RESULTS, read_links
from tools.bench.prediction import Prediction, predictions
from tools.bench.report import ROOT, read_json
from tools.bench.scaling_traffic import Exchange
from tools.pages import rewritten, table

PAGE = ROOT / "docs" / "several_gpus.md"
MEASURED, COUNTED = RESULTS / "scaling-2.json", RESULTS / "scaling_traffic.json"

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
        text = _ms(row["step_ms"])
        if way != "alone":
            text += f" ({alone / row['step_ms'] / _gpus_for_one(way, row['gpus']):.0%})"
        return text if row["replays"] else text + " not recorded"

    return _table("", cell)


def memory(rows: Rows) -> str:
    """Return the table of the memory of a GPU."""

    def cell(case: str, way: str) -> str:
        row = rows.get((case, way))
        return "-" if row is None else f"{row['peak_gib']:.1f}"

    return _table("GiB on each GPU, at most", cell)


def predicted(rows: Rows) -> str:
    """Return the table of predicted steps, beside those measured."""

    def cell(it: Prediction, gpus: int, seconds: float) -> str:
        return f"{_ms(1e3 * seconds)} ({_efficiency(it, gpus, seconds):.0%})"

    lines = [
        (
            _named(it),
            cell(it, 2, it.two),
            cell(it, 2, it.by_others),
            *(cell(it, gpus, seconds) for gpus, seconds in it.steps.items()),
            *(_ms(1e3 * it.communication[gpus]) for gpus in (2, 8)),
        )
        for it in _predictions(rows)
    ]
    head = ["2 GPUs, measured", "2, as others lose", "4, predicted", "8, predicted"]
    return table(["", *head, "sending on 2", "on 8"], lines) + "\n"


def limits(rows: Rows) -> str:
    """Return how far predictions are off, and what loses most with more GPUs."""
    found = _predictions(rows)
    off = [it.by_others / it.two - 1 for it in found]
    most = max(range(len(off)), key=lambda index: abs(off[index]))
    lines = [
        f"Half of these are within {statistics.median(map(abs, off)):.0%} of what was measured; "
        f"that of {_named(found[most])}, is off most, by {off[most]:+.0%}."
    ]
    for rule, ways in {
        "as many rows for each GPU": ("ddp", "fsdp", "domain-weak"),
        "a fixed number of rows": ("domain-fixed",),
    }.items():
        kept = {
            _key(it, 8): (_efficiency(it, 2, it.two), _efficiency(it, 8, it.steps[8]))
            for it in found
            if it.way in ways
        }
        worst = max(kept, key=lambda key: kept[key][0] / kept[key][1])
        sent = next(it for it in _exchanges() if (it.case, it.way, it.gpus) == worst)
        kind, size = max(sent.largest.items(), key=lambda item: item[1])
        lines.append(
            f"With {rule}, {_named(sent)}, loses most from 2 GPUs to 8: "
            f"{kept[worst][0]:.0%} become {kept[worst][1]:.0%}. There each sends "
            f"{sum(sent.sent.values()) / 2**20:,.0f} MiB in {sum(sent.calls.values())} "
            f"collectives, of which the largest, of kind {kind.replace('_', '-')}, sends "
            f"{size / 2**20:,.0f} MiB."
        )
    return "\n" + "\n".join(lines) + "\n\n"


SECTIONS: dict[str, Callable[[Rows], str]] = {
    "scaling_times": times,
    "scaling_memory": memory,
    "scaling_predicted": predicted,
    "scaling_limits": limits,
}


def written(text: str) -> str:
    """Return the page with its tables made anew from the results."""
    rows = {(row["case"], row["way"]): row for row in read_json(MEASURED)["rows"]}
    return rewritten(text, {name: partial(make, rows) for name, make in SECTIONS.items()})


def _predictions(rows: Rows) -> list[Prediction]:
    measured = {key: row["step_ms"] / 1e3 for key, row in rows.items()}
    return predictions(measured, _exchanges(), read_links())


def _exchanges() -> list[Exchange]:
    return [Exchange(**it) for it in read_json(COUNTED)["exchanges"]]


def _named(it: Prediction | Exchange) -> str:
    return f"{it.case}, {WAYS[it.way]}"


def _key(it: Prediction, gpus: int) -> tuple[str, str, int]:
    return it.case, it.way, gpus


def _table(what: str, cell: Callable[[str, str], str]) -> str:
    rows = [(told, *(cell(case, way) for way in WAYS)) for case, told in CASES.items()]
    return table((what, *WAYS.values()), rows) + "\n"


def _ms(time: float) -> str:
    return f"{time:.1f} ms" if time < 300 else f"{time:.0f} ms"


def _efficiency(it: Prediction, gpus: int, seconds: float) -> float:
    """Return what part of one GPU's speed is kept on each."""
    return it.alone / seconds / _gpus_for_one(it.way, gpus)


def _gpus_for_one(way: str, gpus: int) -> int:
    """Return on how many GPUs the problem is that one GPU has alone."""
    return gpus if way == "domain-fixed" else 1


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
