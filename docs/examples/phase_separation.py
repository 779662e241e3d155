# SPDX-License-Identifier: Apache-2.0
r"""
Phase separation on several processes
=====================================

A mixture of two liquids that is cooled separates, as oil and vinegar do: within moments there are
drops or a maze of both, which then slowly grow coarser. With :math:`c` from -1 to 1 for how much
there is of either, the Cahn-Hilliard equation
:math:`\partial_t c = \Delta (c^3 - c - \kappa \Delta c)` describes it. What will a pattern look
like after a while?

This page trains an FNO on one process or on several, and in either of two ways: ``data`` divides
the samples of a batch among the processes, ``domain`` the rows of each field, as for fields that
are too large for one GPU. In the environment that ``nox -s dev`` makes, start it alone, on two
processes of a CPU or on the GPUs of a machine::

    python docs/examples/phase_separation.py
    torchrun --nproc-per-node 2 docs/examples/phase_separation.py --device cpu --parallel domain
    torchrun --nproc-per-node 8 --max-restarts 3 docs/examples/phase_separation.py --resume

The model, the loss and the file are the same each time. The last one goes on where it was if a
process dies.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from rich.progress import Progress
from torch import Tensor
from torch.fft import irfft2, rfft2
from torch.nn.parallel import DistributedDataParallel

from physicsnemo import Module
from physicsnemo.distributed import distribute, gather, split, start
from physicsnemo.models.fno import FNO
from physicsnemo.utils import StaticCaptureTraining, load_checkpoint, save_checkpoint

parser = argparse.ArgumentParser(description="Learn phase separation on several processes.")
parser.add_argument("--parallel", choices=["data", "domain"], default="data", help="what to divide")
parser.add_argument("--epochs", type=int, default=20, help="passes through the training set")
parser.add_argument("--resume", action="store_true", help="go on from the last whole epoch")
parser.add_argument("--points", type=int, default=48, help="of the grid along each axis")
parser.add_argument("--seed", type=int, default=0, help="of samples, weights and their order")
parser.add_argument("--output", type=Path, default=Path("outputs/phase_separation"), help="folder")
parser.add_argument("--device", help="such as cpu or cuda; by default a GPU of its own, if any")
options = parser.parse_args()
torch.set_num_threads(1)  # such small grids gain nothing from more cores

# %%
# The processes
# -------------
# :func:`~physicsnemo.distributed.start` finds out who has started this process, and how many others
# there are. The mesh has one axis with all of them, called as what is divided. Only the first
# process says anything.

job = start(options.device)
mesh = job.mesh(**{options.parallel: -1})
first = job.rank == 0


def say(text: str) -> None:
    """Print once."""
    if first:
        print(text)


say(f"{job.world_size} processes, this one on {job.device}; they divide the {options.parallel}")

# %%
# The data
# --------
# The box is periodic, with one point for each unit of length, and :math:`\kappa = 1`. Each step
# treats the stiff part implicitly (`Eyre 1998 <https://doi.org/10.1557/PROC-529-39>`__), so that
# the energy never grows. All processes make the same mixtures from the same seed.

FRAMES, INTERVAL, STEP = 6, 20.0, 0.1
waves = 2 * torch.pi * torch.fft.fftfreq(options.points, device=job.device)
squares = waves[:, None] ** 2 + waves[: options.points // 2 + 1] ** 2


def advance(c: Tensor, time: float, step: float = STEP) -> Tensor:
    """Return the state after some time: (..., points, points)."""
    spectrum = rfft2(c)
    for _ in range(round(time / step)):
        spectrum = spectrum - step * squares * rfft2(c**3 - 3 * c)
        spectrum = spectrum / (1 + step * (squares**2 + 2 * squares))
        c = irfft2(spectrum, s=c.shape[-2:])
    return c


def energy(c: Tensor) -> Tensor:
    """Return the mean free energy of each state."""
    slopes = [(c.roll(1, axis) - c).square() for axis in (-2, -1)]
    return ((c**2 - 1) ** 2 / 4 + sum(slopes) / 2).mean(dim=(-2, -1))


def films(count: int, seed: int) -> Tensor:
    """Return mixtures as they separate: (films, frames + 1, points, points)."""
    generator = torch.Generator().manual_seed(seed)
    contents = 0.6 * torch.rand(count, 1, 1, generator=generator) - 0.3
    noise = 0.1 * torch.randn(count, options.points, options.points, generator=generator)
    frames = [advance((contents + noise).to(job.device), INTERVAL)]
    for _ in range(FRAMES):
        frames.append(advance(frames[-1], INTERVAL))
    return torch.stack(frames, dim=1)


train, test = films(32, options.seed), films(8, options.seed + 1)

# %%
# What is there at the beginning stays, and the energy falls. Weak waves in an even mixture grow at
# the rate :math:`k^2 - k^4`.

drift = (train[:, -1] - train[:, 0]).mean(dim=(1, 2)).abs().max().item()
assert drift < 1e-4, "liquid comes from nowhere"
assert (energy(train).diff(dim=1) < 0).all(), "the energy grows"
number = waves[options.points // 8]
wave = 1e-4 * (number * torch.arange(options.points, device=job.device)).cos().expand_as(
    train[0, 0]
)
growth = (advance(wave, 2.0, step=0.01).std() / wave.std()).log().item() / 2
rate = (number**2 - number**4).item()
say(f"a weak wave grows at a rate of {growth:.3f}, exactly {rate:.3f}")
assert abs(growth / rate - 1) < 0.03, "a wave does not grow as it should"

# %%
# The model
# ---------
# It predicts the change from one frame to the next. All processes begin with the same weights. For
# ``domain``, :func:`~physicsnemo.distributed.distribute` lets the model compute on rows: of the
# Fourier transforms, processes exchange the kept modes alone.
#
# ``DistributedDataParallel`` averages gradients over the processes, in both ways. On GPUs it is
# made on a stream of its own, for steps to be recorded as CUDA graphs.

torch.manual_seed(options.seed)
model = FNO(
    in_channels=1,
    out_channels=1,
    dimension=2,
    latent_channels=24,
    num_fno_layers=3,
    num_fno_modes=12,
    padding=0,
    coord_features=False,
    decoder_layer_size=32,
).to(job.device)
if options.parallel == "domain":
    distribute(model, mesh)
side = torch.cuda.Stream(job.device) if job.device.type == "cuda" else None
with torch.cuda.stream(side):
    wrapper = DistributedDataParallel(model)
say(f"{type(model).__name__} with {model.num_parameters():,} parameters")

# %%
# Training
# --------
# Each process takes its part of a batch: some of the pairs of frames, or its rows of all. The
# sum of its errors, divided by the number of points in its mean part, has gradients whose mean over
# the processes is that of the loss of the whole batch, however the rows are divided.
#
# The order of pairs depends on the number of the epoch alone, so that a training that was broken
# off goes on with the same. The quickstart explains
# :class:`~physicsnemo.utils.StaticCaptureTraining`.

BATCH = 8
pairs = torch.stack((train[:, :-1], train[:, 1:])).flatten(1, 2).unsqueeze(2)
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, fused=True)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs)


def part(fields: Tensor) -> Tensor:
    """Return what this process has of a batch (samples, 1, points, points)."""
    if options.parallel == "domain":
        return split(fields, model)
    return fields[job.rank :: job.world_size]


@StaticCaptureTraining(model=wrapper, optim=optimizer, use_amp=False)
def training_step(now: Tensor, later: Tensor) -> Tensor:
    """Return this process's share of the loss."""
    wrong = now + wrapper(now) - later
    return wrong.square().sum() * (job.world_size / (BATCH * options.points**2))


