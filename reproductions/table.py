# SPDX-License-Identifier: Apache-2.0
"""The tables of results in the README: ``python -m reproductions.table`` writes them anew.

They hold the runs at full size whose ``metrics.json`` lies in a folder below
``reproductions/results``.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
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
    "seeds",
    "training",
    "the paper's after",
    "GPU minutes",
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
    """Return the table of errors of Fourier neural operators: runs that differ in seed are one."""
    runs = [run for run in runs if "relative_l2" in run]
    rows = []
    for name, problem in PROBLEMS.items():
        for points, error in problem.paper.items():
            found = [it for it in runs if (it["problem"], it["resolution"]) == (name, points)]
            ways: dict[str, Runs] = {}
            for run in sorted(found, key=lambda it: it["seed"]):
                ways.setdefault(_way(run), []).append(run)
            before = (name, str(points), _error(error))
            rows += [(*before, *_cells(them), way) for way, them in ways.items()]
            rows += [] if found else [(*before, "not run yet", *"------")]
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
    heads = ("model", "parameters", *errors, "largest", "training", "GPU minutes", "device")
    rows = [
        (
            run["model"],
            f"{run['parameters'] / 1e6:.1f} million",
            *(_error(run["relative_l2_by_hour"][hour]) for hour in hours),
            _error(run["largest_size"]),
            f"{run['settings']['steps']} steps, {run['training_seconds']:.0f} s",
            f"{run['gpu_minutes']:.1f}",
            run["environment"]["device"],
        )
        for name in MODELS
        for run in runs
        if run["model"] == name
    ]
    if not runs:
        return NOT_RUN
    persistence = runs[0]["relative_l2_without_model"]
    rows.append(("persistence", "-", *(_error(persistence[hour]) for hour in hours), *"----"))
    return table(heads, rows) + "\n"


def cylinder_flow(runs: Runs) -> str:
    """Return the table of errors of MeshGraphNet, by what it was trained with."""
    rows = []
    for run in (run for run in runs if run.get("problem") == "cylinder flow"):
        found = [(f"noise {it['noise']:g} m/s", it["rmse"]) for it in run["runs"].values()]
        found.append(("nothing changes", run["without_model"]["rmse"]))
        found.append(("the paper, its own flows", run["paper"]["rmse"]))
        rows += [(name, *map(_error, errors.values())) for name, errors in found]
    head = ("RMSE of velocity in m/s, after", "1 step", "50 steps", "all steps")
    return table(head, rows) + _cost(runs, "cylinder flow") if rows else NOT_RUN


def edm_trained(runs: Runs) -> str:
    """Return the table of what samples of a trained model have in common with its data."""
    rows = []
    for run in (run for run in runs if run.get("problem") == "random fields"):
        for name, it in run["statistics"].items():
            largest, mean = it["largest_relative_error"], it["mean_relative_error"]
            skewness = f"{it['skewness']:.3f} ± {it['skewness_sampling_error']:.3f}"
            distance = f"{it['kolmogorov_distance']:.4f}"
            cells = (f"{largest:.1%}", f"{mean:.1%}", f"{it['deviation']:.4f}", skewness, distance)
            took = (f"{run['steps']} of {run['batch']}", str(run["evaluations"]))
            before = ("-", "-") if name == "as many fields" else took
            rows.append((f"{it['number']} {name.removeprefix('as many ')}", *before, *cells))
        if errors := run.get("spectrum_relative_error_of_sampler"):
            largest, mean = (f(map(abs, errors)) for f in (max, fmean))
            found = (str(run["evaluations"]), f"{largest:.1%}", f"{mean:.1%}")
            rows.append(("the sampler with the best estimate", "-", *found, *"---"))
        exact, bound = run["exact"], next(iter(run["statistics"].values()))["kolmogorov_bound_95"]
        deviation, skewness = f"{exact['deviation']:.4f}", f"{exact['skewness']:.3f}"
        rows.append(("exact", *"--00", deviation, skewness, f"below {bound:.4f} in 95 %"))
    head = (
        "",
        "steps of training",
        "evaluations",
        "spectrum, largest error",
        "its mean",
        "deviation",
        "skewness",
        "Kolmogorov's distance",
    )
    return table(head, rows) + _cost(runs, "random fields") if rows else NOT_RUN


def winds(runs: Runs) -> str:
    """Return the table of errors of forecasts, by their days."""
    days = (1, 3, 5, 7, 10, 14)
    rows = []
    for run in (run for run in runs if run.get("problem") == "winds"):
        for name, quantities in run["scores"].items():
            for title, key, digits in WIND_COLUMNS:
                values = quantities["height"].get(key)
                if values:
                    cells = (_error(values[day - 1], digits) for day in days)
                    rows.append((f"{name}, {title}", *cells))
    head = ("height, at the end of day", *map(str, days))
    return table(head, rows) + _cost(runs, "winds") if rows else NOT_RUN


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


def _error(error: float | None, decimals: int = 4) -> str:
    """Return a number with some decimals; of one that is too large for them, the size."""
    if error is None:
        return "beyond all numbers"
    return f"{error:.{decimals}f}" if abs(error) < 10 ** max(1, 4 - decimals) else f"{error:.1e}"


def _cost(runs: Runs, problem: str) -> str:
    """Return a sentence on what runs took."""
    took = [
        f"{it['wall_seconds'] / 60:.1f} minutes on {it['environment']['device']}"
        for it in runs
        if it.get("problem") == problem
    ]
    return f"\nFrom the samples to the scores: {', '.join(took)}.\n\n"


def _range(values: Sequence[float], shown: Callable[[float], str]) -> str:
    """Return the least and the greatest of some values, or one if they look alike."""
    ends = [shown(min(values)), shown(max(values))]
    return " to ".join(dict.fromkeys(ends))


def _way(run: dict[str, Any]) -> str:
    ways = {"plain": "plain PyTorch", "compiled": "compiled", "amp": "float16"}
    device: str = run["environment"]["device"]
    return device + "".join(f", {it}" for key, it in ways.items() if run[key])


def _cells(runs: Runs) -> tuple[str, ...]:
    """Return what runs of several seeds have found: the mean, the range, and what they took."""
    errors = [run["relative_l2"] for run in runs]
    spread = f" ({_range(errors, _error)})" if len(errors) > 1 else ""
    others = [
        error
        for run in runs
        for points, error in run["relative_l2_by_resolution"].items()
        if int(points) != run["resolution"]
    ]
    reached = [run["seconds_to_paper"] for run in runs if run["seconds_to_paper"] is not None]
    seconds = [run["training_seconds"] for run in runs]
    return (
        _error(sum(errors) / len(errors)) + spread,
        _range(others, _error),
        ", ".join(str(run["seed"]) for run in runs),
        f"{_range([run['epochs'] for run in runs], str)} epochs, {_range(seconds, _whole)} s",
        (_range(reached, _whole) + " s") if reached else "never",
        _range([run["gpu_minutes"] for run in runs], "{:.1f}".format),
    )


def _whole(value: float) -> str:
    return f"{value:.0f}"


if __name__ == "__main__":
    main()
