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
``python -m nox -s quickstart`` runs this page as a script, with what follows ``--`` as options.
"""

import argparse
from importlib.metadata import files
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from rich.progress import Progress
from torch import Tensor

from physicsnemo import Module
from physicsnemo.registry import ModelRegistry
from physicsnemo.utils import StaticCaptureTraining

parser = argparse.ArgumentParser(description="Learn Darcy flow with a Fourier neural operator.")
parser.add_argument("--epochs", type=int, default=30, help="passes through the training set")
parser.add_argument("--seed", type=int, default=0, help="of weights and order of samples")
parser.add_argument("--output", type=Path, default=Path("outputs/quickstart"), help="folder")
parser.add_argument("--device", default="cpu", help="such as cpu or cuda")
options = parser.parse_args()
torch.set_num_threads(1)  # such small grids gain nothing from more cores

# %%
# The data
# --------
# The wheel of neuraloperator 0.3.0 (`Kossaifi et al. 2024 <https://arxiv.org/abs/2412.10354>`__)
# holds a small benchmark: 1000 samples on 16×16 points to learn from, and 50 others to test with,
# on 16×16 and on 32×32 points. We read its files and do not import it. The permeability takes two
# values, and all numbers are dimensionless.


def darcy(name: str) -> tuple[Tensor, Tensor]:
    """Return permeability, -1 for low and 1 for high, and pressure: (samples, 1, n, n) each."""
    [path] = (file.locate() for file in files("neuraloperator") if file.name == name)
    samples = torch.load(path, map_location=options.device, weights_only=True)
    return 2.0 * samples["x"].unsqueeze(1) - 1.0, samples["y"].unsqueeze(1)


train = darcy("darcy_train_16.pt")
tests = {"16×16": darcy("darcy_test_16.pt"), "32×32": darcy("darcy_test_32.pt")}

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
# The model
# ---------
# The registry knows the models of all installed packages by name. Since the pressure is zero on
# the boundary, it continues as a periodic function beyond the square, and the model needs no
# padding; so a Fourier mode is the same wave on every grid.

torch.manual_seed(options.seed)
FNO = ModelRegistry().factory("FNO")
model = FNO(in_channels=1, out_channels=1, num_fno_modes=8, padding=0).to(options.device)
print(f"{type(model).__name__} with {model.num_parameters():,} parameters")

# %%
# Training
# --------
# The loss is the relative L2 error: at 0.1, the prediction is off by a tenth of the pressure.
# :class:`~physicsnemo.utils.StaticCaptureTraining` makes a training step of a function that returns
# the loss: it clears the gradients, goes backward and advances the optimizer. On a GPU it replays
# forward and backward pass from a CUDA graph.


def relative_errors(permeability: Tensor, pressure: Tensor) -> Tensor:
    """Return the L2 norm of the error over that of the pressure, for each sample."""
    error = (model(permeability) - pressure).flatten(1)
    return error.norm(dim=1) / pressure.flatten(1).norm(dim=1)


batch_size = 40
steps = options.epochs * len(train[0]) // batch_size
optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-4)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)


@StaticCaptureTraining(model=model, optim=optimizer, use_amp=False)
def training_step(permeability: Tensor, pressure: Tensor) -> Tensor:
    """Return the loss."""
    return relative_errors(permeability, pressure).mean()


def train_epoch() -> float:
    """Show every sample to the model once and return the mean loss."""
    losses = []
    for chosen in torch.randperm(len(train[0])).split(batch_size):
        losses.append(training_step(*random_symmetry(*(fields[chosen] for fields in train))))
        schedule.step()
    return torch.stack(losses).mean().item()


@torch.no_grad()
def test_errors() -> dict[str, float]:
    """Return the mean error on each test set."""
    return {f"test {n}": relative_errors(*fields).mean().item() for n, fields in tests.items()}


curves = []
with Progress() as progress:
    task = progress.add_task("loss", total=options.epochs)
    for _ in range(options.epochs):
        curves.append({"training": train_epoch()} | test_errors())
        progress.update(task, advance=1, description=f"loss {curves[-1]['training']:.4f}")

# %%
# The same weights serve both grids. After 30 epochs, expect about 0.085 on 16×16 and 0.13 on 32×32.

for name, error in test_errors().items():
    print(f"{name}: relative L2 error {error:.4f}")

# %%
# Save and load
# -------------
# One ``.mdlus`` file holds all that it takes to rebuild the model, without naming its class.

options.output.mkdir(parents=True, exist_ok=True)
checkpoint = options.output / "darcy.mdlus"
model.save(checkpoint)
reloaded = Module.from_checkpoint(checkpoint, map_location=options.device)
permeability, pressure = tests["16×16"]
assert torch.equal(reloaded(permeability), model(permeability)), "the predictions differ"
print(f"{checkpoint} holds an {type(reloaded).__name__} with identical predictions")

# %%
# The picture
# -----------
# The test sample with the median error, on both grids, and how training went.

GROUND = ListedColormap(["#7a5c3a", "#e0cda9"])


def draw_field(axes: Axes, field: Tensor, title: str, **style: object) -> None:
    """Draw one field with its scale."""
    image = axes.imshow(field[0].cpu().numpy(), origin="lower", **style)
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.8)
    if image.cmap is GROUND:
        bar.set_ticks([-0.5, 0.5], labels=["low", "high"])
    axes.set(title=title, xticks=[], yticks=[])


@torch.no_grad()
def draw_sample(row: list[Axes], grid: str, index: int) -> None:
    """Draw permeability, true and predicted pressure on one scale, and the error."""
    permeability, pressure = (fields[index] for fields in tests[grid])
    prediction = model(permeability[None])[0]
    error = prediction - pressure
    top, limit = pressure.max().item(), error.abs().max().item()
    draw_field(row[0], permeability, f"{grid} permeability", cmap=GROUND, vmin=-1, vmax=1)
    draw_field(row[1], pressure, "true pressure", vmin=0, vmax=top)
    draw_field(row[2], prediction, "predicted pressure", vmin=0, vmax=top)
    draw_field(row[3], error, "predicted - true", cmap="RdBu_r", vmin=-limit, vmax=limit)


median = relative_errors(permeability, pressure).median(dim=0).indices.item()
figure, axes = plt.subplot_mosaic("abcd;efgh;iiii", figsize=(11, 7), layout="constrained")
draw_sample([axes[letter] for letter in "abcd"], "16×16", median)
draw_sample([axes[letter] for letter in "efgh"], "32×32", median)
for name in curves[0]:
    axes["i"].plot(range(1, len(curves) + 1), [errors[name] for errors in curves], label=name)
axes["i"].set(xlabel="epoch", ylabel="relative L2 error", yscale="log")
axes["i"].set_yticks([0.1, 0.2, 0.4], labels=["0.1", "0.2", "0.4"])
axes["i"].minorticks_off()
axes["i"].legend()
figure.savefig(options.output / "quickstart.png")
print(f"{options.output / 'quickstart.png'} shows one of the predictions")
