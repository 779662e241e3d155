# SPDX-License-Identifier: Apache-2.0
r"""
Downscaling a climate
=====================

A climate model on a coarse grid predicts mean temperatures in boxes a thousand kilometers wide.
What does that say about the places within? Interpolation blurs coasts and mountains. A regression
adds their typical effect. But many fine maps have the same coarse map, and the regression returns
their mean, which is smoother than any of them. CorrDiff (`Mardani et al. 2023
<https://arxiv.org/abs/2309.15214>`__) samples the residual of the regression from a diffusion
model: an ensemble of maps, each as detailed as the truth, whose spread shows the uncertainty that
the coarse map leaves. And where a few stations measure, the same model draws maps that agree with
them.

Both models are trained on temperatures of North America in one emissions scenario, and tested on
another. In the environment that ``nox -s dev`` makes, ``python docs/examples/downscaling.py`` runs
this page, in about five minutes on two cores.
"""

import argparse
from collections.abc import Callable
from importlib.metadata import files
from pathlib import Path

import h5py
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from rich.progress import Progress, track
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from physicsnemo import Module
from physicsnemo.diffusion import EDM, DenoisingLoss, Diffusion, Observed, Patches, sample
from physicsnemo.metrics.diffusion import RegressionLoss
from physicsnemo.models.diffusion import SongUNet, UNet
from physicsnemo.utils import StaticCaptureTraining
from physicsnemo.utils.diffusion import StackedRandomGenerator
from physicsnemo.utils.patching import GridPatching2D, RandomPatching2D

parser = argparse.ArgumentParser(description="Draw fine maps of temperature, given a coarse one.")
parser.add_argument("--epochs", type=int, default=40, help="passes through the training set")
parser.add_argument("--members", type=int, default=16, help="of the ensemble, at least two")
parser.add_argument("--seed", type=int, default=0, help="of weights, order of samples and noise")
parser.add_argument("--output", type=Path, default=Path("outputs/downscaling"), help="folder")
parser.add_argument("--device", default="cpu", help="such as cpu or cuda")
options = parser.parse_args()
torch.manual_seed(options.seed)
generator = torch.Generator().manual_seed(options.seed)

# %%
# The data
# --------
# The wheel of iris-sample-data contains two runs of a Met Office climate model, as annual mean air
# temperatures from 1860 to 2099: scenario A1B, with growing emissions, and scenario E1, with early
# cuts. Until 1999 both are the same historical run. We train on all years of A1B and test on one
# year per decade of E1 from 2000 on. Of the 37×49 grid points, 1.25° by 1.875° apart, we keep
# 36×48.

FIRST_YEAR, BRANCHING, DECADE = 1860, 2000, 10
HEIGHT, WIDTH = 36, 48


def temperatures(scenario: str) -> Tensor:
    """Return a scenario's maps, in K, from south to north: (years, 1, HEIGHT, WIDTH)."""
    name = f"{scenario}_north_america.nc"
    [path] = (file.locate() for file in files("iris-sample-data") if file.name == name)
    with h5py.File(path) as dataset:
        maps = torch.from_numpy(dataset["air_temperature"][:, :HEIGHT, :WIDTH])
    return maps.unsqueeze(1).to(options.device)


train = temperatures("A1B")
test = temperatures("E1")[BRANCHING - FIRST_YEAR :: DECADE]
print(f"{len(train)} years to learn from, {len(test)} to test with")

# %%
# The coarse maps are means over boxes of 6×6 points. The inputs of the networks are coarse maps,
# interpolated bicubically to the fine grid. Their target is the missing detail: the true map minus
# the interpolated one. Most of it is the same every year, due to mountains and coasts, so we
# normalize it by its mean and standard deviation over the years, point by point.

BOX = 6


def interpolated(maps: Tensor) -> Tensor:
    """Return maps averaged over boxes and interpolated to the fine grid."""
    return interpolate(avg_pool2d(maps, BOX), scale_factor=BOX, mode="bicubic")


smooth = interpolated(train)
detail = train - smooth
usual_smooth, usual_detail = smooth.mean(dim=0), detail.mean(dim=0)
scale_smooth, scale_detail = (smooth - usual_smooth).std(), detail.std(dim=0)


def conditions(maps: Tensor) -> Tensor:
    """Return the inputs of the networks: normalized interpolated maps."""
    return (interpolated(maps) - usual_smooth) / scale_smooth


