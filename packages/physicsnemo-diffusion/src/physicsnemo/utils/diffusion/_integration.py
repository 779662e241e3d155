# SPDX-License-Identifier: Apache-2.0
"""From noise to data along the probability flow: Karras et al. (2022), Algorithms 1 and 2."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from physicsnemo.utils.diffusion._denoiser import Denoiser
from physicsnemo.utils.diffusion._progress import follow
from physicsnemo.utils.diffusion._schedules import Path

RandnLike = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Churn:
    """Noise that each step adds before it takes more away: Algorithm 2, lines 4 to 6."""

    growth: float
    """By which part of itself the noise level rises."""

    sigma_min: float
    sigma_max: float
    """Between these levels only."""

    inflation: float
    """Factor of the noise's standard deviation, against a loss of detail."""

    randn_like: RandnLike

    def raised(self, sigma: float) -> float:
        """Return the noise level that a step rises to."""
        inside = self.sigma_min <= sigma <= self.sigma_max
        return sigma * (1 + self.growth) if inside else sigma


@dataclass(frozen=True)
class Integrator:
    """A method of first or second order, on a path.

    Without gradients, the state and what is computed on the way stay in memory that is allocated
    once. With gradients, each result is a new tensor, which the graph needs.
    """

    denoiser: Denoiser
    path: Path
    churn: Churn
    midpoint: float | None
    """Where in a step the second slope is taken; with None the first one serves alone."""

    def run(self, latents: Tensor, sigmas: Sequence[float], progress: bool) -> Tensor:
        """Return samples, made of standard normal noise in steps that start at these levels."""
        steps = self._steps(sigmas, latents.device)
        work = _Workspace(latents)
        x = latents * (steps[0].sigma * self.path.scale(steps[0].t))
        for step in follow(steps, progress):
            x = self._advance(self._add_noise(x, step, work), step, work)
        return x

    def _steps(self, sigmas: Sequence[float], device: torch.device) -> list["_Step"]:
        levels = self.denoiser.rounded(sigmas, device)
        raised = self.denoiser.rounded([*map(self.churn.raised, levels)], device)
        times = [*map(self.path.schedule.time, levels), 0.0]
        hats = map(self.path.schedule.time, raised)
        return [*map(_Step, levels, times, raised, hats, times[1:])]

    def _add_noise(self, x: Tensor, step: "_Step", work: "_Workspace") -> Tensor:
        if self.churn.growth == 0:
            return x
        # Drawn even if none is added, so that each step has its own noise whatever the range.
        noise = self.churn.randn_like(x)
        scale, scale_hat = self.path.scale(step.t), self.path.scale(step.t_hat)
        # Rounding may lower the level.
        added = math.sqrt(max(step.sigma_hat**2 - step.sigma**2, 0.0)) * self.churn.inflation
        return _combine((scale_hat / scale, x), (added * scale_hat, noise), out=work.reuse(x))

    def _advance(self, x: Tensor, step: "_Step", work: "_Workspace") -> Tensor:
        h = step.t_next - step.t_hat
        by_x, by_denoised = self.path.coefficients(step.t_hat)
        denoised = self._denoised(x, step.t_hat, work)
        slope = _combine((by_x, x), (by_denoised, denoised), out=work.slope)
        # The second slope of the last step would be one at noise level 0.
        if self.midpoint is None or step.t_next == 0:
            return _combine((1.0, x), (h, slope), out=work.reuse(x))
        t_mid = step.t_hat + self.midpoint * h
        trial = _combine((1.0, x), (self.midpoint * h, slope), out=work.trial)
        by_trial, by_denoised = self.path.coefficients(t_mid)
        denoised = self._denoised(trial, t_mid, work)
        weight = h / (2 * self.midpoint)
        second = (weight * by_trial, trial), (weight * by_denoised, denoised)
        return _combine((1.0, x), (h - weight, slope), *second, out=work.reuse(x))

    def _denoised(self, x: Tensor, t: float, work: "_Workspace") -> Tensor:
        # A copy even at scale 1, for a net may change its input.
        unscaled = _combine((1 / self.path.scale(t), x), out=work.unscaled)
        return self.denoiser(unscaled, self.path.schedule.sigma(t))


class _Step(NamedTuple):
    """Where a step starts, where churn puts it, and where it ends.

    All steps are planned on the CPU before the first one, so that none waits for the device.
    """

    sigma: float
    t: float
    sigma_hat: float
    t_hat: float
    t_next: float


class _Workspace:
    """Memory for the results of a step, None where each needs its own."""

    def __init__(self, like: Tensor) -> None:
        self._reuses = not torch.is_grad_enabled()
        self.slope, self.trial, self.unscaled = (
            torch.empty_like(like) if self._reuses else None for _ in range(3)
        )

    def reuse(self, x: Tensor) -> Tensor | None:
        """Return the tensor, if it may be overwritten."""
        return x if self._reuses else None


def _combine(*terms: tuple[float, Tensor], out: Tensor | None) -> Tensor:
    """Return a sum of multiples, of which only the first may share its memory with ``out``."""
    (factor, first), *rest = terms
    total = torch.mul(first, factor, out=out)
    for factor, term in rest:
        total = torch.add(total, term, alpha=factor, out=out)
    return total
