# SPDX-License-Identifier: Apache-2.0
"""The page of the documentation on speed and memory: ``python -m tools.performance_page``.

It writes the tables between the page's markers anew, from what benchmarks have left in
``tools/bench/results``. Of a benchmark there may be several files, such as ``cold-a.json`` and
``cold-b.json``: where both have a case, the later holds. What was not measured yet says how to.
"""

import argparse
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from math import exp, log
from operator import itemgetter
from pathlib import Path
from statistics import mean
from typing import Any

from tools.bench.report import ROOT, duration, read_json
from tools.pages import rewritten, table

PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "tools" / "bench" / "results"

CASES = {
    "UNet-128-default-adam": "small U-Net, default `Adam`, 8×1×128²",
    "UNet-128": "the same, fused `Adam`",
    "FullyConnected-32": "`FullyConnected`, 1024×32",
    "FNO-2d": "`FNO`, 16×3×128²",
    "FNO-3d": "`FNO`, 2×3×64³",
    "AFNO-half-degree": "`AFNO`, 2×20×360×720",
    "SFNO-1-degree": "`SFNO`, 2×20×181×360",
    "MeshGraphNet-20-thousand": "`MeshGraphNet`, 20,000 nodes, 120,000 edges",
    "DLWP-64": "`DLWP`, 4×18×6×64²",
    "SongUNet-64": "`SongUNet`, 8×4×64², 128 channels",
    "Pangu-1-degree": "`Pangu`, 181×360, 96 channels",
    "GraphCastNet-1-degree": "`GraphCastNet`, 181×360, level 5",
}
NUMBERS = "¹²³⁴⁵"
WAYS = {
    "eager": "eager",
    "none": "captured, AMP",
    "blocks": "blocks compiled too",
    "whole": "whole compiled too",
}

Rows = list[dict[str, Any]]


class Results:
    """What benchmarks have written into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def rows(self, name: str) -> Rows:
        """Return the results of all files of a benchmark, those of later files last."""
        return [row for content in self._contents(name) for row in content["results"]]

    def origin(self, name: str, command: str | None = None) -> str:
        """Tell where results come from, and how they are made: by the module of the same name."""
        told = {_told(content["environment"]): None for content in self._contents(name)}
        command = command or f"tools.bench.{name}"
        how = f"`python -m {command} --json tools/bench/results/{name}.json`"
        return f"\n{'; '.join(told) or 'Not measured yet'}: {how}\n"

    def _contents(self, name: str) -> Iterable[dict[str, Any]]:
        for path in sorted(self._folder.glob(f"{name}*.json")):
            yield read_json(path)


def training(results: Results) -> str:
    """Return the table of training steps."""
    steps, reference = _steps(results), _by_case(results.rows("reference"))
    rows, ratios, notes = [], [], []
    for case in dict.fromkeys([*(it for it in CASES if it in steps or it in reference), *steps]):
        ways = steps.get(case, {})
        best = min((it["step_s"] for it in ways.values() if it["step_s"]), default=None)
        theirs = reference.get(case)
        cell, ratio = "-", "-"
        if theirs:
            cell = f"{theirs['step_s'] * 1e3:.3g}"
            if note := theirs.get("note"):
                notes.append(note)
                cell += NUMBERS[len(notes) - 1]
            if best:
                ratio = f"{theirs['step_s'] / best:.1f}"
                ratios += [] if note else [theirs["step_s"] / best]
        own = (_ms(ways.get(way, {}).get("step_s")) for way in WAYS)
        rows.append((CASES.get(case, case), cell, *own, ratio))
    head = ("a training step, ms", "nvidia-physicsnemo", *WAYS.values(), "times as fast")
    text = table(head, rows)
    text += "".join(f"\n{number} {note}\n" for number, note in zip(NUMBERS, notes, strict=False))
    if ratios:
        times = exp(mean(map(log, ratios)))
        text += f"\nIn the geometric mean of those on the same card: {times:.1f} times as fast.\n"
    return text + results.origin("cold")


def cold(results: Results) -> str:
    """Return the table of times until a training is warm, and with batches of other sizes."""
    rows, errors = [], []
    compiled = [way for way in WAYS if way in ("blocks", "whole")]
    for case, ways in _steps(results).items():
        runs = [ways.get(way, {}) for way in ("none", *compiled)]
        warm = [_duration(run.get("cold_s")) for run in runs]
        rows.append((CASES.get(case, case), *warm, *map(_other_batches, runs[1:])))
        errors += [
            f"- {CASES.get(case, case)}, {WAYS.get(way, way)}: {run['error']}\n"
            for way, run in ways.items()
            if run["error"] and not _time_over(run)
        ]
    names = [WAYS[way] for way in compiled]
    batches = [f"2×, 3× the batch, {name.removesuffix(' too')}" for name in names]
    text = table(("until warm", WAYS["none"], *names, *batches), rows)
    text += "\nNot measured:\n\n" * bool(errors) + "".join(errors)
    return text + results.origin("cold")


def memory(results: Results) -> str:
    """Return the table of the memory of training steps."""
    reference = _by_case(results.rows("reference"))
    rows = [
        (
            CASES.get(case, case),
            _gb(reference.get(case, {}).get("peak_bytes")),
            *(_gb(ways.get(way, {}).get("peak_bytes")) for way in WAYS),
        )
        for case, ways in _steps(results).items()
    ]
    head = ("peak memory of a training step, GB", "nvidia-physicsnemo", *WAYS.values())
    return table(head, rows) + results.origin("cold")


def _by_kernel(costs: Sequence[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """Return what kernels of one name take together, and names that fit a line."""
    shares: dict[str, float] = {}
    for cost in costs:
        name = cost["name"] if len(cost["name"]) <= 40 else f"{cost['name'][:39]}…"
        shares[name] = shares.get(name, 0.0) + cost["share"]
    return sorted(shares.items(), key=itemgetter(1), reverse=True)


def costs(results: Results) -> str:
    """Return the table of the kernels that take most of a training step's time."""
    rows = [
        (
            CASES[row["case"]],
            _ms(row["median_s"]),
            ", ".join(f"`{name}` {share:.0%}" for name, share in _by_kernel(row["costs"])),
        )
        for row in results.rows("costs")
        if row["variant"] != "eager"
    ]
    command = "tools.bench --device cuda --mode train --variants capture+amp --costs"
    head = ("a captured training step, AMP", "ms", "kernels, by their part of the GPU's time")
    return table(head, rows) + results.origin("costs", f"{command} --case {' '.join(CASES)}")


