# SPDX-License-Identifier: Apache-2.0
"""Spherical Fourier neural operator: shallow water on a rotating sphere, step by step.

Bonev et al. 2023, Spherical Fourier neural operators: learning stable dynamics on the sphere,
arXiv:2306.03838. A model learns the state an hour later, and is then applied to its own output for
100 hours. The samples are computed here; see ``reproductions/data/shallow_water.py``::

    python -m reproductions.sfno sfno --resolution 256 --device cuda --output outputs/sfno

writes ``metrics.json``, the model as ``sfno.mdlus``, and ``prediction.png``. Heights are in m,
vorticity and divergence in 1/s.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from physicsnemo import Module
from physicsnemo.models.fno import FNO
from physicsnemo.models.sfno import SFNO, InverseRealSHT, SphericalGrid
from physicsnemo.utils import StaticCaptureTraining
from reproductions.data import shallow_water
from reproductions.data.cache import cached
from reproductions.pace import Record, recorded
from reproductions.records import environment, write_metrics

PAPER_HOURS = (5, 10)  # at which the paper compares; models are trained for 1
FIELDS = ("height", "vorticity", "divergence")


@dataclass(frozen=True)
class Settings:
    """Sizes of the samples, the models and the training."""

    resolution: int = 256  # latitudes; there are twice as many longitudes
    train: int = 1024  # trajectories
    train_hours: int = 4
    test: int = 40
    test_hours: int = 100
    width: int = 64  # channels of the SFNO, twice those of the FNO
    steps: int = 10_000
    batch: int = 4
    learning_rate: float = 4e-3

    @property
    def degrees(self) -> int:
        """Number of degrees of the samples: by a third of the latitudes, as in the paper."""
        return self.resolution // 3

    def reported_hours(self) -> list[int]:
        """Return the hours at which errors are reported."""
        hours = (1, *PAPER_HOURS, 24, 50, 100)
        return [hour for hour in hours if hour <= self.test_hours]


# A minute on a CPU: it shows the way, not the accuracy.
SMALL = Settings(
    resolution=32, train=24, test=4, test_hours=12, width=16, steps=400, learning_rate=5e-3
)


def sfno(settings: Settings) -> SFNO:
    """Return an SFNO, whose inner grid resolves all degrees of the samples."""
    grid = [settings.resolution, 2 * settings.resolution]
    return SFNO(
        grid,
        grid,
        inp_chans=4,
        out_chans=3,
        embed_dim=settings.width,
        scale_factor=3,
        model_grid_type="legendre-gauss",
        normalization_layer="none",
        big_skip=False,
    )


def fno(settings: Settings) -> FNO:
    """Return an FNO with as many parameters as the SFNO, and half of its channels."""
    return planar(settings, modes=round(2 * (settings.degrees / 2) ** 0.5))


def fno_with_all_modes(settings: Settings) -> FNO:
    """Return an FNO with half the channels of the SFNO, and all waves of the samples."""
    return planar(settings, modes=settings.degrees)


def planar(settings: Settings, modes: int) -> FNO:
    """Return an FNO with some modes along both axes; latitudes are padded, longitudes periodic."""
    return FNO(
        in_channels=4,
        out_channels=3,
        latent_channels=settings.width // 2,
        decoder_layer_size=settings.width,
        num_fno_modes=modes,
        padding=[settings.resolution // 8, 0],
    )


MODELS = {"sfno": sfno, "fno": fno, "fno-all-modes": fno_with_all_modes}


class Data:
    """Trajectories on the grid of the models, with deviation 1, in shape (samples, hours, ...)."""

    def __init__(self, settings: Settings, seed: int, device: torch.device) -> None:
        self.grid = SphericalGrid(
            settings.resolution, 2 * settings.resolution, grid_type="legendre-gauss"
        )
        degrees = settings.degrees
        self._synthesis = InverseRealSHT(self.grid, degrees, degrees).to(device)
        self.area = (self.grid.weights() / 2).float().to(device)[:, None]  # shares of a meridian
        sine = self.grid.nodes().float().to(device)
        self.sine = sine[:, None].expand(1, 1, -1, self.grid.nlon)

        train, test = self._spectra(settings, seed, device)
        # Parseval: the square of a harmonic's integral is 1, and all but order 0 stand for two.
        power = 2 * train.square().sum(-1).sum(-1) - train[..., 0, :].square().sum(-1)
        variance = power.sum(-1).mean((0, 1)) / (4 * torch.pi)
        self.deviation = variance.sqrt().to(device)[:, None, None]
        self.train, self.test = self._fields(train, device), self._fields(test, device)

    def predict(self, model: nn.Module, state: Tensor) -> Tensor:
        """Return states an hour later; models are told the sine of the latitude, for Coriolis."""
        sine = self.sine.expand(len(state), -1, -1, -1)
        result: Tensor = model(torch.cat((state, sine), dim=1))
        return result

    def norm(self, fields: Tensor) -> Tensor:
        """Return the root of the mean square over sphere and fields, (..., 3, nlat, nlon)."""
        mean_square: Tensor = (fields.square() * self.area).sum(-2).mean((-1, -2))
        return mean_square.sqrt()

    def errors(self, predictions: Tensor, truth: Tensor) -> Tensor:
        """Return the relative L2 error of each sample."""
        return self.norm(predictions - truth) / self.norm(truth)

    @torch.no_grad()
    def rollout(self, model: nn.Module, hours: int, samples: int) -> Iterator[Tensor]:
        """Apply a model to its own output, from the first states of the tests."""
        state = self.test[:samples, 0]
        for _ in range(hours):
            parts = state.split(4)
            state = torch.cat([self.predict(model, part) for part in parts])
            yield state

    @staticmethod
    def _spectra(settings: Settings, seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return coefficients of training and tests, real and imaginary parts last."""
        sizes = (settings.train, settings.train_hours, settings.test, settings.test_hours)
        name = "-".join(map(str, ("shallow-water", settings.degrees, *sizes, seed)))

        def make() -> tuple[Tensor, Tensor]:
            first, second = (
                shallow_water.trajectories(number, settings.degrees, hours, of, device)
                for number, hours, of in ((*sizes[:2], 2 * seed), (*sizes[2:], 2 * seed + 1))
            )
            return torch.view_as_real(first), torch.view_as_real(second)

        return cached(name, make)

    def _fields(self, spectra: Tensor, device: torch.device) -> Tensor:
        parts = [self._synthesis(part.to(device)) / self.deviation for part in spectra.split(8)]
        return torch.cat(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute samples, train, roll out and write what has been found."""
    options = parse(arguments)
    settings = SMALL if options.small else Settings()
    changes = {name: getattr(options, name) for name in ("resolution", "steps")}
    settings = replace(settings, **{name: it for name, it in changes.items() if it is not None})
    device = torch.device(options.device)
    folder = options.output or Path("outputs", "sfno", options.model)
    folder.mkdir(parents=True, exist_ok=True)

    begin = time.perf_counter()
    data = Data(settings, options.seed, device)
    data_seconds = time.perf_counter() - begin
    torch.manual_seed(options.seed)
    model: Module = MODELS[options.model](settings).to(device)
    history = list(train(model, data, settings, options))
    model.save(folder / "sfno.mdlus")

    by_hour = measure(model, data, settings.test_hours)
    reported = settings.reported_hours()
    wall_seconds = time.perf_counter() - begin
    sizes = by_hour["size"]
    metrics = {
        "problem": "shallow water",
        "model": options.model,
        "settings": settings.__dict__ | {"degrees": settings.degrees},
        "relative_l2_by_hour": {hour: by_hour["relative_l2"][hour - 1] for hour in reported},
        "relative_l2_without_model": {hour: by_hour["persistence"][hour - 1] for hour in reported},
        "largest_size": None if None in sizes else max(sizes),
        "by_hour": by_hour,
        "seed": options.seed,
        "small": options.small,
        "compiled": options.compile,
        "parameters": model.num_parameters(),
        "data_seconds": data_seconds,
        "training_seconds": history[-1]["seconds"],
        "wall_seconds": wall_seconds,
        "gpu_minutes": wall_seconds / 60 if device.type == "cuda" else 0.0,
        "environment": environment(device, "physicsnemo-sfno"),
        "history": history,
    }
    write_metrics(folder, metrics)
    draw(folder / "prediction.png", data, model, by_hour, options.model)
    found = {f"{hour} h": by_hour["relative_l2"][hour - 1] for hour in reported}
    print(f"relative L2 errors of {options.model}: {found}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(prog="python -m reproductions.sfno", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--resolution", type=int, help="latitudes")
    parser.add_argument("--seed", type=int, default=0, help="of samples, weights and their order")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, help="folder, by default outputs/sfno/MODEL")
    parser.add_argument("--steps", type=int, help="of the training")
    parser.add_argument(
        "--small", action="store_true", help="a minute on a CPU, with less accuracy"
    )
    parser.add_argument("--compile", action="store_true", help="compile the captured step too")
    return parser.parse_args(arguments)


def train(
    model: Module, data: Data, settings: Settings, options: argparse.Namespace
) -> Iterator[Record]:
    """Train by the relative L2 error of an hour: Adam, a rate that rises and falls by a cosine."""
    optimizer = torch.optim.Adam(model.parameters(), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        settings.learning_rate,
        total_steps=settings.steps,
        pct_start=0.1,
        cycle_momentum=False,  # which would be another setting to record at each step
    )
    samples, hours = data.train.shape[:2]
    generator = torch.Generator(data.train.device).manual_seed(options.seed)

    def loss(state: Tensor, later: Tensor) -> Tensor:
        return data.errors(data.predict(model, state), later).mean()

    captured = StaticCaptureTraining(
        model=model, optim=optimizer, use_amp=False, compile="auto" if options.compile else False
    )
    step = captured(loss)
    pairs = samples * (hours - 1)

    def losses() -> Iterator[Tensor]:
        for _ in range(settings.steps):
            drawn = torch.randint(
                pairs, (settings.batch,), generator=generator, device=data.train.device
            )
            sample, hour = drawn // (hours - 1), drawn % (hours - 1)
            yield step(data.train[sample, hour], data.train[sample, hour + 1])
            schedule.step()

    def test() -> float:
        [state] = data.rollout(model, hours=1, samples=8)
        return data.errors(state, data.test[:8, 1]).mean().item()

    yield from recorded(losses(), max(settings.steps // 50, 1), test)


def measure(model: nn.Module, data: Data, hours: int) -> dict[str, list[Any]]:
    """Return errors by hour, and the largest size of a prediction relative to that of the truth.

    Where a prediction has grown beyond all numbers, both are None.
    """
    found: dict[str, list[Any]] = {"hour": [], "relative_l2": [], "persistence": [], "size": []}
    for hour, state in enumerate(data.rollout(model, hours, len(data.test)), start=1):
        truth = data.test[:, hour]
        found["hour"].append(hour)
        found["relative_l2"].append(finite(data.errors(state, truth).mean()))
        found["persistence"].append(finite(data.errors(data.test[:, 0], truth).mean()))
        found["size"].append(finite((data.norm(state) / data.norm(truth)).max()))
    return found


def finite(value: Tensor) -> float | None:
    """Return a number, None for those that JSON does not know."""
    return value.item() if bool(value.isfinite()) else None


def draw(
    path: Path, data: Data, model: nn.Module, by_hour: dict[str, list[Any]], name: str
) -> None:
    """Draw the height of the first test after ten hours, and the errors by hour."""
    *_, state = data.rollout(model, hours=10, samples=1)
    truth, found = (it[0, 0].cpu() * data.deviation[0].cpu() for it in (data.test[:1, 10], state))
    limit = truth.abs().max().item()
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4), layout="constrained")
    for axes, field, title in ((left, truth, "true"), (middle, found, f"predicted by {name}")):
        image = axes.imshow(
            field.numpy(),
            extent=(0, 360, -90, 90),
            cmap="RdBu_r",
            vmin=-limit,
            vmax=limit,
            aspect="auto",
        )
        axes.set(xlabel="longitude / °", ylabel="latitude / °", title=f"height after 10 h, {title}")
    figure.colorbar(image, ax=(left, middle), label="height above the mean / m")
    errors = [float("nan") if it is None else it for it in by_hour["relative_l2"]]
    right.plot(by_hour["hour"], errors, label=name)
    right.plot(by_hour["hour"], by_hour["persistence"], "--", color="gray", label="persistence")
    right.set(xlabel="hours", ylabel="mean relative L2 error", yscale="log")
    right.legend()
    figure.savefig(path)
    plt.close(figure)


if __name__ == "__main__":
    main()