def train_epoch(epoch: int) -> float:
    """Train on every pair once and return the mean loss."""
    generator = torch.Generator().manual_seed(1000 * options.seed + epoch)
    losses = []
    for chosen in torch.randperm(pairs.shape[1], generator=generator).split(BATCH):
        now, later = pairs[:, chosen]
        losses.append(training_step(part(now).contiguous(), part(later).contiguous()))
    schedule.step()
    return torch.stack(losses).mean().item()


folder = options.output / "checkpoints"
training = {"models": wrapper, "optimizer": optimizer, "scheduler": schedule}
done = load_checkpoint(folder, **training) if options.resume else 0
with Progress(disable=not first) as progress:
    task = progress.add_task("loss", total=options.epochs, completed=done)
    for epoch in range(done, options.epochs):
        loss = train_epoch(epoch)
        save_checkpoint(folder, **training, epoch=epoch + 1, keep_last=2)
        progress.update(task, advance=1, description=f"loss {loss:.5f}")

# %%
# The file
# --------
# The first process saves the model, and loads it as any other program would: it computes the same
# alone as all of them together. (``gather`` returns whole fields from rows.)

with torch.no_grad():
    together = model(part(test[:, :1].contiguous()))
    if options.parallel == "domain":
        together = gather(together, model)
if first:
    options.output.mkdir(parents=True, exist_ok=True)
    model.save(options.output / "phase_separation.mdlus")
    alone = Module.from_checkpoint(options.output / "phase_separation.mdlus").to(job.device)
    with torch.no_grad():
        changes = alone(part(test[:, :1]) if options.parallel == "data" else test[:, :1])
    torch.testing.assert_close(together, changes, rtol=1e-3, atol=1e-4)

# %%
# The forecast
# ------------
# From the first frame of new mixtures, it predicts the others, each from its own prediction. Errors
# are relative L2 errors of the change since the first frame: predicting that all stays as it is has
# an error of 1. After 20 epochs, expect 0.3 in the next frame and 0.55 in the sixth, whatever the
# number of processes.


def forecast(frame: Tensor) -> Tensor:
    """Return the frames from a first one on: (films, frames + 1, points, points)."""
    frames = [frame[:, None]]
    with torch.no_grad():
        for _ in range(FRAMES):
            frames.append(frames[-1] + alone(frames[-1]))
    return torch.cat(frames, dim=1)


if first:
    predictions = forecast(test[:, 0])
    wrong, change = predictions - test, test - test[:, :1]
    errors = (wrong[:, 1:].norm(dim=(2, 3)) / change[:, 1:].norm(dim=(2, 3))).mean(dim=0)
    for frame in (1, FRAMES):
        print(f"frame {frame}: relative error of the change {errors[frame - 1]:.3f}")
    assert errors[-1] < 1, "the forecast is no better than that all stays as it is"

# %%
# The figure
# ----------
# It shows a mixture, in which the liquids separate; times are dimensionless.

if first:
    figure, axes = plt.subplots(3, 3, figsize=(9, 8.5), layout="constrained")
    for column, frame in zip(axes.T, (0, FRAMES // 2, FRAMES), strict=True):
        states = (test[0, frame], predictions[0, frame], wrong[0, frame])
        names = ("solver", "FNO", "FNO - solver")
        for cell, state, name in zip(column, states, names, strict=True):
            image = cell.imshow(state.cpu(), cmap="PuOr", vmin=-1, vmax=1)
            cell.set(title=f"{name}, time {INTERVAL * (frame + 1):.0f}")
            cell.axis("off")
    figure.colorbar(image, ax=axes, shrink=0.6, label="c")
    picture = options.output / "phase_separation.png"
    figure.savefig(picture)
    print(f"{picture} shows one of the forecasts")
job.close()
