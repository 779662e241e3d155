# SPDX-License-Identifier: Apache-2.0
"""The tables of results in the README: ``python -m reproductions.table`` writes them anew.

They hold the runs at full size whose ``metrics.json`` lies in a folder below
``reproductions/results``.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from reproductions.problems import PROBLEMS
from reproductions.sfno import MODELS, Settings
from tools.pages import rewritten, table

HERE = Path(__file__).parent
README = HERE / "README.md"
Runs = list[dict[str, Any]]

HEAD = (
    "problem",
    "points",
    "the paper",
    "here",
    "on other grids",
    "seed",
    "training",
    "the paper's after",
    "device",
)


def main() -> None:
    """Write the tables into the README."""
    README.write_text(written(README.read_text("utf-8"), HERE / "results"), "utf-8")


def written(text: str, results: Path) -> str:
    """Return a text with the tables of a folder's results between their markers."""
    runs = [json.loads(path.read_text("utf-8")) for path in sorted(results.rglob("metrics.json"))]
    return rewritten(text, {name: partial(make, runs) for name, make in SECTIONS.items()})


def fno(runs: Runs) -> str:
    """Return the table of errors of Fourier neural operators."""
    runs = [run for run in runs if "relative_l2" in run]
    rows = []
    for name, problem in PROBLEMS.items():
        for points, error in problem.paper.items():
            found = [it for it in runs if (it["problem"], it["resolution"]) == (name, points)]
            before = (name, str(points), f"{error:.4f}")
            rows += [before + _cells(run) for run in found] or [(*before, "not run yet", *"-----")]
    return table(HEAD, rows) + "\n"


def edm(runs: Runs) -> str:
    """Return the table of errors of samplers, by their evaluations."""
    (errors,) = (run["errors"] for run in runs if "errors" in run)
    counts = list(next(iter(errors.values())))
    rows = [(way, *(f"{points[count]:.1e}" for count in counts)) for way, points in errors.items()]
    return table(("evaluations", *counts), rows) + "\n"


def sfno(runs: Runs) -> str:
    """Return the table of errors on the rotating sphere, by hour."""
    runs = [run for run in runs if run.get("problem") == "shallow water"]
    hours = [str(hour) for hour in Settings().reported_hours()]
    errors = [f"{hour} h" for hour in hours]
    heads = ("model", "parameters", *errors, "largest", "training", "device")
    rows = [
        (
            run["model"],
            f"{run['parameters'] / 1e6:.1f} million",
            *(_error(run["relative_l2_by_hour"][hour]) for hour in hours),
            _error(run["largest_size"]),
            f"{run['settings']['steps']} steps, {run['training_seconds']:.0f} s",
            run["environment"]["device"],
        )
        for name in MODELS
        for run in runs
        if run["model"] == name
    ]
    if not runs:
        return NOT_RUN
    persistence = runs[0]["relative_l2_without_model"]
    rows.append(("persistence", "-", *(_error(persistence[hour]) for hour in hours), *"---"))
    return table(heads, rows) + "\n"


def cylinder_flow(runs: Runs) -> str:
    """Return the table of errors of MeshGraphNet, by what it was trained with."""
    rows = []
    for run in (run for run in runs if run.get("problem") == "cylinder flow"):
        found = [(f"noise {it['noise']:g} m/s", it["rmse"]) for it in run["runs"].values()]
        found.append(("nothing changes", run["without_model"]["rmse"]))
        found.append(("the paper, its own flows", run["paper"]["rmse"]))
        rows += [
            (name, *("beyond all numbers" if it is None else f"{it:.2e}" for it in errors.values()))
            for name, errors in found
        ]
    head = ("RMSE of velocity in m/s, after", "1 step", "50 steps", "all steps")
    return table(head, rows) + "\n" if rows else NOT_RUN


def edm_trained(runs: Runs) -> str:
    """Return the table of what samples of a trained model have in common with its data."""
    rows = []
    for run in (run for run in runs if run.get("problem") == "random fields"):
        for name, it in run["statistics"].items():
            largest, mean = it["largest_relative_error"], it["mean_relative_error"]
            skewness = f"{it['skewness']:.3f} ± {it['skewness_sampling_error']:.3f}"
            distance = f"{it['kolmogorov_distance']:.4f}"
            cells = (f"{largest:.1%}", f"{mean:.1%}", f"{it['deviation']:.4f}", skewness, distance)
            rows.append((f"{it['number']} {name.removeprefix('as many ')}", *cells))
        exact, bound = run["exact"], next(iter(run["statistics"].values()))["kolmogorov_bound_95"]
        deviation, skewness = f"{exact['deviation']:.4f}", f"{exact['skewness']:.3f}"
        rows.append(("exact", "0", "0", deviation, skewness, f"below {bound:.4f} in 95 %"))
    head = (
        "",
        "spectrum, largest error",
        "its mean",
        "deviation",
        "skewness",
        "Kolmogorov's distance",
    )
    return table(head, rows) + "\n" if rows else NOT_RUN


def winds(runs: Runs) -> str:
    """Return the table of errors of forecasts, by their days."""
    days = (1, 3, 5, 7, 10, 14)
    rows = []
    for run in (run for run in runs if run.get("problem") == "winds"):
        for name, quantities in run["scores"].items():
            for title, key, digits in WIND_COLUMNS:
                values = quantities["height"].get(key)
                if values:
                    cells = (_score(values[day - 1], digits) for day in days)
                    rows.append((f"{name}, {title}", *cells))
    return table(("height, at the end of day", *map(str, days)), rows) + "\n" if rows else NOT_RUN


WIND_COLUMNS = (
    ("RMSE (m)", "rmse", 0),
    ("ACC", "acc", 2),
    ("deviation over the truth's", "relative_deviation", 2),
)
NOT_RUN = "\nNot run yet.\n\n"
SECTIONS: dict[str, Callable[[Runs], str]] = {
    "fno": fno,
    "sfno": sfno,
    "cylinder_flow": cylinder_flow,
    "edm": edm,
    "edm_trained": edm_trained,
    "winds": winds,
}


def _score(value: float | None, digits: int) -> str:
    return f"{value:.{digits}f}" if value is not None and value < 1e4 else "beyond 10⁴"


def _error(error: float | None) -> str:
    if error is None:
        return "beyond all numbers"
    return f"{error:.3f}" if error < 10 else f"{error:.1e}"


def _cells(run: dict[str, Any]) -> tuple[str, ...]:
    ways = {"plain": "plain PyTorch", "compiled": "compiled", "amp": "float16"}
    way = "".join(f", {words}" for key, words in ways.items() if run[key])
    reached = run["seconds_to_paper"]
    errors = run["relative_l2_by_resolution"].items()
    others = [error for points, error in errors if int(points) != run["resolution"]]
    return (
        f"{run['relative_l2']:.4f}",
        f"{min(others):.4f} to {max(others):.4f}",
        str(run["seed"]),
        f"{run['epochs']} epochs, {run['training_seconds']:.0f} s",
        "never" if reached is None else f"{reached:.0f} s",
        run["environment"]["device"] + way,
    )


if __name__ == "__main__":
    main()
