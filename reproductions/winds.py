# SPDX-License-Identifier: Apache-2.0
"""Forecasts of two weeks by networks on a cubed sphere and on a HEALPix grid.

Weyn et al. 2020, Improving data-driven global weather prediction using deep convolutional neural
networks on a cubed sphere, arXiv:2003.11927, say that forecasts stay stable and realistic for weeks
and are better than persistence and climatology for days; Karlbauer et al. 2024, arXiv:2311.06253,
say so of recurrent networks on the HEALPix grid. Their data are not here: this runs the example
``docs/examples/forecasting_winds.py``, where the shallow water equations take the place of the
atmosphere, at full size and for 14 days, and keeps its scores::

    python -m reproductions.winds --device cuda --output outputs/winds

writes ``metrics.json``, ``scores.png`` and what the example writes: both models and a picture. It
needs the packages that the example needs, among them ``healpix``.
"""

import argparse
import math
import runpy
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from reproductions.records import environment, write_metrics

EXAMPLE = Path(__file__).parents[1] / "docs/examples/forecasting_winds.py"
QUANTITIES = {"height": "m", "vorticity": "10⁻⁵/s"}
MODELS = ("DLWP", "HEALPixRecUNet")
Scores = dict[str, dict[str, dict[str, list[float | None]]]]  # by forecast, quantity and score


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the example, and write its scores."""
    options = parse(arguments)
    size, days, epochs = ("small", 4, 1) if options.small else ("full", 14, 6)
    given = {
        "size": size,
        "days": days,
        "epochs": options.epochs or epochs,
        "seed": options.seed,
        "device": options.device,
        "output": options.output,
    }
    command = [str(EXAMPLE), *(f"--{name}={value}" for name, value in given.items())]
    begin = time.perf_counter()
    with patch.object(sys, "argv", command):
        names = runpy.run_path(str(EXAMPLE), run_name="__main__")
    metrics = {
        "problem": "winds",
        "source": "Weyn et al. 2020 and Karlbauer et al. 2024",
        "seed": options.seed,
        "small": options.small,
        "epochs": given["epochs"],
        "trajectories": dict(zip(("train", "test"), names["numbers"], strict=True)),
        "parameters": {
            it: names[key].num_parameters()
            for it, key in zip(MODELS, ("dlwp", "recurrent"), strict=True)
        },
        "scores": scores(names, names["DAY"]),
        "wall_seconds": time.perf_counter() - begin,
        "environment": environment(options.device, "physicsnemo-weather"),
    }
    write_metrics(options.output, metrics)
    draw(metrics["scores"], options.output / "scores.png")
    for name, of_name in metrics["scores"].items():
        print(f"{name:16} height, RMSE by day:", of_name["height"]["rmse"])


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(prog="python -m reproductions.winds", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seed", type=int, default=0, help="of eddies, weights and their order")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, default=Path("outputs/winds"), help="folder")
    parser.add_argument("--epochs", type=int, help="passes through the training set")
    parser.add_argument("--small", action="store_true", help="two minutes on a CPU")
    return parser.parse_args(arguments)


def scores(names: Mapping[str, Any], day: int) -> Scores:
    """Return scores at the end of each day, by forecast and quantity.

    Parameters
    ----------
    names
        ``errors`` and ``skills`` of the example, of shape (times, 2) for each forecast, and its
        ``forecasts`` and ``truth``, of shape (samples, times, 2, latitudes, longitudes).
    day
        Number of times in a day.

    Returns
    -------
    Lists of the root mean square error, of the anomaly correlation coefficient where there is one,
    and of the deviation over the globe relative to that of the truth: a forecast that fades has
    less than 1, one that blows up has much more, and None where it is beyond all numbers.
    """

    def daily(values: Tensor, index: int) -> list[float | None]:
        found: list[float] = values[day - 1 :: day, index].double().tolist()
        return [it if math.isfinite(it) else None for it in found]

    right = _deviation(names["truth"])
    found: Scores = {}
    for name, forecast in names["forecasts"].items():
        found[name] = {}
        for index, quantity in enumerate(QUANTITIES):
            found[name][quantity] = {
                "rmse": daily(names["errors"][name], index),
                "relative_deviation": daily(_deviation(forecast) / right, index),
            }
            if name in names["skills"]:
                found[name][quantity]["acc"] = daily(names["skills"][name], index)
    return found


def _deviation(fields: Tensor) -> Tensor:
    """Return the deviation over the globe, in the mean over samples: (times, 2)."""
    return fields.std(dim=(-2, -1)).mean(dim=0)


def draw(found: Scores, path: Path) -> None:
    """Draw scores by day."""
    titles = {
        "rmse": "RMSE",
        "acc": "anomaly correlation",
        "relative_deviation": "deviation over that of the truth",
    }
    figure, grid = plt.subplots(2, 3, figsize=(13, 6), layout="constrained", sharex=True)
    for row, (quantity, unit) in zip(grid, QUANTITIES.items(), strict=True):
        # Forecasts that blow up leave the picture, which is for the others.
        usual = [it for it in found["climatology"][quantity]["rmse"] if it is not None]
        tops = {"rmse": 3 * max(usual), "acc": 1.05, "relative_deviation": 2.0}
        for axes, (key, title) in zip(row, titles.items(), strict=True):
            for name, of_name in found.items():
                if key in of_name[quantity]:
                    values = [math.nan if it is None else it for it in of_name[quantity][key]]
                    style = "-o" if name in MODELS else "--"
                    axes.plot(range(1, len(values) + 1), values, style, ms=3, label=name)
            unit_too = f" ({unit})" if key == "rmse" else ""
            axes.set(title=f"{title} of {quantity}{unit_too}", ylim=(0, tops[key]))
            axes.grid(alpha=0.3)
    for axes in grid[1]:
        axes.set(xlabel="days")
    grid[0, 0].legend()
    figure.savefig(path, dpi=90)
    plt.close(figure)


if __name__ == "__main__":
    main()