def to_maps(details: Tensor, truth: Tensor) -> Tensor:
    """Return the maps of normalized details, where the coarse maps are those of the truth."""
    return interpolated(truth) + usual_detail + scale_detail * details


condition = conditions(train)
target = (detail - usual_detail) / scale_detail

# %%
# The regression
# --------------
# A U-Net predicts the detail of a whole map; its loss is the mean squared error. A sinusoidal
# positional embedding, appended to the input channels, encodes the position of each point. As there
# are only 240 training years, strong dropout and few epochs prevent overfitting. The quickstart
# explains :class:`~physicsnemo.utils.StaticCaptureTraining`.

BATCH, POSITIONS = 8, 4
NETWORK = {
    "model_channels": 8,
    "channel_mult": [1, 2, 2],
    "num_blocks": 1,
    "attn_resolutions": [],
}
Loss = Callable[[Tensor, Tensor], Tensor]


def fit(
    model: Module, loss: Loss, target: Tensor, condition: Tensor, epochs: int, purpose: str
) -> None:
    """Train a model on every year once in each epoch."""
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
    steps = epochs * len(target) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=5e-3, total_steps=steps, cycle_momentum=False
    )

    @StaticCaptureTraining(model=model, optim=optimizer, use_amp=False)
    def training_step(target: Tensor, condition: Tensor) -> Tensor:
        """Return the loss."""
        return loss(target, condition)

    with Progress() as progress:
        task = progress.add_task(purpose, total=epochs)
        for _ in range(epochs):
            losses = []
            for chosen in torch.randperm(len(target)).split(BATCH):
                windows.reset_patch_indices()
                losses.append(training_step(target[chosen], condition[chosen]))
                schedule.step()
            mean_loss = torch.stack(losses).mean().item()
            progress.update(task, advance=1, description=f"{purpose}, loss {mean_loss:.3f}")
    model.eval()


PATCH = 24
windows = RandomPatching2D((HEIGHT, WIDTH), (PATCH, PATCH), patch_num=3, generator=generator)

