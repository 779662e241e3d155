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
the coarse map leaves.

Both models are trained on temperatures of North America in one emissions scenario, and tested on
another. In the environment that ``nox -s dev`` makes, ``python docs/examples/downscaling.py`` runs
this page, in about five minutes on two cores.
"""

import argparse
from collections.abc import Callable
from functools import partial
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
from physicsnemo.metrics.diffusion import EDMLoss, RegressionLoss, ResidualLoss
from physicsnemo.models.diffusion import EDMPrecondSuperResolution, UNet
from physicsnemo.utils import StaticCaptureTraining
from physicsnemo.utils.diffusion import StackedRandomGenerator, deterministic_sampler
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
    "model_type": "SongUNetPosEmbd",
    "N_grid_channels": POSITIONS,
    "model_channels": 8,
    "channel_mult": [1, 2, 2],
    "num_blocks": 1,
    "attn_resolutions": [],
}
Loss = Callable[[Module, Tensor, Tensor], Tensor]


def fit(model: Module, loss: Loss, epochs: int, purpose: str) -> None:
    """Train a model on every year once in each epoch."""
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
    steps = epochs * len(target) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps)

    @StaticCaptureTraining(model=model, optim=optimizer, use_amp=False)
    def training_step(target: Tensor, condition: Tensor) -> Tensor:
        """Return the loss."""
        return loss(model, target, condition)

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
    (HEIGHT, WIDTH), img_in_channels=1 + POSITIONS, img_out_channels=1, dropout=0.3, **NETWORK
).to(options.device)
print(f"regression: {type(regression).__name__} with {regression.num_parameters():,} parameters")
fit(regression, RegressionLoss(), max(1, options.epochs // 4), "regression")

# %%
# The diffusion model
# -------------------
# The residual of the regression is modeled by a second U-Net, a denoiser. It works on patches of
# 24×24 points, as it would have to if the whole map did not fit into memory; training uses three
# patches of each map, at random positions. It is conditioned on the patches of the regression's
# prediction and of the interpolated map, and on the whole interpolated map, resized to the shape of
# a patch.

with torch.no_grad():
    spread = (target - regression(torch.zeros_like(target), condition)).std().item()
residuals = ResidualLoss(
    regression, EDMLoss(P_mean=-0.6, sigma_data=spread), mean_conditioning=True
)

denoiser = EDMPrecondSuperResolution(
    (HEIGHT, WIDTH),
    img_in_channels=3 + POSITIONS,
    img_out_channels=1,
    sigma_data=spread,
    dropout=0.1,
    **NETWORK,
).to(options.device)
print(f"diffusion: {type(denoiser).__name__} with {denoiser.num_parameters():,} parameters")
fit(denoiser, partial(residuals, patching=windows), options.epochs, "diffusion")

# %%
# The ensemble
# ------------
# A sampler turns noise into residuals, in 18 steps from the highest noise level to none. In each
# step, patches on a regular grid are denoised and fused into a map, averaging where they overlap.
# Each member has its own seeds.

grid = GridPatching2D((HEIGHT, WIDTH), (PATCH, PATCH), overlap_pix=8)


@torch.no_grad()
def predict(truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return the regression's maps, and those of an ensemble, whose first axis is the member."""
    given = conditions(truth)
    mean = residuals.mean(given, given)
    left = []
    for member in track(range(options.members), "ensemble"):
        seeds = [options.seed + len(given) * member + year for year in range(len(given))]
        latents = StackedRandomGenerator(options.device, seeds).randn(given.shape)
        left.append(
            deterministic_sampler(
                denoiser, latents, given, mean_hr=mean, patching=grid, dtype=torch.float32
            )
        )
    return to_maps(mean, truth), to_maps(mean + torch.stack(left), truth)


regressed, members = predict(test)

# %%
# The scores
# ----------
# A good ensemble is close to the truth, and its spread matches its error. The continuous ranked
# probability score (CRPS) measures both, in K: the mean distance between members and truth, minus
# half the mean distance between two members (Gneiting and Raftery 2007,
# `doi:10.1198/016214506000001437 <https://doi.org/10.1198/016214506000001437>`__). For a single map
# it is the mean absolute error. The baseline is bicubic interpolation, as it is and with its mean
# error over the training years removed. After 40 epochs, expect about 0.12 K for the ensemble,
# 0.17 K for the regression, and for interpolation 0.19 K, or 1.0 K as it is. Members should differ
# from their mean about as much as the truth does.


def rmse(maps: Tensor) -> float:
    """Return the root mean square error, in K."""
    return (maps - test).square().mean().sqrt().item()


def crps(ensemble: Tensor) -> float:
    """Return the continuous ranked probability score, in K, fair to small ensembles."""
    number = len(ensemble)
    distance = (ensemble - test).abs().mean()
    if number == 1:
        return distance.item()
    between = sum((ensemble - member).abs().mean(dim=(1, 2, 3, 4)).sum() for member in ensemble)
    return (distance - between / (2 * number * (number - 1))).item()


forecasts = {
    "bicubic": interpolated(test)[None],
    "without mean error": to_maps(torch.zeros_like(test), test)[None],
    "regression": regressed[None],
    "ensemble": members,
}
for name, ensemble in forecasts.items():
    print(f"{name:>18}: RMSE {rmse(ensemble.mean(dim=0)):.3f} K, CRPS {crps(ensemble):.3f} K")
members_differ = members.var(dim=0).mean().sqrt().item()
print(f"members differ from their mean by {members_differ:.3f} K")
assert crps(members) < crps(forecasts["bicubic"]), "the ensemble is no better than interpolation"

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
given = conditions(test)
with torch.no_grad():
    again = to_maps(regression(torch.zeros_like(given), given), test)
assert torch.equal(again, regressed), "the predictions differ"

# %%
# The maps
# --------
# For the last year, the first row shows anomalies from the mean over the training years, and the
# second row the detail that interpolation misses, apart from its mean error. There the regression
# is smooth, and members differ where the coarse map leaves the detail open. The third row shows
# their spread and the error of their mean, both over all test years.

LAST_YEAR = BRANCHING + DECADE * (len(test) - 1)
usual = train.mean(dim=0)
unsolved = to_maps(torch.zeros_like(test), test)  # of what the networks are to find
error = (members.mean(dim=0) - test).square().mean(dim=0).sqrt()
spread_of_members = members.var(dim=0).mean(dim=0).sqrt()


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


figure, axes = plt.subplots(3, 4, figsize=(14, 7.5), layout="constrained")
first = {
    "coarse map": avg_pool2d(test - usual, BOX),
    "truth": test - usual,
    "regression": regressed - usual,
    "one member": members[0] - usual,
}
second = {
    "truth": test - unsolved,
    "regression": regressed - unsolved,
    "one member": members[0] - unsolved,
    "another": members[1] - unsolved,
}
for row, maps, limit in ((axes[0], first, 4.0), (axes[1], second, 1.0)):
    for place, (title, fields) in zip(row, maps.items(), strict=True):
        draw_map(place, fields[-1], f"{title}, {LAST_YEAR}", limit)
draw_map(axes[2, 0], spread_of_members, "spread of members", 0.5, unsigned=True)
draw_map(axes[2, 1], error, "error of their mean", 0.5, unsigned=True)
draw_ranks(axes[2, 2])
draw_scores(axes[2, 3])
picture = options.output / "downscaling.png"
figure.savefig(picture)
print(f"{picture} shows one of the years")
