# SPDX-License-Identifier: Apache-2.0
r"""
Quickstart: learn Darcy flow
============================

Water seeps through ground that is more permeable in some places than in others. Given a map of
the permeability :math:`a`, which pressure :math:`u` solves :math:`-\nabla \cdot (a \nabla u) = f`
on a square, with a fixed source :math:`f` and :math:`u = 0` on the boundary? A numerical solver
answers for one map at a time. A Fourier neural operator, FNO
(`Li et al. 2020 <https://arxiv.org/abs/2010.08895>`__), learns the solution operator from examples:
it answers for any map, and on finer grids than it was trained on.

This page finds the model in the registry, trains it in two minutes on a CPU, saves it and loads it
back. ``python -m nox -s quickstart`` runs the page as a script and passes on any options after
``--``; with ``--problem burgers`` it learns Burgers' equation instead, in half a minute.
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
# A small class holds all that this page needs to know about a problem. We fill it in for Darcy flow
# first, and for Burgers' equation below. All quantities are dimensionless.

Samples = tuple[Tensor, Tensor]  # inputs and outputs, of shape (samples, channels, *grid) each


@dataclass
class Problem:
    """Samples of an equation and its solution, and what is known about them."""

    train: Samples
    tests: dict[str, Samples]
    symmetry: Callable[..., list[Tensor]]  # random data augmentation
    baseline: Callable[[Tensor], Tensor]  # prediction without a model
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
# contains a small benchmark: 1000 training samples on a 16×16 grid, and test sets of 50 samples on
# 16×16 and on 32×32 grids. The permeability takes two values.


def darcy_samples(name: str) -> Samples:
    """Return permeability, -1 for low and 1 for high, and pressure: (samples, 1, n, n) each."""
    samples = read(name)
    return 2.0 * samples["x"].unsqueeze(1) - 1.0, samples["y"].unsqueeze(1)


# %%
# Data augmentation
# -----------------
# The physics does not change if the square is rotated or reflected, so each sample stands for
# eight. The grid includes the boundary at index 0 but not the opposite one, at index n. Reversing
# an axis would move the boundary to the wrong end; mapping index i to -i modulo n keeps it.


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
# Since the pressure is zero on the boundary, it extends periodically beyond the square. The model
# therefore needs no padding, and a Fourier mode is the same wave on every grid. As a baseline, we
# predict the mean pressure of the training samples, whatever the permeability.

GROUND = ListedColormap(["#7a5c3a", "#e0cda9"])


def draw_ground(axes: Axes, permeability: Tensor, pressure: Tensor) -> None:
    """Draw a map of the permeability."""
    image = axes.imshow(permeability[0].cpu(), origin="lower", cmap=GROUND, vmin=-1, vmax=1)
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.8)
    bar.set_ticks([-0.5, 0.5], labels=["low", "high"])
    axes.set(title=f"{len(permeability[0])}×{len(permeability[0])} permeability")
    axes.set(xticks=[], yticks=[])


def darcy() -> Problem:
    """Return the problem of Darcy flow."""
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
# same wheel contains 1200 solutions on a periodic domain of length 1, at 16 points and at the times
# 0, 0.06, ..., 0.96. From the initial state we predict the other sixteen times at once, as output
# channels. We train on 1000 solutions and test on the others.
#
# The equation has two symmetries. Under reflection, velocities change sign; this doubles the
# training data. And it is equivariant to translation, as is a Fourier neural operator without
# coordinate features, which need not learn this. The baseline predicts that nothing changes
# (persistence). With ``--problem burgers``, the rest of this page leads to this figure:
#
# .. image:: /_static/burgers.png
#    :alt: Velocity at first and last, true and predicted velocity by place and time, and errors.

TIMES = [0.06 * (step + 1) for step in range(16)]


def random_mirror(*batches: Tensor) -> list[Tensor]:
    """Reflect all batches alike, with probability 1/2."""
    return [-mirror(batch, -1) for batch in batches] if torch.rand(()) < 0.5 else list(batches)


def draw_waves(axes: Axes, start: Tensor, later: Tensor) -> None:
    """Draw the velocity at the first and at the last time."""
    axes.plot(start[0].cpu(), ".:", color="gray")
    axes.plot(later[-1].cpu(), ".-")
    axes.set(title=f"time 0 (dotted) and {TIMES[-1]:.2f}", ylabel="velocity")
    axes.set(xlabel="place", xticks=[0, 8], xticklabels=[0, 0.5])


def burgers() -> Problem:
    """Return the problem of Burgers' equation."""
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
# The registry finds the models of all installed packages by name.

torch.manual_seed(options.seed)
FNO = ModelRegistry().factory("FNO")
model = FNO(**problem.model).to(options.device)
print(f"{type(model).__name__} with {model.num_parameters():,} parameters")

# %%
# Training
# --------
# The loss is the relative L2 error: 0.1 means that the norm of the error is a tenth of the norm of
# the true solution. :class:`~physicsnemo.utils.StaticCaptureTraining` turns a function that returns
# the loss into a training step: zero the gradients, forward pass, backward pass, optimizer. On a
# GPU it replays all of it as a CUDA graph. Learning rates may change at each step, but a momentum
# that did, as the schedule would have it, would keep the optimizer out of the graph.


def relative_errors(predictions: Tensor, truth: Tensor) -> Tensor:
    """Return the relative L2 error of each sample."""
    return (predictions - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)


batch_size = 40
steps = epochs * len(problem.train[0]) // batch_size
optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-4)
schedule = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=1e-2, total_steps=steps, cycle_momentum=False
)


@StaticCaptureTraining(model=model, optim=optimizer, use_amp=False)
def training_step(inputs: Tensor, truth: Tensor) -> Tensor:
    """Return the loss."""
    return relative_errors(model(inputs), truth).mean()


def train_epoch() -> float:
    """Train on every sample once and return the mean loss."""
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
# The same weights work on both grids. After 30 epochs, expect an error of about 0.085 on the 16×16
# grid and 0.13 on the 32×32 grid; the baseline has 0.5. For Burgers' equation, expect 0.0045 after
# 60 epochs; the baseline has 0.45.

guesses = test_errors(problem.baseline)
for name, error in test_errors(model).items():
    print(f"{name}: relative L2 error {error:.4f}, without a model {guesses[name]:.4f}")

# %%
# Save and load
# -------------
# A single ``.mdlus`` file holds everything needed to rebuild the model, without naming its class.

options.output.mkdir(parents=True, exist_ok=True)
checkpoint = options.output / f"{options.problem}.mdlus"
model.save(checkpoint)
reloaded = Module.from_checkpoint(checkpoint, map_location=options.device)
first_test, *_ = problem.tests
inputs, truth = problem.tests[first_test]
assert torch.equal(reloaded(inputs), model(inputs)), "the predictions differ"
print(f"{checkpoint} holds an {type(reloaded).__name__} with identical predictions")

# %%
# The figure
# ----------
# It shows the test sample with the median error, on each grid, and the errors by epoch. The dashed
# line is the error of the baseline.


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
curve_axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4, frameon=False)
picture = options.output / f"{options.problem}.png"
figure.savefig(picture)
print(f"{picture} shows one of the predictions")
