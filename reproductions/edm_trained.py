# SPDX-License-Identifier: Apache-2.0
"""A diffusion model learns random fields whose spectrum and distribution are known.

Karras et al. 2022, Elucidating the design space of diffusion-based generative models,
arXiv:2206.00364: the network, its preconditioning, loss and sampler. Instead of the FID of images,
the spectrum of samples and the distribution of their values are compared with the exact ones::

    python -m reproductions.edm_trained --device cuda --output outputs/edm_trained

writes the model with averaged weights as ``edm.mdlus`` and how it was trained as ``training.json``,
then ``metrics.json`` and ``samples.png``. With ``--trained`` it begins with the first two files,
which such a run has left in the folder.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import kstest, norm
from torch import Tensor, nn

from physicsnemo.core import Module
from physicsnemo.diffusion import EDM, DenoisingLoss, Diffusion, PowerEMA, sample
from physicsnemo.utils import StaticCaptureTraining
from reproductions.data.random_fields import periodic_field
from reproductions.pace import paced
from reproductions.periodic import PeriodicUNet
from reproductions.records import environment, write_metrics

DEVIATION = 0.5  # of the fields, as of the paper's images
STEPS = 80  # of Heun's method, which is then right to 1 %


@dataclass(frozen=True)
class Fields:
    r"""Random fields on a square whose opposite sides are joined, with a skew distribution.

    A normal field :math:`g` of variance 1 and covariance
    :math:`\propto (-\Delta + \tau^2)^{-\alpha}` becomes
    :math:`u \propto g + c \, (g^2 - 1)`, of mean 0 and deviation 0.5.

    Parameters
    ----------
    points
        Along each axis of length 1.
    tau, alpha
        Of the covariance.
    skew
        The factor :math:`c`.
    """

    points: int
    tau: float = 4 * math.pi
    alpha: float = 2.0
    skew: float = 0.1

    def draw(self, number: int, generator: torch.Generator) -> Tensor:
        """Return fields (number, 1, points, points)."""
        shape = (number, self.points, self.points)
        noise = torch.randn(shape, generator=generator, device=generator.device)
        normal = periodic_field(noise.double(), self._scale, self.tau, self.alpha)
        return (self._factor * (normal + self.skew * (normal**2 - 1))).float().unsqueeze(1)

    @cached_property
    def power(self) -> Tensor:
        """The mean square of each Fourier coefficient, of shape (points, points)."""
        normal = self._scale * (self._squares + self.tau**2) ** -self.alpha * (self._squares > 0)
        covariance = torch.fft.fft2(normal).real
        # The squares' covariance is twice the square of the covariance (Isserlis' theorem).
        covariance = self._factor**2 * (covariance + 2 * self.skew**2 * covariance**2)
        result: Tensor = torch.fft.ifft2(covariance).real
        return result

    @property
    def skewness(self) -> float:
        """The third moment over the cube of the deviation."""
        c = self.skew
        return float((6 * c + 8 * c**3) / (1 + 2 * c**2) ** 1.5)

    def cumulative(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability of less than some values."""
        # g + c (g² - 1) is below y between the two roots.
        c, y = self.skew, values / self._factor
        root = np.sqrt(np.maximum(1 + 4 * c * (c + y), 0))
        result: NDArray[np.float64] = norm.cdf((root - 1) / (2 * c)) - norm.cdf(
            (-root - 1) / (2 * c)
        )
        return result

    @property
    def _factor(self) -> float:
        return DEVIATION / math.sqrt(1 + 2 * self.skew**2)

    @cached_property
    def _squares(self) -> Tensor:
        k = 2 * math.pi * torch.fft.fftfreq(self.points, 1 / self.points, dtype=torch.float64)
        squares: Tensor = k[:, None] ** 2 + k**2
        return squares

    @cached_property
    def _scale(self) -> float:
        spectrum = (self._squares + self.tau**2) ** -self.alpha * (self._squares > 0)
        return 1 / spectrum.sum().item()


class BestEstimate(nn.Module):
    """The best estimate, in place of a network, of normal fields with the spectrum of a law."""

    def __init__(self, law: Fields) -> None:
        super().__init__()
        self.schedule = EDM()
        self.power = law.points**2 * law.power

    def forward(self, state: Tensor, time: Tensor, condition: None = None) -> Tensor:
        """Return the fields that are the most likely, given a state of double precision."""
        share = self.power / (self.power + time.double().reshape(-1, 1, 1, 1) ** 2)
        result: Tensor = torch.fft.ifft2(share * torch.fft.fft2(state)).real
        return result


def error_of_sampler(law: Fields, steps: int) -> Tensor:
    """Return the relative error of the spectrum that a number of steps alone is the cause of."""
    noise = torch.randn(1, 1, law.points, law.points, dtype=torch.float64)
    # A linear map of each mode, whose gain is the same for all noise.
    found = sample(BestEstimate(law), noise, steps=steps)
    gain = (torch.fft.fft2(found) / torch.fft.fft2(noise)).abs() ** 2
    return binned(gain[0, 0]) / binned(law.points**2 * law.power) - 1


