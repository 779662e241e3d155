# SPDX-License-Identifier: Apache-2.0
"""Sampling of diffusion models: error against the number of network evaluations.

Karras et al. 2022, Elucidating the design space of diffusion-based generative models,
arXiv:2206.00364, figure 2: better time steps, a solver of second order, and then another schedule
each save evaluations. The paper shows the FID of images. Here the data are a mixture of normal
distributions, whose score is known, and the error is that of the solution itself::

    python -m reproductions.edm --output outputs/edm

writes ``metrics.json`` and ``errors.png``, and takes a minute on a CPU.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from scipy.integrate import solve_ivp
from torch import Tensor, nn

from physicsnemo.diffusion import EDM, IDDPM, VE, VP, Schedule, sample
from tools.bench.report import provenance

COMPONENTS, RADIUS, WIDTH = 8, 0.7, 0.05  # on a circle: a deviation of 0.5, as the paper's images
OTHERS: dict[str, Schedule] = {"VP": VP(), "VE": VE(), "iDDPM": IDDPM()}
EVALUATIONS = (10, 18, 35, 79, 159, 319, 639)


class Mixture(nn.Module):
    """The best estimate of data from a mixture of normal distributions on a circle.

    Parameters
    ----------
    schedule
        What noise there is.
    """

    means: Tensor

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule
        angles = torch.arange(COMPONENTS) * (2 * math.pi / COMPONENTS)
        self.register_buffer("means", RADIUS * torch.stack((angles.cos(), angles.sin()), dim=1))

    def forward(self, x: Tensor, t: Tensor, condition: None = None) -> Tensor:
        """Return the expectation of the data, given states (batch, 2) and their times (batch,)."""
        alpha, level = (it(t)[:, None] for it in (self.schedule.alpha, self.schedule.level))
        return self.given_level(x / alpha, level)

    def given_level(self, y: Tensor, level: Tensor) -> Tensor:
        """Return the same, given data with noise of standard deviations (batch, 1)."""
        distances = y[:, None] - self.means.to(y)
        variance = WIDTH**2 + level**2
        parts = (distances.square().sum(-1) / (-2 * variance)).softmax(dim=1)
        shrunk = self.means.to(y) + (WIDTH**2 / variance)[:, None] * distances
        return (parts[..., None] * shrunk).sum(1)


def exact(noise: Tensor, schedule: Schedule, steps: Sequence[float]) -> Tensor:
    """Return where the probability flow leads, by a solver of order eight.

    Without its scale, the flow is the same for all schedules; its logarithm of the level is the
    time here.
    """
    model, shape = Mixture(schedule), noise.shape
    first = float(schedule.level(torch.tensor(steps[0], dtype=torch.float64)))

    def slope(log_level: float, flat: Any) -> Any:
        y = torch.from_numpy(flat).view(shape)
        level = torch.full((len(y), 1), math.exp(log_level), dtype=torch.float64)
        return (y - model.given_level(y, level)).flatten().numpy()

    start, end = math.log(first), math.log(1e-9)
    begin = (first * noise).flatten().numpy()
    found = solve_ivp(slope, (start, end), begin, method="DOP853", rtol=1e-11, atol=1e-12)
    return torch.from_numpy(found.y[:, -1].copy()).view(shape)


def better_times(schedule: Schedule, steps: int) -> list[float]:
    """Return when a schedule has the levels of EDM's steps, within its own range."""
    own = [float(schedule.level(torch.tensor(t, dtype=torch.float64))) for t in schedule.times(2)]
    levels = EDM(sigma_min=0.002, sigma_max=own[0]).times(steps)[:-1]
    return [*(float(schedule.time(torch.tensor(it, dtype=torch.float64))) for it in levels), 0.0]


def ways() -> dict[str, tuple[Schedule, str, Any]]:
    """Return what is compared: schedule, method, and what makes times of a number of steps."""
    found: dict[str, tuple[Schedule, str, Any]] = {}
    for name, schedule in OTHERS.items():
        found[f"{name}, its own steps, Euler"] = (schedule, "euler", schedule.times)
        if name != "iDDPM":  # whose times are levels already

            def better(steps: int, schedule: Schedule = schedule) -> list[float]:
                return better_times(schedule, steps)

            found[f"{name}, EDM's steps, Heun"] = (schedule, "heun", better)
    found["EDM, Euler"] = (EDM(), "euler", EDM().times)
    found["EDM, Heun"] = (EDM(), "heun", EDM().times)
    return found


def steps_of(evaluations: int, method: str) -> int:
    """Return how many steps take so many evaluations; the last one of Heun's takes one."""
    return (evaluations + 1) // 2 if method == "heun" else evaluations


def errors(samples: int, evaluations: Sequence[int], seed: int) -> dict[str, dict[int, float]]:
    """Return root mean square errors of samples, by what computes them and at what cost."""
    noise = torch.randn(
        samples, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    found: dict[str, dict[int, float]] = {}
    for name, (schedule, method, times_of) in ways().items():
        model = Mixture(schedule).double()
        right = exact(noise, schedule, times_of(2))
        found[name] = {}
        for count in evaluations:
            times = times_of(steps_of(count, method))
            with torch.no_grad():
                got = sample(model, noise, steps=times, method=method)
            found[name][count] = float((got - right).square().sum(1).mean().sqrt())
    return found


def draw(found: dict[str, dict[int, float]], path: Path) -> None:
    """Draw errors against evaluations."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name, points in found.items():
        style = "-" if name.startswith("EDM") else "--" if name.endswith("Heun") else ":"
        axes.loglog(list(points), list(points.values()), style, marker="o", ms=3, label=name)
    axes.set(
        xlabel="network evaluations", ylabel="root mean square error of a sample", ylim=(None, 10)
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute, print and draw."""
    parser = argparse.ArgumentParser(prog="python -m reproductions.edm", description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("outputs/edm"), help="folder of results"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true", help="few samples and steps")
    options = parser.parse_args(arguments)
    counts = EVALUATIONS[:4] if options.small else EVALUATIONS
    start = time.perf_counter()
    found = errors(20 if options.small else 1000, counts, options.seed)
    options.output.mkdir(parents=True, exist_ok=True)
    metrics = {
        "environment": provenance() | {"device": "CPU", "seed": options.seed},
        "seconds": time.perf_counter() - start,
        "errors": found,
    }
    (options.output / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    draw(found, options.output / "errors.png")
    for name, points in found.items():
        print(f"{name:28}", *(f"{count}: {error:.1e}" for count, error in points.items()))


if __name__ == "__main__":
    main()
