# SPDX-License-Identifier: Apache-2.0
"""Sampling: from noise to data, by any method."""

from collections.abc import Callable, Sequence
from itertools import chain, pairwise

import torch
from torch import Tensor, nn

from physicsnemo.diffusion._conditions import Condition, of_batch
from physicsnemo.diffusion._noise import Generator
from physicsnemo.diffusion.guidance import Energy, guided
from physicsnemo.diffusion.methods import METHODS, Flow, Method
from physicsnemo.diffusion.patches import Patches, in_chunks
from physicsnemo.diffusion.schedules import Schedule
from physicsnemo.nn.checks import check_choice, is_integer
from physicsnemo.nn.precision import at_least_float32
from physicsnemo.utils import unwrap
from physicsnemo.utils.patching import GridPatching2D


def sample(
    model: nn.Module,
    shape_or_noise: Sequence[int] | Tensor,
    condition: Condition = None,
    *,
    steps: int | Sequence[float] = 18,
    method: str | Method = "heun",
    guidance: Energy | Sequence[Energy] = (),
    patches: GridPatching2D | Patches | None = None,
    chunk: int | None = None,
    generator: Generator = None,
    each: Callable[[int, float, Tensor], None] | None = None,
) -> Tensor:
    """Sample from a diffusion model.

    Nothing in it waits for the device. Under :func:`torch.no_grad` no graph is kept; otherwise
    samples are differentiable.

    Parameters
    ----------
    model
        A :class:`~physicsnemo.diffusion.Diffusion` or another module with a ``schedule`` that
        returns the estimate of the data, given the state, the time (batch,) and the condition.
    shape_or_noise
        Shape (batch, channels, ...) of the samples, or noise of that shape and standard
        deviation 1. Samples have the type of the noise, by default that of the model, in single
        precision at least.
    condition
        What to condition on, for each sample or one for all: a tensor, a mapping, or None.
    steps
        Number of steps, at the times of the schedule; or the times themselves, decreasing, from
        the first to the last.
    method
        ``"heun"``, ``"euler"``, ``"ddim"``, ``"dpm-solver"``, ``"euler-maruyama"`` or
        ``"churn"``, or one of :mod:`physicsnemo.diffusion.methods` with options of its own.
    guidance
        Energies, down whose gradient samples go: see :mod:`physicsnemo.diffusion.guidance`.
    patches
        Where the model works on patches, and how the condition is cut.
    chunk
        How many samples, or patches, the model is given at once; by default all. With less than
        all, the gradient of samples keeps about one state for each estimate, and computes again
        what the network does there, unless there is guidance.
    generator
        Source of all noise: with a
        :class:`~physicsnemo.utils.diffusion.StackedRandomGenerator`, a sample depends on its own
        seed alone, whatever the batch.
    each
        Called after each step, with its number, the time reached and the state there.

    Returns
    -------
    Samples of the given shape.

    Raises
    ------
    ValueError
        If the method is unknown, there is no step, times do not decrease, or shapes do not fit.
    RuntimeError
        If there is guidance under :func:`torch.inference_mode`.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.diffusion import EDM, Diffusion, sample
    >>> class Gaussian(torch.nn.Module):  # data of mean 3 and standard deviation 0.5
    ...     schedule = EDM()
    ...     def forward(self, x, t, condition=None):
    ...         return 3 + (x - 3) * 0.25 / (0.25 + t[:, None] ** 2)
    >>> samples = sample(Gaussian(), (10_000, 1), generator=torch.Generator().manual_seed(0))
    >>> print(f"{samples.mean():.1f}, {samples.std():.1f}")
    3.0, 0.5
    """
    schedule: Schedule = unwrap(model).schedule  # type: ignore[assignment]
    if isinstance(method, str):
        check_choice("method", method, METHODS)
        method = METHODS[method]
    times = checked_times(steps) if isinstance(steps, Sequence) else schedule.times(steps)
    if chunk is not None and (not is_integer(chunk) or chunk < 1):
        raise ValueError(f"expected chunk to be a whole number of at least 1, got {chunk!r}")
    if isinstance(patches, GridPatching2D):
        patches = Patches(patches)
    noise = _noise(model, schedule, shape_or_noise, generator)
    condition = of_batch(condition, noise.shape[0])

    def estimate(x: Tensor, t: float) -> Tensor:
        of_samples = x.new_full((x.shape[0],), t)
        if patches is None:
            x0 = in_chunks(model, x, of_samples, condition, chunk)
        else:
            x0 = patches.estimate(model, x, of_samples, condition, chunk)
        return x0.to(x.dtype)

    energies = [guidance] if callable(guidance) else list(guidance)
    flow = Flow(guided(estimate, energies, schedule), schedule, len(times) - 1, generator)
    x = noise * (flow.alpha(times[0]) * flow.level(times[0]))
    for i, (t, t_next) in enumerate(pairwise(times)):
        x = method(flow, x, t, t_next)
        if each is not None:
            each(i, t_next, x)
    return x


def _noise(
    model: nn.Module,
    schedule: Schedule,
    shape_or_noise: Sequence[int] | Tensor,
    generator: Generator,
) -> Tensor:
    if isinstance(shape_or_noise, Tensor):
        if not shape_or_noise.is_floating_point() or shape_or_noise.ndim < 2:
            raise ValueError(
                f"expected noise of shape (batch, channels, ...) in floating-point numbers, got "
                f"{shape_or_noise.dtype} of shape {tuple(shape_or_noise.shape)}"
            )
        return shape_or_noise.to(at_least_float32(shape_or_noise.dtype))
    owned = next(chain(model.parameters(), model.buffers()), torch.empty(0))
    like = torch.empty(0, dtype=at_least_float32(owned.dtype), device=owned.device)
    return schedule.noise(tuple(shape_or_noise), like, generator)


def checked_times(times: Sequence[float]) -> list[float]:
    """Return times as numbers, or raise a ValueError unless they decrease, to 0 at the least."""
    numbers = [float(time) for time in times]
    if len(numbers) < 2 or any(not now > later for now, later in pairwise(numbers)):
        raise ValueError(f"expected two or more decreasing times, got {numbers}")
    if numbers[-1] < 0:
        raise ValueError(f"expected times of at least 0, got {numbers[-1]}")
    return numbers