@dataclass(frozen=True)
class Size:
    """How much to compute."""

    points: int
    channels: int
    mult: tuple[int, ...]  # of channels, at each resolution
    blocks: int
    batch: int
    steps: int
    samples: int
    chunk: int  # samples at once


FULL = Size(64, 64, (1, 2, 2), 2, batch=128, steps=20_000, samples=4096, chunk=512)
SMALL = Size(16, 16, (1, 2), 1, batch=32, steps=150, samples=64, chunk=64)


def binned(power: Tensor) -> Tensor:
    """Return the mean over modes of each whole wave number, from 1 to half of the points.

    Parameters
    ----------
    power
        Of Fourier coefficients, of shape (..., points, points).
    """
    points = power.shape[-1]
    k = torch.fft.fftfreq(points, 1 / points, device=power.device)
    ring = (k[:, None] ** 2 + k**2).sqrt().round().long()
    rings = torch.arange(1, points // 2 + 1, device=power.device)
    masks = (ring == rings[:, None, None]).to(power.dtype)
    result: Tensor = torch.einsum("...xy,kxy->...k", power, masks) / masks.sum((1, 2))
    return result


def statistics(fields: Tensor, law: Fields) -> dict[str, Any]:
    """Compare fields (number, 1, points, points) with the law that they shall follow."""
    number = len(fields)
    power = binned(torch.fft.fft2(fields[:, 0].double(), norm="forward").abs() ** 2).cpu()
    exact = binned(law.power)
    errors = power.std(dim=0) / math.sqrt(number)  # of the mean, if samples are independent
    relative = power.mean(0) / exact - 1
    values = fields.double().cpu()
    cubes = (values**3).mean((1, 2, 3)) / DEVIATION**3
    # One point of each field, since points of one field depend on each other.
    distance = kstest(values[:, 0, 0, 0].numpy(), law.cumulative).statistic
    return {
        "number": number,
        "spectrum": power.mean(0).tolist(),
        "spectrum_relative_error": relative.tolist(),
        "spectrum_sampling_error": (errors / exact).tolist(),
        "largest_relative_error": relative.abs().max().item(),
        "mean_relative_error": relative.abs().mean().item(),
        "mean_error_in_sampling_errors": ((power.mean(0) - exact) / errors).abs().mean().item(),
        "deviation": values.std().item(),
        "skewness": cubes.mean().item(),
        "skewness_sampling_error": (cubes.std() / math.sqrt(number)).item(),
        "kolmogorov_distance": float(distance),
        "kolmogorov_bound_95": 1.358 / math.sqrt(number),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, sample, compare, and write what has been found."""
    options = parse(arguments)
    size = SMALL if options.small else FULL
    device = torch.device(options.device)
    torch.set_float32_matmul_precision("high")  # TF32, where there is such
    torch.manual_seed(options.seed)
    options.output.mkdir(parents=True, exist_ok=True)
    law = Fields(size.points)
    generator = torch.Generator(device).manual_seed(options.seed)
    weights, record = options.output / "edm.mdlus", options.output / "training.json"
    if not options.trained:
        average, training = train(law, size, generator, options)
        average.save(weights)
        record.write_text(json.dumps(training), "utf-8")
    average, training = Module.from_checkpoint(weights), json.loads(record.read_text("utf-8"))
    average.to(device)

    start = time.perf_counter()
    shape = (size.samples, 1, size.points, size.points)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, device.type == "cuda"):
        samples = sample(average, shape, steps=STEPS, chunk=size.chunk, generator=generator)
    found = {
        "samples of the model": statistics(samples, law),
        "as many fields": statistics(law.draw(size.samples, generator), law),
    }
    sampling_seconds = time.perf_counter() - start
    exact = {"spectrum": binned(law.power).tolist(), "skewness": law.skewness}
    metrics = {
        "problem": "random fields",
        "source": "Karras et al. 2022",
        "seed": options.seed,
        "small": options.small,
        "points": size.points,
        "parameters": average.num_parameters(),
        "evaluations": 2 * STEPS - 1,
        "exact": exact | {"deviation": DEVIATION},
        "spectrum_relative_error_of_sampler": error_of_sampler(law, STEPS).tolist(),
        "statistics": found,
        "sampling_seconds": sampling_seconds,
        "wall_seconds": training["training_seconds"] + time.perf_counter() - start,
        "environment": environment(device, "physicsnemo-diffusion"),
    }
    write_metrics(options.output, metrics | training)
    draw(options.output / "samples.png", law, samples, law.draw(4, generator), metrics)
    for name, it in found.items():
        print(
            f"{name}: spectrum off by {it['largest_relative_error']:.1%} at most, skewness "
            f"{it['skewness']:.3f} ({law.skewness:.3f}), Kolmogorov distance "
            f"{it['kolmogorov_distance']:.4f} ({it['kolmogorov_bound_95']:.4f})"
        )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(prog="python -m reproductions.edm_trained")
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seed", type=int, default=0, help="of fields, weights and noise")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, default=Path("outputs/edm_trained"))
    parser.add_argument("--trained", action="store_true", help="sample from a trained model")
    parser.add_argument("--steps", type=int, help="of training")
    parser.add_argument("--training-seconds", type=float, default=float("inf"), help="at most")
    parser.add_argument("--small", action="store_true", help="a minute on a CPU")
    parser.add_argument("--compile", action="store_true", help="compile the captured step too")
    return parser.parse_args(arguments)


def train(
    law: Fields, size: Size, generator: torch.Generator, options: argparse.Namespace
) -> tuple[Diffusion, dict[str, Any]]:
    """Train on new fields in each step; return a model of averaged weights, and how it was made."""
    network = PeriodicUNet(
        size.points,
        in_channels=1,
        out_channels=1,
        model_channels=size.channels,
        channel_mult=list(size.mult),
        num_blocks=size.blocks,
        attn_resolutions=[],
        dropout=0.0,
    )
    # Wide fields have Fourier coefficients above 5, in units of noise: levels up to there count.
    schedule = EDM(P_mean=-0.4, P_std=1.6)
    model = Diffusion(network, schedule, sigma_data=DEVIATION).to(generator.device)
    steps = options.steps or size.steps
    fused = generator.device.type == "cuda"
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=fused)
    denoising = DenoisingLoss(model)
    averages = PowerEMA(model, widths=[0.05])

    @StaticCaptureTraining(
        model=model,
        optim=optimizer,
        use_amp=fused,
        amp_type=torch.bfloat16,
        gradient_clip_norm=1.0,
        compile="auto" if options.compile else False,
    )
    def step(fields: Tensor) -> Tensor:
        return denoising(fields)

    losses: list[Tensor] = []
    begin = time.perf_counter()
    for count in paced(optimizer, steps, options.training_seconds):
        losses.append(step(law.draw(size.batch, generator)))
        averages.update(model)
        if count % max(steps // 20, 1) == 0:
            mean = torch.stack(losses[-steps // 20 :]).mean().item()
            print(f"step {count}: loss {mean:.4f}, {time.perf_counter() - begin:.0f} s", flush=True)
    every = torch.stack(losses).float().cpu()
    means = [it.mean().item() for it in every.split(-(-count // 50))]
    seconds = time.perf_counter() - begin
    average: Diffusion = averages.models[0]  # type: ignore[assignment]
    return average, {
        "compiled": options.compile,
        "batch": size.batch,
        "steps": count,
        "training_seconds": seconds,
        "losses": means,
    }


def draw(path: Path, law: Fields, samples: Tensor, fields: Tensor, metrics: dict[str, Any]) -> None:
    """Draw fields and samples, their spectra and the distribution of values."""
    figure = plt.figure(figsize=(13, 8), layout="constrained")
    grid = figure.add_gridspec(3, 4, height_ratios=(1, 1, 1.4))
    style = {"vmin": -1.2, "vmax": 1.5, "cmap": "viridis"}
    for row, (name, images) in enumerate({"field": fields, "sample of the model": samples}.items()):
        for column in range(4):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(images[column, 0].cpu().numpy(), origin="lower", **style)  # type: ignore[arg-type]
            axes.set(title=name, xticks=[], yticks=[])
    k = range(1, law.points // 2 + 1)
    spectra, ratio, values = (
        figure.add_subplot(place) for place in (grid[2, 0], grid[2, 1:3], grid[2, 3])
    )
    spectra.loglog(k, binned(law.power).numpy(), "k", label="exact")
    for index, (name, it) in enumerate(metrics["statistics"].items()):
        spectra.loglog(k, it["spectrum"], f"C{index}.", label=name)
        bars = [2 * error for error in it["spectrum_sampling_error"]]
        ratio.errorbar(k, it["spectrum_relative_error"], bars, fmt=f"C{index}.", label=name)
    spectra.set(xlabel="wave number", ylabel="mean square of a coefficient")
    spectra.legend()
    of_sampler = metrics["spectrum_relative_error_of_sampler"]
    ratio.plot(k, of_sampler, "k:", label="of the sampler with the best estimate")
    ratio.axhline(0, color="k", lw=0.5)
    ratio.legend()
    ratio.set(xlabel="wave number", title="relative error, and twice the sampling error")
    edges = np.linspace(-1.8, 3, 80)
    values.hist(samples.flatten().cpu().numpy(), edges.tolist(), density=True, alpha=0.5)
    middle = (edges[1:] + edges[:-1]) / 2
    values.plot(middle, np.diff(law.cumulative(edges)) / np.diff(edges), "k", label="exact")
    values.set(xlabel="value", title="probability density", yscale="log", ylim=(1e-4, 2))
    figure.savefig(path, dpi=90)
    plt.close(figure)


if __name__ == "__main__":
    main()
