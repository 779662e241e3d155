# SPDX-License-Identifier: Apache-2.0
"""Time diffusion sampling: ``python -m tools.bench.sampling``.

Heun's method, captured and not. Before anything is timed, each variant draws samples with the same
generators as the first one, and the table says how far apart they are.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.benchmark import Timer

from physicsnemo import Module
from physicsnemo.models.diffusion import EDMPrecond
from physicsnemo.utils import StaticCaptureEvaluateNoGrad
from physicsnemo.utils.diffusion import (
    StackedRandomGenerator,
    deterministic_sampler,
    stochastic_sampler,
)
from tools.bench.measure import watch_memory
from tools.bench.report import device_name, duration, provenance, show, write_json

COLUMNS = ("variant", "one batch", "ratio", "peak memory", "difference from the first")
WARMUP = 3
SAMPLERS: dict[str, Callable[..., Tensor]] = {
    "deterministic": deterministic_sampler,
    "stochastic": partial(stochastic_sampler, sigma_max=80, S_churn=10),
}
VARIANTS = ("eager", "amp", "compile+amp", "capture", "capture+amp", "capture+compile+amp")

Sample = Callable[[Tensor, StackedRandomGenerator], Tensor]


@dataclass(frozen=True)
class Sampling:
    """What one variant took.

    Attributes
    ----------
    sampler, variant
        What was measured.
    seconds
        The median time of a batch of samples.
    peak_bytes
        How far the memory that PyTorch's allocator had given at once rose above what it was.
    difference
        From the samples of the first variant, relative to their norm.
    """

    sampler: str
    variant: str
    seconds: float
    peak_bytes: int
    difference: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one variant after the other."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.sampling", description=__doc__)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--size", type=int, default=64, help="height and width")
    parser.add_argument("--width", type=int, default=128, help="channels of the net")
    parser.add_argument("--steps", type=int, default=18)
    parser.add_argument("--samplers", nargs="+", choices=list(SAMPLERS), default=list(SAMPLERS))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", type=torch.device, default=default)
    parser.add_argument("--min-run-time", type=float, default=2.0, help="in seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    options = parser.parse_args(arguments)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else its watch on memory tells of itself
    shape = (options.batch, options.channels, options.size, options.size)
    results: list[Sampling] = []
    for sampler in options.samplers:
        net = _net(shape, options.width).to(options.device)
        first: Tensor | None = None
        for variant in options.variants:
            sample = _sample(net, sampler, variant, options.steps)
            result, drawn = _measure(sample, shape, options.device, options.min_run_time, first)
            first = drawn if first is None else first
            results.append(Sampling(sampler, variant, *result))
            print(results[-1], flush=True)
    title = f"{options.steps} steps, SongUNet {'x'.join(map(str, shape))}, {options.device}"
    show(title, COLUMNS, [_row(it, results) for it in results])
    if options.json:
        environment = provenance() | {"device": device_name(options.device)}
        environment |= {"shape": shape, "steps": options.steps}
        write_json(options.json, environment, results=results)


def _net(shape: Sequence[int], width: int) -> Module:
    torch.manual_seed(0)
    _, channels, *size = shape
    net = EDMPrecond(
        size, channels, model_type="SongUNet", model_channels=width, channel_mult=[1, 2, 2]
    ).eval()
    with torch.no_grad():  # a fresh net ends in zeros, which hide what it computes
        for parameter in net.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return net


def _sample(net: Module, sampler: str, variant: str, steps: int) -> Sample:
    """Return what draws samples from latents, with the generators that drew those."""
    parts = variant.split("+")
    # The net alone: all steps as one function would be compiled for very long.
    evaluated = torch.compile(net) if "compile" in parts else net

    def sample(latents: Tensor, noise: StackedRandomGenerator) -> Tensor:
        draw = SAMPLERS[sampler]
        return draw(evaluated, latents, num_steps=steps, randn_like=noise.randn_like)

    capture = StaticCaptureEvaluateNoGrad(
        net,
        use_graphs="capture" in parts,
        use_amp="amp" in parts,
        amp_type=torch.bfloat16,
        cuda_graph_warmup=WARMUP,
    )
    return capture(sample)


def _measure(
    sample: Sample,
    shape: Sequence[int],
    device: torch.device,
    min_run_time: float,
    first: Tensor | None,
) -> tuple[tuple[float, int, float], Tensor]:
    def batch() -> Tensor:
        noise = StackedRandomGenerator(device, range(shape[0]))
        return sample(noise.randn(shape), noise)

    def warm_up() -> Tensor:
        for _ in range(WARMUP + 1):
            batch()
        return batch()

    drawn, peak = watch_memory(warm_up, device)
    expected = drawn if first is None else first
    difference = float((drawn - expected).norm() / expected.norm())
    threads = torch.get_num_threads()
    timer = Timer("batch()", globals={"batch": batch}, num_threads=threads)
    median = timer.blocked_autorange(min_run_time=min_run_time).median
    return (median, peak, difference), drawn


def _row(result: Sampling, results: Sequence[Sampling]) -> tuple[str, ...]:
    first = next(it for it in results if it.sampler == result.sampler)
    return (
        f"{result.sampler}, {result.variant}",
        duration(result.seconds),
        f"{first.seconds / result.seconds:.2f}",
        f"{result.peak_bytes / 2**20:.0f} MiB",
        f"{result.difference:.1e}",
    )


if __name__ == "__main__":
    main()
