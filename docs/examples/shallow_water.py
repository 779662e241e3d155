# SPDX-License-Identifier: Apache-2.0
r"""
Shallow water on a globe
========================

The shallow water equations describe a layer of water on a rotating globe. They are the simplest
model of weather: gravity waves travel around the world in a day and a half, while eddies persist.
The state at each point is the height of the surface, and the vorticity and divergence of the
velocity. Given the current state, what will it be in an hour, and, repeating that step, in half a
day?

A numerical solver generates the data, and a spherical Fourier neural operator, SFNO (`Bonev et al.
2023 <https://arxiv.org/abs/2306.03838>`__), learns to predict one hour ahead. In the environment
that ``nox -s dev`` makes, ``python docs/examples/shallow_water.py`` runs this page, in a few
minutes on a CPU. On a GPU, use ``--size full --device cuda`` for the 256×512 grid of that paper and
more channels.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from rich.progress import Progress, track
from torch import Tensor
from torch.nn.functional import grid_sample
from torch_harmonics.examples import ShallowWaterSolver

from physicsnemo import Module
from physicsnemo.models.sfno import SphericalGrid
from physicsnemo.registry import ModelRegistry
from physicsnemo.utils import StaticCaptureTraining


@dataclass
class Size:
    """How much to compute."""

    latitudes: int
    solver_step: int  # in seconds, short enough for the fastest wave
    trajectories: int
    channels: int
    epochs: int


SIZES = {
    "small": Size(latitudes=48, solver_step=300, trajectories=16, channels=32, epochs=20),
    "full": Size(latitudes=256, solver_step=100, trajectories=64, channels=128, epochs=40),
}

parser = argparse.ArgumentParser(description="Learn to step shallow water on a globe.")
parser.add_argument("--size", choices=SIZES, default="small")
parser.add_argument("--epochs", type=int, help="passes through the training set")
parser.add_argument("--seed", type=int, default=0, help="of states, weights and order of samples")
parser.add_argument("--output", type=Path, default=Path("outputs/shallow_water"), help="folder")
parser.add_argument("--device", default="cpu", help="such as cpu or cuda")
options = parser.parse_args()
size = SIZES[options.size]
epochs = options.epochs or size.epochs
torch.manual_seed(options.seed)

# %%
# The data
# --------
# The package torch-harmonics has a spectral solver. Its planet is the Earth, covered by 10 km of
# water. On an equiangular grid we keep a third as many degrees of spherical harmonics as there are
# latitudes, so that products of fields are free of aliasing. The initial state is random; ``mach``
# scales the velocities, here to about 10 m/s. Height and velocity adjust to each other for six
# hours, which we discard; we keep the 24 hours that follow.

ADJUSTMENT, HOURS = 6, 24
grid = SphericalGrid(size.latitudes, 2 * size.latitudes, "equiangular")
degrees = -(-grid.nlat // 3)
solver = ShallowWaterSolver(
    grid.nlat, grid.nlon, size.solver_step, lmax=degrees, mmax=degrees, grid=grid.grid_type
)
solver = solver.float().to(options.device)


def trajectory() -> Tensor:
    """Return height in m, vorticity and divergence in 1e-5/s: (hours + 1, 3, nlat, nlon)."""
    harmonics = solver.random_initial_condition(mach=2.0)
    states = []
    for hour in range(ADJUSTMENT + HOURS + 1):
        if hour >= ADJUSTMENT:
            states.append(solver.spec2grid(harmonics))
        harmonics = solver.timestep(harmonics, 3600 // size.solver_step)
    fields = torch.stack(states)
    fields[:, 0] /= solver.gravity  # the solver has the geopotential for the height
    fields[:, 1:] *= 1e5
    return fields


def trajectories(number: int, purpose: str) -> Tensor:
    """Return several trajectories, each from its own random state."""
    return torch.stack([trajectory() for _ in track(range(number), purpose)])


threads = torch.get_num_threads()
torch.set_num_threads(1)  # the arrays of the solver gain nothing from more
train = trajectories(size.trajectories, "data to learn from")
test = trajectories(4, "data to test with")
torch.set_num_threads(threads)

# %%
# The model
# ---------
# We normalize each quantity by its mean and standard deviation.
#
# The model consists of convolutions on the sphere, which treat all points alike. On a rotating
# globe they are not alike: the Coriolis parameter is proportional to the sine of the latitude, and
# has the opposite sign in the southern hemisphere. So this sine is a fourth input channel. The
# model keeps the same degrees of spherical harmonics as the solver.

mean = train.mean(dim=(0, 1, 3, 4)).reshape(3, 1, 1)
deviation = train.std(dim=(0, 1, 3, 4)).reshape(3, 1, 1)
sine = grid.nodes().to(train).reshape(1, 1, -1, 1)

SFNO = ModelRegistry().factory("SFNO")
model = SFNO(
    inp_shape=[grid.nlat, grid.nlon],
    out_shape=[grid.nlat, grid.nlon],
    inp_chans=4,
    out_chans=3,
    embed_dim=size.channels,
    num_layers=2,
    scale_factor=2,
    max_modes=[degrees, degrees],
    normalization_layer="none",
).to(options.device)
print(f"{type(model).__name__} with {model.num_parameters():,} parameters")


def with_latitude(states: Tensor) -> Tensor:
    """Append the sine of the latitude as a channel."""
    return torch.cat((states, sine.expand(len(states), 1, -1, grid.nlon)), dim=1)


# %%
# Training
# --------
# The loss is the mean squared error over the sphere, weighted by the area that each point
# represents. The quickstart explains :class:`~physicsnemo.utils.StaticCaptureTraining`.

batch_size = 4
area = (grid.weights() / 2 / grid.nlon).to(train).reshape(-1, 1)  # all together: 1
normalized = (train - mean) / deviation
now, later = normalized[:, :-1].flatten(0, 1), normalized[:, 1:].flatten(0, 1)
optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-4)
schedule = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=2e-2, total_steps=epochs * len(now) // batch_size, cycle_momentum=False
)


def mean_square(fields: Tensor) -> Tensor:
    """Return the mean square over the sphere."""
    return (area * fields.square()).sum(dim=(-2, -1))


@StaticCaptureTraining(model=model, optim=optimizer, use_amp=False)
def training_step(now: Tensor, later: Tensor) -> Tensor:
    """Return the loss."""
    return mean_square(model(with_latitude(now)) - later).mean()


def train_epoch() -> float:
    """Train on every sample once and return the mean loss."""
    losses = []
    for chosen in torch.randperm(len(now)).split(batch_size):
        losses.append(training_step(now[chosen], later[chosen]))
        schedule.step()
    return torch.stack(losses).mean().item()


with Progress() as progress:
    task = progress.add_task("loss", total=epochs)
    for _ in range(epochs):
        progress.update(task, advance=1, description=f"loss {train_epoch():.5f}")

# %%
# The forecast
# ------------
# From the initial state of each test trajectory, the model predicts twelve hours autoregressively,
# each step from its own prediction. There are two baselines: persistence, which predicts that
# nothing changes, and the mean state. After 20 epochs, expect an error of about 60 m in the height
# after twelve hours; the baselines have 330 m and 230 m.


@torch.no_grad()
def forecast(states: Tensor, hours: int) -> Tensor:
    """Predict the coming hours: (states, hours + 1, 3, nlat, nlon), in physical units."""
    predictions = [(states - mean) / deviation]
    for _ in range(hours):
        predictions.append(model(with_latitude(predictions[-1])))
    return torch.stack(predictions, dim=1) * deviation + mean


def errors(predictions: Tensor) -> Tensor:
    """Return the root mean square error: (hours + 1, 3)."""
    return mean_square(predictions - truth).mean(dim=0).sqrt()


LEAD = 12
truth = test[:, : LEAD + 1]
predictions = forecast(truth[:, 0], LEAD)
error = errors(predictions)
persistence, climate = errors(truth[:, :1].expand_as(truth)), errors(mean.expand_as(truth))

for index, quantity in enumerate(("height (m)", "vorticity (1e-5/s)", "divergence (1e-5/s)")):
    for hour in (1, 6, LEAD):
        ours, same, usual = (e[hour, index].item() for e in (error, persistence, climate))
        print(f"{quantity} after {hour} h: {ours:.3g}, as it is {same:.3g}, mean {usual:.3g}")
assert (error < persistence)[1:].all(), "the forecast is no better than that all stays as it is"

# %%
# Save and load
# -------------
# A single ``.mdlus`` file holds everything needed to rebuild the model.

options.output.mkdir(parents=True, exist_ok=True)
checkpoint = options.output / "shallow_water.mdlus"
model.save(checkpoint)
reloaded = Module.from_checkpoint(checkpoint, map_location=options.device)
inputs = with_latitude(now[:4])
assert torch.equal(reloaded(inputs), model(inputs)), "the predictions differ"
print(f"{checkpoint} holds an {type(reloaded).__name__} with identical predictions")

# %%
# The globe
# ---------
# The globe is seen from above 30° north: for each pixel we compute latitude and longitude, and
# interpolate the field there. Where the vorticity is red, the flow turns counterclockwise.

TILT = torch.deg2rad(torch.tensor(30.0))


def view(field: Tensor, points: int = 400) -> Tensor:
    """Return a field as seen from far away, with nan beside the globe."""
    x, y = torch.meshgrid(*[torch.linspace(-1, 1, points)] * 2, indexing="xy")
    z = (1 - x**2 - y**2).sqrt()  # nan beside the globe
    north, front = y * TILT.cos() + z * TILT.sin(), z * TILT.cos() - y * TILT.sin()
    places = torch.stack((torch.atan2(x, front), 2 * torch.acos(north) - torch.pi), dim=-1)
    centered = field.cpu().roll(grid.nlon // 2, dims=-1)
    closed = torch.cat((centered, centered[:, :1]), dim=-1)  # from longitude -180° to 180°
    seen = grid_sample(
        closed[None, None],
        places[None] / torch.pi,
        mode="bicubic",
        padding_mode="border",
        align_corners=True,
    )
    return seen[0, 0].where(z.isfinite(), torch.nan)


def draw_circle(axes: Axes, latitude: Tensor, longitude: Tensor) -> None:
    """Draw a line on the globe, given in radians, where it is visible."""
    x, front = latitude.cos() * longitude.sin(), latitude.cos() * longitude.cos()
    y = latitude.sin() * TILT.cos() - front * TILT.sin()
    behind = latitude.sin() * TILT.sin() + front * TILT.cos() < 0
    axes.plot(x, y.where(~behind, torch.nan), color="black", lw=0.3, alpha=0.5)


def draw_globe(axes: Axes, field: Tensor, title: str, limit: float) -> AxesImage:
    """Draw a field with meridians and circles of latitude, 30° apart."""
    style = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit, "origin": "lower"}
    image = axes.imshow(view(field), extent=(-1, 1, -1, 1), **style)
    turn = torch.linspace(-torch.pi, torch.pi, 361)
    for degrees in range(-60, 120, 30):
        angle = torch.deg2rad(torch.full_like(turn, degrees))
        draw_circle(axes, angle, turn)
        draw_circle(axes, turn, angle)
    axes.plot(turn.cos(), turn.sin(), color="black", lw=0.5)
    axes.set(title=title)
    axes.axis("off")
    return image


def draw_forecast(row: list[Axes], index: int, quantity: str, unit: str) -> None:
    """Draw the initial state, the last one by solver and by model, and the error."""
    states = torch.stack((truth[0, 0], truth[0, LEAD], predictions[0, LEAD])) - mean
    start, end, predicted = states[:, index]
    limit = 3.5 * deviation[index].item()
    draw_globe(row[0], start, f"{quantity} at the start", limit)
    draw_globe(row[1], end, f"solver, {LEAD} hours later", limit)
    draw_globe(row[2], predicted, f"SFNO, {LEAD} hours later", limit)
    image = draw_globe(row[3], predicted - end, "SFNO - solver", limit)
    row[0].figure.colorbar(image, ax=row, shrink=0.8, label=unit)


def draw_errors(axes: Axes, index: int, label: str) -> None:
    """Draw how the errors of the three forecasts grow."""
    axes.plot(error[:, index].cpu(), label="SFNO")
    axes.plot(persistence[:, index].cpu(), "--", color="gray", label="all stays as it is")
    axes.plot(climate[:, index].cpu(), ":", color="gray", label="mean state")
    axes.set(xlabel="hours", ylabel=label, ylim=(0, 1.25 * axes.get_ylim()[1]))
    axes.legend(ncols=3, loc="upper center", frameon=False)


figure, axes = plt.subplot_mosaic("abcd;efgh;iijj", figsize=(11, 8), layout="constrained")
draw_forecast([axes[letter] for letter in "abcd"], 0, "height", "m from the mean")
draw_forecast([axes[letter] for letter in "efgh"], 1, "vorticity", "$10^{-5}$/s")
draw_errors(axes["i"], 0, "error of height (m)")
draw_errors(axes["j"], 1, "error of vorticity ($10^{-5}$/s)")
picture = options.output / "shallow_water.png"
figure.savefig(picture)
print(f"{picture} shows one of the forecasts")