def host(results: Results) -> str:
    """Return the table of what replays cost the host."""
    rows = [
        (
            row["case"],
            str(row["parameters"]),
            f"{row['host_us']:.0f}",
            f"{row['launch_us']:.0f}",
            f"{row['copies_us']:.0f}",
            "-" if row["step_us"] is None else f"{row['step_us']:.0f}",
        )
        for row in results.rows("host")
    ]
    head = ("µs", "tensors of parameters", "host", "of it, launch", "of it, copies", "whole step")
    return table(head, rows) + results.origin("host")


def sampling(results: Results) -> str:
    """Return the table of diffusion sampling."""
    found = results.rows("sampling")
    eager = {row["sampler"]: row["seconds"] for row in found if row["variant"] == "eager"}
    rows = [
        (
            row["sampler"],
            row["variant"],
            duration(row["seconds"]),
            f"{eager[row['sampler']] / row['seconds']:.1f}" if row["sampler"] in eager else "-",
            _gb(row["peak_bytes"]),
            _small(row["difference"]),
        )
        for row in found
    ]
    head = ("sampler", "variant", "a batch", "times as fast", "GB", "difference from the first")
    return table(head, rows) + results.origin("sampling")


def rollouts(results: Results) -> str:
    """Return the table of autoregressive forecasts."""
    return _by_variant(
        results.rows("rollouts"),
        "a step",
        {
            "GB between steps": lambda rows: _gb(max(row["bytes"] for row in rows)),
            "MB more after many": lambda rows: f"{max(row['growth'] for row in rows) / 1e6:.1f}",
        },
    ) + results.origin("rollouts")


def exported(results: Results) -> str:
    """Return the table of latencies of programs that were exported."""
    return _by_variant(
        results.rows("exported"),
        "a call",
        {
            "to compile": lambda rows: duration(rows[-1]["prepared_s"]),
            "difference": lambda rows: _small(rows[-1]["difference"]),
        },
    ) + results.origin("exported")


