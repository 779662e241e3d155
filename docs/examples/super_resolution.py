# SPDX-License-Identifier: Apache-2.0
r"""
Super-resolution of decaying vortices
=====================================

Stir a box of fluid once, and let it be: large vortices wind up smaller ones, which viscosity turns
into heat. Measurements and cheap simulations see the large ones alone. Can they tell of the others?

Here a solver of the Navier-Stokes equations makes the data: decaying Taylor-Green vortices, on a
fine grid. A convolutional network, SRResNet (`Ledig et al. 2017
<https://arxiv.org/abs/1609.04802>`__), learns to find what is missing on a grid twice as coarse. In
the environment that ``nox -s dev`` makes, ``python docs/examples/super_resolution.py`` runs this
page, in three minutes on a CPU. For a GPU, ``--size full --device cuda`` takes six times the
Reynolds number, 128×128×128 points, and a grid four times as coarse.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from rich.progress import Progress, track
from torch import Tensor
from torch.fft import fftfreq, irfftn, rfftn
from torch.linalg import cross
from torch.nn.functional import interpolate, pad

from physicsnemo.models.srrn import SRResNet
from physicsnemo.utils import StaticCaptureEvaluateNoGrad, StaticCaptureTraining


@dataclass
class Size:
    """How much to compute."""

    points: int  # along each axis of the fine grid
    factor: int  # between the grids
    reynolds: int
    solver_steps: int  # in a unit of time
    flows: int
    channels: int
    blocks: int
    epochs: int


SIZES = {
    "small": Size(32, 2, reynolds=100, solver_steps=10, flows=24, channels=16, blocks=2, epochs=12),
    "full": Size(128, 4, reynolds=600, solver_steps=40, flows=48, channels=64, blocks=8, epochs=40),
}

parser = argparse.ArgumentParser(description="Learn to find the small vortices of a flow.")
parser.add_argument("--size", choices=SIZES, default="small")
parser.add_argument("--epochs", type=int, help="passes through the training set")
parser.add_argument("--seed", type=int, default=0, help="of flows, weights and order of samples")
parser.add_argument("--output", type=Path, default=Path("outputs/super_resolution"), help="folder")
parser.add_argument("--device", default="cpu", help="such as cpu or cuda")
options = parser.parse_args()
size = SIZES[options.size]
epochs = options.epochs or size.epochs
torch.manual_seed(options.seed)

# %%
# The solver
# ----------
# In a periodic box, a velocity :math:`u` is a sum of waves. If it has no divergence, it changes by
#
# .. math:: \partial_t u = P \, (u \times (\nabla \times u)) + \nu \, \nabla^2 u ,
#
# where :math:`P` takes away from each wave what points along it, as pressure does. We take
# derivatives of the waves and products on the grid, and leave out the shortest third of the waves,
# so that products are exact for the others.

XYZ = (-3, -2, -1)
viscosity, step = 1 / size.reynolds, 1 / size.solver_steps
numbers = fftfreq(size.points, 1 / size.points, device=options.device)
half = numbers[: size.points // 2 + 1].abs()  # the other half are complex conjugates
k = torch.stack(torch.meshgrid(numbers, numbers, half, indexing="ij"))
k_squared = k.square().sum(dim=0)


def long_waves(points: int) -> Tensor:
    """Tell which waves we keep on a grid."""
    return (k.abs() < points / 3).all(dim=0)


def to_waves(fields: Tensor) -> Tensor:
    """Return the amplitudes of waves, zero for those that we leave out."""
    return rfftn(fields, dim=XYZ, norm="forward") * long_waves(size.points)


def to_grid(waves: Tensor) -> Tensor:
    """Return fields from the amplitudes of their waves."""
    return irfftn(waves, s=3 * [waves.shape[-2]], dim=XYZ, norm="forward")


def curl(waves: Tensor) -> Tensor:
    """Return the vorticity of a velocity."""
    return cross((1j * k).expand_as(waves), waves, dim=-4)


def across(waves: Tensor) -> Tensor:
    """Take away from each wave what points along it."""
    return waves - k * (k * waves).sum(dim=-4, keepdim=True) / k_squared.clamp(min=1)


def change(waves: Tensor) -> Tensor:
    """Return the derivative of a velocity in time."""
    product = cross(to_grid(waves), to_grid(curl(waves)), dim=-4)
    return across(to_waves(product)) - viscosity * k_squared * waves


def advance(waves: Tensor) -> Tensor:
    """Take one step by the classical Runge-Kutta method."""
    first = change(waves)
    second = change(waves + step / 2 * first)
    third = change(waves + step / 2 * second)
    fourth = change(waves + step * third)
    return waves + step / 6 * (first + 2 * second + 2 * third + fourth)


def power(waves: Tensor) -> Tensor:
    """Return what each wave, with its conjugate, adds to the mean square of a vector."""
    return (1 + (half > 0).float()) * waves.abs().square().sum(dim=-4)


# %%
# Is it right? Taylor and Green found by hand how the mean square of the vorticity in their vortex
# changes, as a series in time. Ours should agree. It should lose energy by viscosity alone, which
# is :math:`\nu` times that mean square, and no divergence should arise.

axis = torch.arange(size.points, device=options.device) * 2 * torch.pi / size.points


def taylor_green(angle: Tensor, place: Tensor) -> Tensor:
    """Return a vortex; the angle shares its velocity among the axes."""
    x, y, z = torch.meshgrid(*(axis + start for start in place), indexing="ij")
    shares = (4 / 3) ** 0.5 * (angle + 2 * torch.pi / 3 * torch.tensor([1, -1, 0])).sin()
    swirls = (x.sin() * y.cos() * z.cos(), x.cos() * y.sin() * z.cos(), x.cos() * y.cos() * z.sin())
    return to_waves(torch.stack(swirls) * shares.to(k).reshape(3, 1, 1, 1))


def series(nu: float) -> float:
    """Return the mean square at time 1 (Taylor & Green 1937, doi:10.1098/rspa.1937.0036)."""
    even = 1 + 5 / 48 + 18 * nu**2 + 50 / 6336 + 1835 / 144 * nu**2 + 54 * nu**4
    odd = 6 + 5 / 3 + 36 * nu**2 + 361 / 1408 + 761 / 12 * nu**2 + 324 / 5 * nu**4
    return 3 / 4 * (even - nu * odd)


waves = taylor_green(torch.zeros(()), torch.zeros(3))
for _ in range(size.solver_steps):
    before, waves = waves, advance(waves)
square = power(curl(waves)).sum().item()
loss = (power(before) - power(advance(waves))).sum().item() / 2 / (2 * step)
print(f"mean square of the vorticity {square:.5f}, by Taylor and Green {series(viscosity):.5f}")
print(f"loss of energy {loss:.6f}, by viscosity {viscosity * square:.6f}")
assert abs(square / series(viscosity) - 1) < 1e-3, "the vortex does not change as it should"
assert abs(loss / (viscosity * square) - 1) < 1e-2, "energy is not lost by viscosity alone"
assert (k * waves).sum(dim=0).abs().max() < 1e-6, "divergence arose"

# %%
# The flows
# ---------
# Each begins as a vortex at a random place, with a random angle, disturbed by long waves of a
# hundredth of its energy. We take the times 4 to 8, when it is rich in detail.


def flow() -> Tensor:
    """Return the velocity at five times: (5, 3, *points)."""
    waves = taylor_green(*(2 * torch.pi * torch.rand(4)).split((1, 3)))
    noise = across(to_waves(torch.randn(3, *3 * [size.points]).to(k))) * (k_squared < 10)
    waves = waves + (0.01 * power(waves).sum() / power(noise).sum()).sqrt() * noise
    velocities = []
    for _ in range(8):
        for _ in range(size.solver_steps):
            waves = advance(waves)
        velocities.append(to_grid(waves))
    return torch.stack(velocities[3:])


train = torch.cat([flow() for _ in track(range(size.flows), "flows to learn from")])
test = torch.cat([flow() for _ in track(range(4), "flows to test with")])

# %%
# The coarse grid
# ---------------
# It keeps the waves that a solver would keep there. To guess the rest, one may interpolate linearly
# between its points, or better, take the same waves on the fine grid, where they are right. What
# remains are the short waves: no linear method for which all places are alike can tell them.

coarse_points = size.points // size.factor
rows = fftfreq(coarse_points, 1 / coarse_points, device=options.device).long()
shared = (..., rows[:, None], rows, slice(coarse_points // 2 + 1))  # waves of both grids


def coarsen(fields: Tensor) -> Tensor:
    """Return the long waves on the coarse grid."""
    return to_grid((to_waves(fields) * long_waves(coarse_points))[shared])


def same_waves(coarse: Tensor) -> Tensor:
    """Return the waves of the coarse grid on the fine one."""
    waves = torch.zeros(*coarse.shape[:-3], *k_squared.shape, dtype=torch.cfloat, device=k.device)
    waves[shared] = rfftn(coarse, dim=XYZ, norm="forward")
    return to_grid(waves)


def trilinear(coarse: Tensor) -> Tensor:
    """Interpolate between the points of the coarse grid."""
    closed = pad(coarse, 3 * (0, 1), mode="circular")
    fine = interpolate(closed, 3 * [size.points + 1], mode="trilinear", align_corners=True)
    return fine[..., :-1, :-1, :-1]


# %%
# The model
# ---------
# The network shall tell the short waves. Its convolutions put zeros around the box, like walls; so
# we continue the velocity by some points, and cut off what becomes of them.

MARGIN = 2
coarse = coarsen(train)
short = train - same_waves(coarse)
scale, short_scale = train.std().item(), short.std().item()
inside = (..., *3 * [slice(MARGIN * size.factor, -MARGIN * size.factor)])
model = SRResNet(
    in_channels=3,
    out_channels=3,
    large_kernel_size=3,
    conv_layer_size=size.channels,
    n_resid_blocks=size.blocks,
    scaling_factor=size.factor,
    activation_fn="silu",
).to(options.device, memory_format=torch.channels_last_3d)
print(f"{type(model).__name__} with {model.num_parameters():,} parameters")


def short_waves(coarse: Tensor) -> Tensor:
    """Let the network tell the short waves."""
    return short_scale * model(pad(coarse / scale, 6 * [MARGIN], mode="circular"))[inside]


# %%
# Training
# --------
# The laws of flow know no axis and no place: we exchange the axes and shift the box of each batch.
# Quickstart explains :class:`~physicsnemo.utils.StaticCaptureTraining`.

batch_size = 2
optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-4)
schedule = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=5e-3, total_steps=epochs * -(-len(train) // batch_size), pct_start=0.2
)


@StaticCaptureTraining(model=model, optim=optimizer, use_amp=False, gradient_clip_norm=1.0)
def training_step(coarse: Tensor, short: Tensor) -> Tensor:
    """Return the loss: 1 without a model, 0 at best."""
    return ((short_waves(coarse) - short) / short_scale).square().mean()


def random_symmetry(coarse: Tensor, fine: Tensor) -> list[Tensor]:
    """Exchange axes and shift the box, on both grids alike."""
    axes, shift = torch.randperm(3), torch.randint(coarse_points, (3,)) / coarse_points
    shifted = (v.roll((v.shape[-1] * shift).int().tolist(), XYZ) for v in (coarse, fine))
    return [v[:, axes].permute(0, 1, *(axes + 2)).contiguous() for v in shifted]


def train_epoch() -> float:
    """Show every sample to the model once and return the mean loss."""
    losses = []
    for chosen in torch.randperm(len(train)).split(batch_size):
        losses.append(training_step(*random_symmetry(coarse[chosen], short[chosen])))
        schedule.step()
    return torch.stack(losses).mean().item()


with Progress() as progress:
    task = progress.add_task("loss", total=epochs)
    for _ in range(epochs):
        progress.update(task, advance=1, description=f"loss {train_epoch():.4f}")

# %%
# The result
# ----------
# After 12 epochs, linear interpolation should be off by 0.14 of the velocity, the same waves by
# 0.09, and the network by 0.055.


@StaticCaptureEvaluateNoGrad(model=model, use_amp=False)
def super_resolve(coarse: Tensor) -> Tensor:
    """Return the velocity on the fine grid."""
    return same_waves(coarse) + short_waves(coarse)


def relative_error(fields: Tensor) -> float:
    """Return the mean L2 norm of the error over that of the truth."""
    return ((fields - test).flatten(1).norm(dim=1) / test.flatten(1).norm(dim=1)).mean().item()


model.eval()
seen = coarsen(test)
guesses = {
    "linear": trilinear(seen),
    "same waves": same_waves(seen),
    "SRResNet": torch.cat([super_resolve(part) for part in seen.split(batch_size)]),
}
errors = {name: relative_error(guess) for name, guess in guesses.items()}
for name, error in errors.items():
    print(f"{name}: relative error {error:.4f}")
assert errors["SRResNet"] < errors["linear"], "the network is no better than interpolation"

# %%
# The picture
# -----------
# Above is a slice of one of the flows: the vorticity that points out of the picture. Below is the
# energy, and that of the error, in waves of which length.


def vorticity(fields: Tensor) -> Tensor:
    """Return the slice of the last flow."""
    return to_grid(curl(to_waves(fields[-1])))[2, :, :, 0].cpu()


def spectrum(fields: Tensor) -> Tensor:
    """Return the mean energy by wave number."""
    energy = power(to_waves(fields)).mean(dim=0) / 2
    return torch.bincount(k_squared.sqrt().round().long().flatten(), energy.flatten()).cpu()


figure, axes = plt.subplot_mosaic("abcd;sstt", figsize=(11, 6.2), layout="constrained")
limit = vorticity(test).abs().max().item()
known = torch.arange(1, size.points // 3 + 1)
for letter, (name, fields) in zip("abcd", (guesses | {"solver": test}).items(), strict=True):
    axes[letter].imshow(vorticity(fields), cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes[letter].set(title=name, xticks=[], yticks=[])
    axes["s"].plot(known, spectrum(fields)[known], label=name)
    axes["t"].plot(known, spectrum(fields - test)[known])
for letter, title in ("s", "energy"), ("t", "energy of the error"):
    axes[letter].set(title=title, xlabel="wave number", yscale="log", ylim=(1e-6, None))
axes["s"].legend()
options.output.mkdir(parents=True, exist_ok=True)
picture = options.output / "super_resolution.png"
figure.savefig(picture)
print(f"{picture} shows one of the flows")
