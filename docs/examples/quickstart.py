# SPDX-License-Identifier: Apache-2.0
r"""
Quickstart: learn Darcy flow
============================

Water seeps through ground that is more permeable in some places than in others. Given a map of
the permeability :math:`a`, which pressure :math:`u` solves :math:`-\nabla \cdot (a \nabla u) = f`
on a square, with a fixed source :math:`f` and :math:`u = 0` on the boundary? A solver answers for
one map at a time. A Fourier neural operator (`Li et al. 2020 <https://arxiv.org/abs/2010.08895>`__)
learns from examples to answer for any map, and on finer grids than it was trained on.

Here we find that model in the registry, train it in two minutes on a CPU, save it and load it back.
``python -m nox -s quickstart`` runs this page as a script, with what follows ``--`` as options:
``--problem burgers`` learns how waves steepen, in half a minute.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import files
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.ticker import LogLocator
from rich.progress import Progress
from torch import Tensor
from torch.nn.functional import interpolate

from physicsnemo import Module
from physicsnemo.registry import ModelRegistry
from physicsnemo.utils import StaticCaptureTraining

parser = argparse.ArgumentParser(description="Learn to solve an equation by a Fourier operator.")
parser.add_argument("--problem", choices=["darcy", "burgers"], default="darcy")
parser.add_argument("--epochs", type=int, help="passes through the training set")
parser.add_argument("--seed", type=int, default=0, help="of weights and order of samples")
parser.add_argument("--output", type=Path, default=Path("outputs/quickstart"), help="folder")
parser.add_argument("--device", default="cpu", help="such as cpu or cuda")
options = parser.parse_args()
torch.set_num_threads(1)  # such small grids gain nothing from more cores

# %%
# A problem
# ---------
# What this page needs to know of a problem fits in a small class. We fill it in for Darcy flow, and
# once more below. All numbers are dimensionless.

Samples = tuple[Tensor, Tensor]  # inputs and outputs, of shape (samples, channels, *grid) each


@dataclass
class Problem:
    """Samples of an equation and its solution, and what is known about them."""

    train: Samples
    tests: dict[str, Samples]
    symmetry: Callable[..., list[Tensor]]  # turns samples into other true ones, at random
    baseline: Callable[[Tensor], Tensor]  # the outputs that one would guess without a model
    model: dict[str, Any]  # arguments of the FNO
    epochs: int
    draw_input: Callable[[Axes, Tensor, Tensor], None]
    output: str  # what outputs are
    axes: dict[str, Any] = field(default_factory=lambda: {"xticks": [], "yticks": []})


def read(name: str) -> dict[str, Tensor]:
    """Read a file of the package neuraloperator, without importing it."""
    [path] = (file.locate() for file in files("neuraloperator") if file.name == name)
    return torch.load(path, map_location=options.device, weights_only=True)


# %%
# The data
# --------
# The wheel of neuraloperator 0.3.0 (`Kossaifi et al. 2024 <https://arxiv.org/abs/2412.10354>`__)
# holds a small benchmark: 1000 samples on 16×16 points to learn from, and 50 others to test with,
# on 16×16 and on 32×32 points. The permeability takes two values.


def darcy_samples(name: str) -> Samples:
    """Return permeability, -1 for low and 1 for high, and pressure: (samples, 1, n, n) each."""
    samples = read(name)
    return 2.0 * samples["x"].unsqueeze(1) - 1.0, samples["y"].unsqueeze(1)


# %%
# Eight samples for one
# ---------------------
# Turn or mirror the square, and the physics is the same: each sample stands for eight. Mind that
# the grid keeps the boundary at index 0 and leaves out the opposite one, at index n. Reversing an
# axis would put it at the wrong end; here index i becomes -i modulo n, and the boundary stays.


def mirror(fields: Tensor, axis: int) -> Tensor:
    """Reflect an axis about index 0."""
    return fields.flip(axis).roll(1, axis)


def random_symmetry(*batches: Tensor) -> list[Tensor]:
    """Apply one of the eight symmetries of the square to all batches alike."""
    transposed, *mirrored = (torch.rand(3) < 0.5).tolist()
    for axis in (-2, -1):
        batches = [mirror(batch, axis) if mirrored[axis] else batch for batch in batches]
    return [batch.mT if transposed else batch for batch in batches]


# %%
# Since the pressure is zero on the boundary, it continues as a periodic function beyond the square,
# and the model needs no padding; so a Fourier mode is the same wave on every grid. Without a model,
# our best guess is the mean pressure of the training samples, whatever the ground.

GROUND = ListedColormap(["#7a5c3a", "#e0cda9"])


def draw_ground(axes: Axes, permeability: Tensor, pressure: Tensor) -> None:
    """Draw a map of the permeability."""
    image = axes.imshow(permeability[0].cpu(), origin="lower", cmap=GROUND, vmin=-1, vmax=1)
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.8)
    bar.set_ticks([-0.5, 0.5], labels=["low", "high"])
    axes.set(title=f"{len(permeability[0])}×{len(permeability[0])} permeability")
    axes.set(xticks=[], yticks=[])


def darcy() -> Problem:
    """Make the pressure of water in the ground a problem."""
    train = darcy_samples("darcy_train_16.pt")
    mean = train[1].mean(dim=0, keepdim=True)
    return Problem(
        train=train,
        tests={n: darcy_samples(f"darcy_test_{n[:2]}.pt") for n in ("16×16", "32×32")},
        symmetry=random_symmetry,
        baseline=lambda ground: interpolate(mean, ground.shape[2:]).expand_as(ground),
        model={"in_channels": 1, "out_channels": 1, "num_fno_modes": 8, "padding": 0},
        epochs=30,
        draw_input=draw_ground,
        output="pressure",
    )


# %%
# Another problem
# ---------------
# Burgers' equation :math:`\partial_t u + u \, \partial_x u = 0.01 \, \partial_x^2 u` describes
# waves that steepen, since fast parts catch up with slow ones, until viscosity smooths them. The
# same wheel holds 1200 solutions on a ring of length 1, at 16 points and at the times 0, 0.06, ...,
# 0.96. From the first, we predict the other sixteen at once: they are the channels of the output.
# We learn from 1000 solutions and test with the others.
#
# Two things are true of all solutions. Seen in a mirror, velocities change sign: that makes two
# samples of one. And no place on the ring differs from another: turn the input of a Fourier neural
# operator without coordinate features, and its output turns too, so it need not learn this. Without
# a model, our best guess is that nothing changes. With ``--problem burgers``, all that follows on
# this page leads to this picture:
#
# .. image:: /_static/burgers.png
#    :alt: Velocity at first and last, true and predicted velocity by place and time, and errors.

TIMES = [0.06 * (step + 1) for step in range(16)]


def random_mirror(*batches: Tensor) -> list[Tensor]:
    """Look at all batches alike in a mirror, or not."""
    return [-mirror(batch, -1) for batch in batches] if torch.rand(()) < 0.5 else list(batches)


def draw_waves(axes: Axes, start: Tensor, later: Tensor) -> None:
    """Draw the velocity along the ring, at the first time and at the last."""
    axes.plot(start[0].cpu(), ".:", color="gray")
    axes.plot(later[-1].cpu(), ".-")
    axes.set(title=f"time 0 (dotted) and {TIMES[-1]:.2f}", ylabel="velocity")
    axes.set(xlabel="place", xticks=[0, 8], xticklabels=[0, 0.5])


def burgers() -> Problem:
    """Make the steepening of waves a problem."""
    solutions = read("burgers_lowres.pt")["output"].float()
    start, later = solutions[:, :1], solutions[:, 1:]
    return Problem(
        train=(start[:1000], later[:1000]),
        tests={"16 points": (start[1000:], later[1000:])},
        symmetry=random_mirror,
        baseline=lambda start: start.expand(-1, len(TIMES), -1),
        model={
            "in_channels": 1,
            "out_channels": len(TIMES),
            "dimension": 1,
            "num_fno_modes": 8,
            "padding": 0,
            "coord_features": False,
        },
        epochs=60,
        draw_input=draw_waves,
        output="velocity",
        axes={
            "aspect": "auto",
            "xlabel": "place",
            "xticks": [0, 8],
            "xticklabels": [0, 0.5],
            "ylabel": "time",
            "yticks": [0, 7, 15],
            "yticklabels": [f"{TIMES[step]:.2f}" for step in (0, 7, 15)],
        },
    )


problem = {"darcy": darcy, "burgers": burgers}[options.problem]()
epochs = options.epochs or problem.epochs

# %%
# The model
# ---------
# The registry knows the models of all installed packages by name.

torch.manual_seed(options.seed)
FNO = ModelRegistry().factory("FNO")
model = FNO(**problem.model).to(options.device)
print(f"{type(model).__name__} with {model.num_parameters():,} parameters")

# %%
# Training
# --------
# The loss is the relative L2 error: at 0.1, the prediction is off by a tenth of the truth.
# :class:`~physicsnemo.utils.StaticCaptureTraining` makes a training step of a function that returns
# the loss: it clears the gradients, goes backward and advances the optimizer. On a GPU it replays
# forward and backward pass from a CUDA graph.


def relative_errors(predictions: Tensor, truth: Tensor) -> Tensor:
    """Return the L2 norm of the error over that of the truth, for each sample."""
    return (predictions - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)


batch_size = 40
steps = epochs * len(problem.train[0]) // batch_size
optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-4)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)


@StaticCaptureTraining(model=model, optim=optimizer, use_amp=False)
def training_step(inputs: Tensor, truth: Tensor) -> Tensor:
    """Return the loss."""
    return relative_errors(model(inputs), truth).mean()


def train_epoch() -> float:
    """Show every sample to the model once and return the mean loss."""
    losses = []
    for chosen in torch.randperm(len(problem.train[0])).split(batch_size):
        batch = (fields[chosen] for fields in problem.train)
        losses.append(training_step(*problem.symmetry(*batch)))
        schedule.step()
    return torch.stack(losses).mean().item()


@torch.no_grad()
def test_errors(predict: Callable[[Tensor], Tensor]) -> dict[str, float]:
    """Return the mean error of predictions on each test set."""
    return {
        f"test {name}": relative_errors(predict(inputs), truth).mean().item()
        for name, (inputs, truth) in problem.tests.items()
    }


curves = []
with Progress() as progress:
    task = progress.add_task("loss", total=epochs)
    for _ in range(epochs):
        curves.append({"training": train_epoch()} | test_errors(model))
        progress.update(task, advance=1, description=f"loss {curves[-1]['training']:.4f}")

# %%
# The same weights serve both grids. After 30 epochs, expect about 0.085 on 16×16 and 0.13 on 32×32,
# where the guess without a model is off by half of the pressure. For Burgers' equation, expect
# 0.005 after 60 epochs, and 0.45 without a model.

guesses = test_errors(problem.baseline)
for name, error in test_errors(model).items():
    print(f"{name}: relative L2 error {error:.4f}, without a model {guesses[name]:.4f}")

# %%
# Save and load
# -------------
# One ``.mdlus`` file holds all that it takes to rebuild the model, without naming its class.

options.output.mkdir(parents=True, exist_ok=True)
checkpoint = options.output / f"{options.problem}.mdlus"
model.save(checkpoint)
reloaded = Module.from_checkpoint(checkpoint, map_location=options.device)
first_test, *_ = problem.tests
inputs, truth = problem.tests[first_test]
assert torch.equal(reloaded(inputs), model(inputs)), "the predictions differ"
print(f"{checkpoint} holds an {type(reloaded).__name__} with identical predictions")

# %%
# The picture
# -----------
# The test sample with the median error, on all grids, and how training went.


def draw_output(axes: Axes, output: Tensor, title: str, **style: object) -> None:
    """Draw a field with its scale."""
    image = axes.imshow(output.squeeze(0).cpu(), origin="lower", **style)
    axes.figure.colorbar(image, ax=axes, shrink=0.8)
    axes.set(title=title, **problem.axes)


@torch.no_grad()
def draw_sample(row: list[Axes], inputs: Tensor, truth: Tensor) -> None:
    """Draw input, true and predicted output on one scale, and the error."""
    prediction = model(inputs[None])[0]
    error = prediction - truth
    scale = {"vmin": truth.min().item(), "vmax": truth.max().item()}
    limit = error.abs().max().item()
    problem.draw_input(row[0], inputs, truth)
    draw_output(row[1], truth, f"true {problem.output}", **scale)
    draw_output(row[2], prediction, f"predicted {problem.output}", **scale)
    draw_output(row[3], error, "predicted - true", cmap="RdBu_r", vmin=-limit, vmax=limit)


median = relative_errors(model(inputs), truth).median(dim=0).indices.item()
rows = len(problem.tests)
figure = plt.figure(figsize=(11, 2.8 + 2.1 * rows), layout="constrained")
grid = figure.add_gridspec(rows + 1, 4)
for row, samples in enumerate(problem.tests.values()):
    axes = [figure.add_subplot(grid[row, column]) for column in range(4)]
    draw_sample(axes, *(fields[median] for fields in samples))
curve_axes = figure.add_subplot(grid[rows, :])
for name in curves[0]:
    curve_axes.plot(range(1, epochs + 1), [errors[name] for errors in curves], label=name)
curve_axes.axhline(guesses[f"test {first_test}"], color="gray", ls="--", label="without a model")
curve_axes.set(xlabel="epoch", ylabel="relative L2 error", yscale="log")
curve_axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
curve_axes.yaxis.set_major_formatter("{x:g}")
curve_axes.minorticks_off()
curve_axes.legend()
picture = options.output / f"{options.problem}.png"
figure.savefig(picture)
print(f"{picture} shows one of the predictions")
