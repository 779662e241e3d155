# SPDX-License-Identifier: Apache-2.0
r"""
Patterns of a chemical reaction
===============================

In a gel that is fed with a chemical U, a few drops of another chemical, V, convert U into more V.
The drops grow into shells, the shells collide and break up, and spots and worms fill the gel. Given
the first frame of such a film, can a network predict the next eight?

A numerical solver of the Gray-Scott equations
(`Pearson 1993 <https://arxiv.org/abs/patt-sol/9304003>`__) generates the films, in three
dimensions, and a recurrent network, One2ManyRNN, learns from them. In the environment that
``nox -s dev`` makes, ``python docs/examples/gray_scott.py`` runs this page, in three minutes on a
CPU. On a GPU, use ``--size full --device cuda`` for a gel of twice the length, more films, and more
channels.
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
from torch.fft import fftfreq, irfftn, rfftn
from torch.nn.functional import grid_sample

from physicsnemo.models.rnn import One2ManyRNN
from physicsnemo.utils import StaticCaptureEvaluateNoGrad, StaticCaptureTraining


@dataclass
class Size:
    """How much to compute."""

    points: int  # along each axis
    drops: int
    films: int
    channels: int
    blocks: int
    epochs: int


SIZES = {
    "small": Size(points=32, drops=3, films=32, channels=8, blocks=1, epochs=12),
    "full": Size(points=64, drops=12, films=256, channels=64, blocks=2, epochs=40),
}

parser = argparse.ArgumentParser(description="Learn how patterns of a reaction grow.")
parser.add_argument("--size", choices=SIZES, default="small")
parser.add_argument("--epochs", type=int, help="passes through the training set")
parser.add_argument("--seed", type=int, default=0, help="of films, weights and order of samples")
parser.add_argument("--output", type=Path, default=Path("outputs/gray_scott"), help="folder")
parser.add_argument("--device", default="cpu", help="such as cpu or cuda")
options = parser.parse_args()
size = SIZES[options.size]
epochs = options.epochs or size.epochs
torch.manual_seed(options.seed)

# %%
# The solver
# ----------
# The concentrations :math:`u` and :math:`v` change by reaction, diffusion, feed and removal:
#
# .. math::
#    \partial_t u &= 2 \cdot 10^{-5} \, \nabla^2 u - u v^2 + F (1 - u) \\
#    \partial_t v &= 10^{-5} \, \nabla^2 v + u v^2 - (F + k) v
#
# In a periodic box, diffusion alone has an exact solution: each Fourier mode decays at its own
# rate. So we use Strang splitting: react for half a step, diffuse for a step, and react for another
# half. The method is of second order: halving the step divides the error by four.

XYZ = (-3, -2, -1)
FEED, KILL, SPACING = 0.025, 0.06, 0.015
DIFFUSION = torch.tensor([2e-5, 1e-5], device=options.device).reshape(2, 1, 1, 1)
numbers = 2 * torch.pi * fftfreq(size.points, SPACING, device=options.device)
waves = torch.meshgrid(numbers, numbers, numbers[: size.points // 2 + 1], indexing="ij")
waves_squared = torch.stack(waves).square().sum(dim=0)


def rates(state: Tensor, feed: float = FEED, kill: float = KILL) -> Tensor:
    """Return the rates of change without diffusion."""
    u, v = state
    reaction = u * v**2
    return torch.stack((feed * (1 - u) - reaction, reaction - (feed + kill) * v))


def react(state: Tensor, feed: float, kill: float, step: float) -> Tensor:
    """Advance without diffusion, by the midpoint rule."""
    middle = state + step / 2 * rates(state, feed, kill)
    return state + step * rates(middle, feed, kill)


def advance(
    state: Tensor, time: float, feed: float = FEED, kill: float = KILL, step: float = 1.0
) -> Tensor:
    """Return the state after some time."""
    fading = torch.exp(-DIFFUSION * waves_squared * step)
    for _ in range(round(time / step)):
        state = react(state, feed, kill, step / 2)
        state = irfftn(rfftn(state, dim=XYZ) * fading, s=state.shape[1:], dim=XYZ)
        state = react(state, feed, kill, step / 2)
    return state


# %%
# The films
# ---------
# A box of U alone is in equilibrium. We place round drops of V at random positions away from the
# walls, and stop before the pattern reaches the walls.

FRAMES, INTERVAL, MARGIN = 8, 40, 0.18
axis = torch.arange(size.points, device=options.device) * SPACING
places = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))


def drops() -> Tensor:
    """Return a state with drops of V that take the place of half of the U: (2, *points)."""
    room = SPACING * size.points - 2 * MARGIN
    centers = MARGIN + room * torch.rand(size.drops, 3, 1, 1, 1)
    radii = 0.05 + 0.03 * torch.rand(size.drops, 1, 1, 1)
    depths = radii.to(places) - (places - centers.to(places)).norm(dim=1)
    inside = torch.sigmoid(depths / 0.006).amax(dim=0)
    return torch.stack((1 - inside / 2, inside / 4))


def film() -> Tensor:
    """Return the first frame and those to predict: (2, frames + 1, *points)."""
    frames = [advance(drops(), 60)]
    for _ in range(FRAMES):
        frames.append(advance(frames[-1], INTERVAL))
    return torch.stack(frames, dim=1)


train = torch.stack([film() for _ in track(range(size.films), "films to learn from")])
test = torch.stack([film() for _ in track(range(4), "films to test with")])

# %%
# Checks of the solver
# --------------------
# The reaction produces as much V as it consumes U, so the sum of both changes only by feed and
# removal. Drops survive, but decay if V is removed faster. And where both chemicals can be evenly
# mixed, small waves may grow: `Turing (1952) <https://doi.org/10.1098/rstb.1952.0012>`__ predicted
# which, and how fast.

start = test[0, :, 0]
long, middle, short = (advance(start, INTERVAL, step=step) for step in (2.0, 1.0, 0.5))
order = ((long - middle).norm() / (middle - short).norm()).log2().item()
print(f"half the step divides the error by two to the power of {order:.2f}")
assert abs(order - 2) < 0.2, "the solver is not of second order"

states = torch.stack((start, advance(start, 1.0))).double()
before, after = states.sum(dim=1).mean(dim=XYZ)
flow = sum(rates(state).sum(dim=0).mean() / 2 for state in states)
print(f"in a step, the sum of both grows by {after - before:.4e}, by flow {flow:.4e}")
assert abs((after - before) / flow - 1) < 1e-3, "chemicals come from nowhere"

faded = advance(drops(), 400, kill=0.075)[1].max().item()
print(f"largest v in a film {test[0, 1, -1].max().item():.2f}, with more outflow {faded:.0e}")
assert test[:, 1, -1].amax(dim=XYZ).min() > 0.2 > 1e-6 > faded, "drops should have lived, or faded"

feed, kill, wave_number = 0.04, 0.0595, 2 * torch.pi / 0.24
v = feed / (2 * (feed + kill)) * (1 + (1 - 4 * (feed + kill) ** 2 / feed) ** 0.5)
mixed = torch.tensor([(feed + kill) / v, v], device=options.device)
jacobian = torch.func.jacrev(rates)(mixed, feed, kill)
fading = 3 * wave_number**2 * DIFFUSION.flatten().diag()
turing = torch.linalg.eigvals((jacobian - fading).cpu()).real.max().item()
wave = mixed.reshape(2, 1, 1, 1) + 1e-4 * (wave_number * places.sum(dim=0)).cos()
early = advance(wave, 100, feed, kill)
growth = (advance(early, 100, feed, kill)[0].std() / early[0].std()).log().item() / 100
print(f"a wave grows at a rate of {growth:.5f}, by Turing {turing:.5f}")
assert abs(growth / turing - 1) < 0.02, "a wave does not grow as it should"

# %%
# The model
# ---------
# We normalize the concentrations: we subtract those of a gel without V, and divide by the root mean
# square of the rest. Zero padding then continues the gel beyond the box.

empty = torch.tensor([1.0, 0.0], device=options.device).reshape(2, 1, 1, 1, 1)
scale = (train - empty).square().mean(dim=(0, 2, 3, 4, 5), keepdim=True)[0].sqrt()
model = One2ManyRNN(
    input_channels=2,
    dimension=3,
    nr_latent_channels=size.channels,
    nr_residual_blocks=size.blocks,
    nr_downsamples=2,
    nr_tsteps=FRAMES,
).to(options.device, memory_format=torch.channels_last_3d)
print(f"{type(model).__name__} with {model.num_parameters():,} parameters")

# %%
# Training
# --------
# The quickstart explains :class:`~physicsnemo.utils.StaticCaptureTraining`. Rotating or reflecting
# the box gives another valid film: by the symmetries of the cube, each stands for 48.

batch_size = 2
normalized = (train - empty) / scale
optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-4)
schedule = torch.optim.lr_scheduler.OneCycleLR(
    optimizer,
    max_lr=3e-3,
    total_steps=epochs * size.films // batch_size,
    pct_start=0.2,
    cycle_momentum=False,
)


@StaticCaptureTraining(model=model, optim=optimizer, use_amp=False, gradient_clip_norm=1.0)
def training_step(films: Tensor) -> Tensor:
    """Return the loss."""
    return (model(films[:, :, :1]) - films[:, :, 1:]).square().mean()


def random_symmetry(films: Tensor) -> Tensor:
    """Permute and reflect the axes at random."""
    mirrored = [axis for axis in XYZ if torch.rand(()) < 0.5]
    return films.permute(0, 1, 2, *(torch.randperm(3) + 3)).flip(mirrored).contiguous()


def train_epoch() -> float:
    """Train on every film once and return the mean loss."""
    losses = []
    for chosen in torch.randperm(size.films).split(batch_size):
        losses.append(training_step(random_symmetry(normalized[chosen])))
        schedule.step()
    return torch.stack(losses).mean().item()


with Progress() as progress:
    task = progress.add_task("loss", total=epochs)
    for _ in range(epochs):
        progress.update(task, advance=1, description=f"loss {train_epoch():.4f}")

# %%
# The forecast
# ------------
# The baseline is persistence, which predicts that nothing changes: the relative L2 error of
# :math:`v` is then 0.43 in the next frame, and 1.1 in the eighth. After 12 epochs, expect 0.16 and
# 0.23 from the network.


@StaticCaptureEvaluateNoGrad(model=model, use_amp=False)
def forecast(first: Tensor) -> Tensor:
    """Predict the frames after the first: (films, 2, frames, *points)."""
    return model((first - empty) / scale) * scale + empty


def errors(predictions: Tensor) -> Tensor:
    """Return the relative L2 error of v in each frame."""
    wrong, norm = (fields[:, 1].flatten(2).norm(dim=2) for fields in (predictions - truth, truth))
    return (wrong / norm).mean(dim=0).cpu()


first, truth = test[:, :, :1], test[:, :, 1:]
predictions = torch.cat([forecast(film) for film in first.split(1)])
error, persistence = errors(predictions), errors(first.expand_as(truth))
for frame, (ours, same) in enumerate(zip(error, persistence, strict=True), start=1):
    print(f"frame {frame}: relative error {ours:.3f}, if all stays as it is {same:.3f}")
assert error[-1] < persistence[-1], "the forecast is no better than that all stays as it is"

# %%
# The figure
# ----------
# It shows the isosurface :math:`v = 0.15`, lit from the upper left and cut open in the middle. For
# each pixel, we follow a ray to the first point inside the surface. Below are errors of the
# concentration :math:`v`, which has no unit, in a slice through the middle; time is counted in
# frames, 40 units of time apart.

RAYS = torch.linspace(-1.1, 1.1, 200)
TURN = torch.linalg.qr(torch.tensor([[1.0, 0.3, -0.5], [-0.4, 1.0, -0.5], [0.5, 0.6, 1.0]])).Q


def surface(v: Tensor) -> Tensor:
    """Return the brightness of the isosurface at each pixel, NaN beside it."""
    rays = torch.stack(torch.meshgrid(RAYS[100:], RAYS, RAYS, indexing="ij"), dim=-1) @ TURN
    seen = grid_sample(v[None, None], rays[None], align_corners=True)[0, 0]
    hit, depth = (seen > 0.15).max(dim=0)
    slopes = [slope.take_along_dim(depth[None], dim=0)[0] for slope in torch.gradient(seen)]
    facing, down, right = -torch.stack(slopes) / torch.stack(slopes).norm(dim=0)
    bright = -0.6 * facing - 0.5 * down - 0.6 * right
    return bright.where(depth > 0, 1.0).where(hit, torch.nan)


def draw(axes: Axes, image: Tensor, title: str, **style: object) -> AxesImage:
    """Draw an image without axes."""
    drawn = axes.imshow(image, **style)
    axes.set(title=title)
    axes.axis("off")
    return drawn


figure, axes = plt.subplot_mosaic("abcde;pfghi;pjklm", figsize=(11, 6.8), layout="constrained")
style = {"cmap": "copper", "vmin": -0.3, "vmax": 1}
draw(axes["a"], surface(first[0, 1, 0].cpu()), "first frame", **style)
for frame, letters in zip((2, 4, 6, 8), ("bfj", "cgk", "dhl", "eim"), strict=True):
    solved, predicted = (fields[0, 1, frame - 1].cpu() for fields in (truth, predictions))
    draw(axes[letters[0]], surface(solved), f"solver, frame {frame}", **style)
    draw(axes[letters[1]], surface(predicted), f"network, frame {frame}", **style)
    wrong = (predicted - solved)[size.points // 2]
    errors_drawn = draw(
        axes[letters[2]], wrong, "error in a slice", cmap="RdBu_r", vmin=-0.4, vmax=0.4
    )
figure.colorbar(errors_drawn, ax=[axes[letter] for letter in "jklm"], label="error of v")
axes["p"].plot(range(1, FRAMES + 1), error, ".-", label="One2ManyRNN")
axes["p"].plot(range(1, FRAMES + 1), persistence, ".--", color="gray", label="all stays as it is")
axes["p"].set(title="relative error of v", xlabel="frame", ylim=(0, None))
axes["p"].legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False)
options.output.mkdir(parents=True, exist_ok=True)
picture = options.output / "gray_scott.png"
figure.savefig(picture)
print(f"{picture} shows one of the forecasts")