def one_card(results: Results) -> str:
    """Return the table of what fits on one card."""
    rows = [
        (
            row["case"],
            "-" if row["parameters"] is None else f"{row['parameters'] / 1e6:.0f} M",
            row["again"],
            _gb(row["peak_bytes"]),
            _gb(row["reserved_bytes"]),
            _duration(row["step_s"]),
            _outcome(row),
        )
        for row in results.rows("one_card")
    ]
    head = ("model", "parameters", "computed again", "GB", "GB reserved", "a step", "")
    return table(head, rows) + results.origin("one_card")


SECTIONS: dict[str, Callable[[Results], str]] = {
    section.__name__: section
    for section in (training, cold, memory, costs, host, sampling, rollouts, exported, one_card)
}


def written(text: str, folder: Path = RESULTS) -> str:
    """Return a page with its tables made anew from the results in a folder."""
    results = Results(folder)
    return rewritten(text, {name: partial(make, results) for name, make in SECTIONS.items()})


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(prog="python -m tools.performance_page", description=__doc__)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    text = options.page.read_text(encoding="utf-8")
    options.page.write_text(written(text, options.results), encoding="utf-8")


def _steps(results: Results) -> dict[str, dict[str, dict[str, Any]]]:
    """Return runs by case and way, in the order of the page; what a later run measured holds.

    Those of another checkout, beside which this one was timed, are left out.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {case: {} for case in CASES}
    for row in (row for row in results.rows("cold") if row.get("commit") is None):
        ways = found.setdefault(row["case"], {})
        ways[row["compiled"]] = _renewed(ways.get(row["compiled"]), row)
    return {case: ways for case, ways in found.items() if ways}


def _renewed(old: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    """Return a run with what an earlier one measured, where it timed steps but not that.

    That is the time until it was warm, and batches of other sizes.
    """
    if not old or new["step_s"] is None:
        return new
    if new["cold_s"] is None:
        new = new | {name: old[name] for name in ("cold_s", "first_s", "graphs")}
    if not _time_over(new) or not (old.get("other_batches_s") or _time_over(old)):
        return new
    kept = ("other_batches_s", "other_batches_graphs", "error")
    return new | {name: old[name] for name in kept}


def _by_case(rows: Rows) -> dict[str, dict[str, Any]]:
    return {row["case"]: row for row in rows}


def _by_variant(rows: Rows, what: str, columns: dict[str, Callable[[Rows], str]]) -> str:
    """Return a table with a row for each case, and the time of each variant in a column."""
    cases: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        cases.setdefault(row["case"], {})[row["variant"]] = row
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    lines = []
    for case, found in cases.items():
        times = (_duration(found.get(variant, {}).get("seconds")) for variant in variants)
        own = list(found.values())
        lines.append((case, *times, *(cell(own) for cell in columns.values())))
    return table((what, *variants, *columns), lines)


def _other_batches(run: dict[str, Any]) -> str:
    if over := _time_over(run):
        return f"more than {over}"
    pairs = zip(run.get("other_batches_s", ()), run.get("other_batches_graphs", ()), strict=True)
    return ", ".join(f"{duration(seconds)} ({graphs})" for seconds, graphs in pairs) or "-"


def _time_over(run: dict[str, Any]) -> str | None:
    """Return the time in which a run that was warm did not take batches of other sizes."""
    over = re.fullmatch(r"not done after (\d+ s)", run.get("error") or "")
    return over[1] if over and run["cold_s"] is not None else None


def _outcome(row: dict[str, Any]) -> str:
    error = row["error"] or ""
    if "out of memory" in error or "ALLOC_FAILED" in error:
        return "out of memory"
    return error or ("captured" if row["captured"] else "eager")


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:#.3g}".rstrip(".")


def _duration(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def _gb(size: float | None) -> str:
    if size is None:
        return "-"
    return f"{size / 1e9:.{0 if size >= 1e10 else 1 if size >= 1e9 else 2}f}"


def _small(number: float) -> str:
    return f"{number:.0e}" if number else "0"


def _told(environment: dict[str, Any]) -> str:
    day = datetime.fromisoformat(environment["date"]).strftime("%d %B %Y").lstrip("0")
    parts = [environment.get("device", "unknown device"), f"PyTorch {environment['torch']}"]
    if "cores" in environment:
        parts.append(f"{environment['cores']} cores")
    return ", ".join([*parts, day])


if __name__ == "__main__":
    main()
