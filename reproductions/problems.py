# SPDX-License-Identifier: Apache-2.0
"""The problems of Li et al. 2021, arXiv:2010.08895, and the settings that it learns them with."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from reproductions.data import burgers, darcy, navier_stokes
from reproductions.data.cache import cached

Samples = tuple[Tensor, Tensor]  # inputs and outputs, of shape (samples, channels, *grid) each


@dataclass(frozen=True)
class Problem:
    """An equation, where its samples come from, and how an FNO learns it."""

    name: str
    samples: Callable[["Problem", int, torch.device], Samples]  # on the finest grid, by seed
    train: int  # samples
    test: int
    finest: int  # points along each axis of space; the other grids are a part of it
    resolutions: tuple[int, ...]
    resolution: int  # to train on, unless another is asked for
    model: dict[str, Any]
    paper: dict[int, float]  # relative L2 errors that it states, by resolution
    paper_source: str
    quantities: tuple[str, str]  # what inputs and outputs are
    space: int  # number of axes of space
    closed: bool  # whether the grid has points on both ends of an axis
    averaged: tuple[int, ...] | None  # axes of mean and deviation; None: fields are not normalized
    guess: tuple[str, Callable[[Tensor], Tensor]] | None = None  # a prediction without training
    padding: float = 0.0  # of each axis of space, whose own length is 1
    epochs: int = 500
    batch: int = 20
    learning_rate: float = 1e-3
    halved: bool = True  # the learning rate, each fifth of the training; else it falls as a cosine
    weight_decay: float = 1e-4
    recurrent: bool = False  # whether the model predicts one time after another

    def on(self, resolution: int, fields: Tensor) -> Tensor:
        """Return the values of fields, given on the finest grid, on the points of another."""
        stride = (self.finest - self.closed) // (resolution - self.closed)
        return fields[(slice(None), slice(None), *[slice(None, None, stride)] * self.space)]

    def model_on(self, resolution: int) -> dict[str, Any]:
        """Return the arguments of the FNO: at each resolution, padding has the same length."""
        if not self.padding:
            return self.model
        points = round((1 + self.padding) * (resolution - self.closed)) - resolution
        return self.model | {"padding": points}


def burgers_samples(problem: Problem, seed: int, device: torch.device) -> Samples:
    """Return the states at the times 0 and 1."""
    number, points = problem.train + problem.test, problem.finest
    name = f"burgers-{number}-{points}-{seed}"
    return cached(name, lambda: burgers.samples(number, points, seed, device))


def darcy_samples(problem: Problem, seed: int, device: torch.device) -> Samples:
    """Return the coefficient and the pressure."""
    number, points = problem.train + problem.test, problem.finest
    name = f"darcy-{number}-{points}-{seed}"
    return cached(name, lambda: darcy.samples(number, points, seed, device))


def navier_stokes_samples(
    problem: Problem,
    seed: int,
    device: torch.device,
    *,
    viscosity: float,
    later: int,
    steps: int,
) -> Samples:
    """Return the vorticity at the given times as channels, and at later times on a last axis."""
    number, kept, given = problem.train + problem.test, problem.finest, problem.model["in_channels"]
    points, records = 2 * kept, given + later * given // 10  # fewer of both at small settings
    name = f"navier-stokes-{viscosity:g}-{number}-{points}-{kept}-{records}-{seed}"
    _, vorticity = cached(
        name,
        lambda: navier_stokes.samples(
            number,
            points,
            seed,
            device,
            kept=kept,
            records=records,
            viscosity=viscosity,
            steps=steps,
        ),
    )
    given_times, later_times = vorticity[:, :given], vorticity[:, given:]
    return given_times.unsqueeze(-1), later_times.movedim(1, -1).unsqueeze(1)


BURGERS = Problem(
    name="burgers",
    samples=burgers_samples,
    train=1000,
    test=200,
    finest=8192,
    resolutions=(256, 512, 1024, 2048, 4096, 8192),
    resolution=1024,
    model={
        "in_channels": 1,
        "out_channels": 1,
        "dimension": 1,
        "latent_channels": 64,
        "num_fno_modes": 16,
        "decoder_layer_size": 128,
        "padding": 0,
        "coord_features": False,  # no place on a circle differs from another
    },
    paper={256: 0.0149, 512: 0.0158, 1024: 0.0160, 2048: 0.0146, 4096: 0.0142, 8192: 0.0139},
    paper_source="table 3",
    quantities=("velocity at time 0", "velocity at time 1"),
    guess=("diffusion of the input", burgers.diffused),
    space=1,
    closed=False,
    averaged=(0, 2),
)
DARCY = Problem(
    name="darcy",
    samples=darcy_samples,
    train=1000,
    test=200,
    finest=421,
    resolutions=(85, 141, 211, 421),
    resolution=85,
    model={
        "in_channels": 1,
        "out_channels": 1,
        "dimension": 2,
        "latent_channels": 32,
        "num_fno_modes": 12,
        "decoder_layer_size": 128,
    },
    paper={85: 0.0108, 141: 0.0109, 211: 0.0109, 421: 0.0098},
    paper_source="table 4",
    quantities=("permeability", "pressure"),
    space=2,
    closed=True,
    averaged=(0,),
    padding=10 / 84,  # 9 points beyond the 85
)
NAVIER_STOKES = Problem(
    name="navier-stokes",
    samples=partial(navier_stokes_samples, viscosity=1e-3, later=40, steps=25),
    train=1000,
    test=200,
    finest=64,
    resolutions=(32, 64),
    resolution=64,
    model={
        "in_channels": 10,
        "out_channels": 1,
        "dimension": 3,
        "latent_channels": 20,
        "num_fno_modes": 8,
        "decoder_layer_size": 128,
        "padding": [0, 0, 6],  # time is not periodic
    },
    paper={64: 0.0086},
    paper_source="table 1, FNO-3D",
    quantities=("given vorticity", "final vorticity"),
    guess=("last input", lambda given: given[:, -1:]),
    space=2,
    closed=False,
    averaged=(0,),
    batch=10,
    learning_rate=2.5e-3,
    halved=False,
    weight_decay=1e-5,  # 1e-4 beside the sum of errors over a batch, which we divide by its size
)
RECURRENT = replace(
    NAVIER_STOKES,
    name="navier-stokes-2d",
    model=NAVIER_STOKES.model | {"dimension": 2, "num_fno_modes": 12, "padding": 0},
    paper={64: 0.0128},
    paper_source="table 1, FNO-2D",
    averaged=None,
    batch=20,
    learning_rate=1e-3,
    recurrent=True,
)
THIN: dict[str, Any] = {
    "samples": partial(navier_stokes_samples, viscosity=1e-4, later=20, steps=100)
}
PROBLEMS = {
    problem.name: problem
    for problem in (
        BURGERS,
        DARCY,
        NAVIER_STOKES,
        RECURRENT,
        replace(NAVIER_STOKES, name="navier-stokes-1e-4", paper={64: 0.1918}, **THIN),
        replace(RECURRENT, name="navier-stokes-1e-4-2d", paper={64: 0.1559}, **THIN),
    )
}


def small(problem: Problem) -> Problem:
    """Return the problem at a size for a minute on a CPU: it shows the way, not the accuracy."""
    sizes: dict[str, dict[str, Any]] = {
        "burgers": {"finest": 128, "resolutions": (32, 64, 128), "resolution": 64, "epochs": 100},
        "darcy": {"finest": 43, "resolutions": (15, 22, 43), "resolution": 22, "epochs": 30},
        "navier-stokes": {"finest": 16, "resolutions": (16,), "resolution": 16, "epochs": 10},
    }
    [size] = (size for name, size in sizes.items() if problem.name.startswith(name))
    model = problem.model | {"latent_channels": 16, "num_fno_modes": 5}
    learning: dict[str, Any] = {"train": 120, "test": 20, "learning_rate": 5e-3, "paper": {}}
    if problem.name.startswith(NAVIER_STOKES.name):
        model["in_channels"], learning["train"], learning["test"] = 2, 30, 10
    return replace(problem, model=model, **learning, **size)