regression = UNet(
    (HEIGHT, WIDTH),
    img_in_channels=1 + POSITIONS,
    img_out_channels=1,
    model_type="SongUNetPosEmbd",
    N_grid_channels=POSITIONS,
    dropout=0.3,
    **NETWORK,
).to(options.device)
print(f"regression: {type(regression).__name__} with {regression.num_parameters():,} parameters")
squared_error = RegressionLoss()
fit(
    regression,
    lambda target, condition: squared_error(regression, target, condition),
    target,
    condition,
    max(1, options.epochs // 4),
    "regression",
)

# %%
# The diffusion model
# -------------------
# What the regression leaves is modeled by a :class:`~physicsnemo.diffusion.Diffusion`: a second
# U-Net and a schedule of noise. It works on patches of 24×24 points, as it would have to if the
# whole map did not fit into memory; training uses three patches of each map, at random positions.
# It is conditioned on the patches of the regression's prediction and of the interpolated map, and
# on the position of each point.


@torch.no_grad()
def regress(condition: Tensor) -> Tensor:
    """Return the regression's normalized details."""
    return regression(torch.zeros_like(condition), condition)


left = target - regress(condition)
spread = left.std().item()
network = SongUNet(
    PATCH, in_channels=1 + 2 + 2, out_channels=1, dropout=0.1, **NETWORK
)  # the noisy field, the condition's two, and row and column
denoiser = Diffusion(network, EDM(P_mean=-0.6), sigma_data=spread).to(options.device)
print(f"diffusion: {type(denoiser).__name__} with {denoiser.num_parameters():,} parameters")
denoising = DenoisingLoss(denoiser)
patches = Patches(windows, positions=True)
fit(
    denoiser,
    lambda left, condition: denoising(left, condition, patches=patches),
    left,
    torch.cat((regress(condition), condition), dim=1),
    options.epochs,
    "diffusion",
)

# %%
# The ensemble
# ------------
# :func:`~physicsnemo.diffusion.sample` turns noise into residuals, in 18 steps from the highest
# noise level to none. In each step, patches on a regular grid are denoised and fused into a map,
# averaging where they overlap. Each member has its own seeds.

grid = Patches(GridPatching2D((HEIGHT, WIDTH), (PATCH, PATCH), overlap_pix=8), positions=True)
given = conditions(test)
mean = regress(given)


def draw(purpose: str, guidance: Observed | tuple[()] = ()) -> Tensor:
    """Return an ensemble of maps for all test years: (members, years, 1, HEIGHT, WIDTH)."""
    members = []
    for member in track(range(options.members), purpose):
        seeds = [options.seed + len(test) * member + year for year in range(len(test))]
        with torch.no_grad():
            residual = sample(
                denoiser,
                mean.shape,
                torch.cat((mean, given), dim=1),
                patches=grid,
                guidance=guidance,
                generator=StackedRandomGenerator(options.device, seeds),
            )
        members.append(to_maps(mean + residual, test))
    return torch.stack(members)


regressed = to_maps(mean, test)
members = draw("ensemble")

# %%
# Stations
# --------
# Suppose that one point in thirty has a station, which measures to 0.1 K. The model, trained
# without any, draws maps given their measurements too: in each step, the estimated map is compared
# with them, and the sample moves down the gradient of the misfit
# (:class:`~physicsnemo.diffusion.Observed`). How far the estimate itself may be off at each noise
# level, ``gamma``, is that of normal data with the standard deviation of the residual (`Rozet and
# Louppe 2023 <https://arxiv.org/abs/2306.10574>`__).

NOISE = 0.1  # K
stations = torch.rand(HEIGHT, WIDTH, generator=generator).to(options.device) < 1 / 30
measured = test[..., stations]
measured = measured + NOISE * torch.randn(measured.shape, generator=generator).to(measured)


def error_of_estimate(level: float) -> Tensor:
    """Return the variance of the estimate's error at the stations, over that of the noise."""
    return scale_detail[..., stations].square() * spread**2 / (spread**2 + level**2)


observed = Observed(
    measured,
    std=NOISE,
    operator=lambda residual: to_maps(mean + residual, test)[..., stations],
    gamma=error_of_estimate,
)
guided = draw("ensemble with stations", observed)

# %%
# The scores
# ----------
# A good ensemble is close to the truth, and its spread matches its error. The continuous ranked
# probability score (CRPS) measures both, in K: the mean distance between members and truth, minus
# half the mean distance between two members (Gneiting and Raftery 2007,
# `doi:10.1198/016214506000001437 <https://doi.org/10.1198/016214506000001437>`__). For a single map
# it is the mean absolute error. The baseline is bicubic interpolation, as it is and with its mean
# error over the training years removed. All scores are of points without stations. After 40
# epochs, expect about 0.12 K for the ensemble and 0.11 K with stations, 0.17 K for the regression,
# and for interpolation 0.19 K, or 1.0 K as it is. Members should differ from their mean about as
# much as the truth does: by 0.25 K, or 0.24 K with stations, and from the measurements by 0.36 K,
# or 0.12 K, about the error of these.

elsewhere = ~stations


def rmse(maps: Tensor) -> float:
    """Return the root mean square error, in K."""
    return (maps - test)[..., elsewhere].square().mean().sqrt().item()


def crps(ensemble: Tensor) -> float:
    """Return the continuous ranked probability score, in K, fair to small ensembles."""
    number, maps = len(ensemble), ensemble[..., elsewhere]
    distance = (maps - test[..., elsewhere]).abs().mean()
    if number == 1:
        return distance.item()
    between = sum((maps - member).abs().flatten(1).mean(dim=1).sum() for member in maps)
    return (distance - between / (2 * number * (number - 1))).item()


def spread_of(ensemble: Tensor) -> float:
    """Return the standard deviation of members about their mean, in K."""
    return ensemble[..., elsewhere].var(dim=0).mean().sqrt().item()


def misfit(ensemble: Tensor) -> float:
    """Return the root mean square difference from the measurements, in K."""
    return (ensemble[..., stations] - measured).square().mean().sqrt().item()


forecasts = {
    "bicubic": interpolated(test)[None],
    "without mean error": to_maps(torch.zeros_like(test), test)[None],
    "regression": regressed[None],
    "ensemble": members,
    "with stations": guided,
}
for name, ensemble in forecasts.items():
    print(f"{name:>18}: RMSE {rmse(ensemble.mean(dim=0)):.3f} K, CRPS {crps(ensemble):.3f} K")
for name in ("ensemble", "with stations"):
    ensemble = forecasts[name]
    print(f"{name:>18}: members differ from their mean by {spread_of(ensemble):.3f} K,")
    print(f"{'':>18}  and from the measurements by {misfit(ensemble):.3f} K")
assert crps(members) < crps(forecasts["bicubic"]), "the ensemble is no better than interpolation"
assert misfit(guided) < misfit(members), "samples do not follow the measurements"

# %%
# Save and load
# -------------
# Each network is saved to a ``.mdlus`` file, which holds everything needed to rebuild it.

options.output.mkdir(parents=True, exist_ok=True)
for name, model in {"regression": regression, "diffusion": denoiser}.items():
    model.save(options.output / f"{name}.mdlus")
    print(f"{options.output / name}.mdlus holds an {type(model).__name__}")
regression = Module.from_checkpoint(
    options.output / "regression.mdlus", map_location=options.device
)
regression.eval()
assert torch.equal(to_maps(regress(given), test), regressed), "the predictions differ"

# %%
# The maps
# --------
# For the last year, the first row shows anomalies from the mean over the training years, and the
# second row the detail that interpolation misses, apart from its mean error. There the regression
# is smooth, and members differ where the coarse map leaves the detail open. The third row shows
# their spread and the error of their mean, both over all test years, and the spread that stations
# leave.

LAST_YEAR = BRANCHING + DECADE * (len(test) - 1)
usual = train.mean(dim=0)
unsolved = to_maps(torch.zeros_like(test), test)  # of what the networks are to find
error = (members.mean(dim=0) - test).square().mean(dim=0).sqrt()
spreads = [ensemble.var(dim=0).mean(dim=0).sqrt() for ensemble in (members, guided)]


def draw_map(axes: Axes, field: Tensor, title: str, limit: float, unsigned: bool = False) -> None:
    """Draw a field of shape (1, height, width)."""
    style = {"cmap": "viridis", "vmin": 0} if unsigned else {"cmap": "RdBu_r", "vmin": -limit}
    image = axes.imshow(field[0].cpu(), origin="lower", aspect="auto", vmax=limit, **style)
    axes.set(title=title, xticks=[], yticks=[])
    axes.figure.colorbar(image, ax=axes, shrink=0.6, label="K")


def draw_ranks(axes: Axes) -> None:
    """Draw the rank histogram of the truth among the members; flat for a calibrated ensemble."""
    ranks = (members < test).sum(dim=0).flatten()
    counts = torch.bincount(ranks, minlength=options.members + 1) / len(ranks)
    axes.bar(range(options.members + 1), counts.cpu())
    axes.axhline(1 / (options.members + 1), color="black", lw=0.8)
    axes.set(title="rank of the truth", xlabel="members below the truth", yticks=[])


def draw_scores(axes: Axes) -> None:
    """Draw the score of each forecast."""
    scores = {name: crps(ensemble) for name, ensemble in forecasts.items()}
    axes.barh(range(len(scores)), list(scores.values()), color="lightsteelblue")
    for place, (name, score) in enumerate(scores.items()):
        axes.text(0.02, place, f"{name}: {score:.2f} K", va="center")
    axes.invert_yaxis()
    axes.set(title="score (CRPS)", xticks=[], yticks=[])


figure, axes = plt.subplots(3, 5, figsize=(17, 7.5), layout="constrained")
first = {
    "coarse map": avg_pool2d(test - usual, BOX),
    "truth": test - usual,
    "regression": regressed - usual,
    "one member": members[0] - usual,
    "one with stations": guided[0] - usual,
}
second = {
    "truth": test - unsolved,
    "regression": regressed - unsolved,
    "one member": members[0] - unsolved,
    "another": members[1] - unsolved,
    "one with stations": guided[0] - unsolved,
}
for row, maps, limit in ((axes[0], first, 4.0), (axes[1], second, 1.0)):
    for place, (title, fields) in zip(row, maps.items(), strict=True):
        draw_map(place, fields[-1], f"{title}, {LAST_YEAR}", limit)
for place, what in zip(axes[:, 0], ("anomaly", "missing detail", "all test years"), strict=True):
    place.set_ylabel(what)
draw_map(axes[2, 0], spreads[0], "spread of members", 0.5, unsigned=True)
draw_map(axes[2, 1], error, "error of their mean", 0.5, unsigned=True)
draw_map(axes[2, 2], spreads[1], "spread with stations", 0.5, unsigned=True)
rows, columns = stations.nonzero(as_tuple=True)
axes[2, 2].plot(columns.cpu(), rows.cpu(), "w.", ms=3)
draw_ranks(axes[2, 3])
draw_scores(axes[2, 4])
picture = options.output / "downscaling.png"
figure.savefig(picture)
print(f"{picture} shows one of the years")
