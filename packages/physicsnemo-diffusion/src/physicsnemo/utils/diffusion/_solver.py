# SPDX-License-Identifier: Apache-2.0
"""Euler's and Heun's methods along the probability flow: Karras et al. 2022, algorithms 1 and 2."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from physicsnemo.utils.diffusion._denoiser import Denoiser
from physicsnemo.utils.diffusion._nets import RandnLike
from physicsnemo.utils.diffusion._probability_flow import ProbabilityFlow


@dataclass(frozen=True)
class Churn:
    """Noise that each step adds before it takes more away: algorithm 2, lines 4 to 6.

    Attributes
    ----------
    gamma
        Relative growth of the noise level.
    s_min, s_max
        Range of noise levels with churn.
    s_noise
        Factor of the added noise's standard deviation, against a loss of detail.
    randn_like
        Draws the noise.
    """

    gamma: float
    s_min: float
    s_max: float
    s_noise: float
    randn_like: RandnLike

    def sigma_hat(self, sigma: float) -> float:
        """Return the noise level that a step rises to."""
        return sigma * (1 + self.gamma) if self.s_min <= sigma <= self.s_max else sigma


@dataclass(frozen=True)
class Solver:
    r"""Solver of the probability flow, of first or second order.

    Without gradients, the state and what is computed on the way stay in memory that is allocated
    once. With gradients, each result is a new tensor, which the graph needs.

    Attributes
    ----------
    denoiser
        :math:`D(x; \sigma)`.
    flow
        The differential equation.
    churn
        Noise added before each step.
    alpha
        Where in a step Heun's method evaluates the second slope: 1 at the end, 0.5 in the middle
        (the midpoint method). None for Euler's method, which takes none.
    """

    denoiser: Denoiser
    flow: ProbabilityFlow
    churn: Churn
    alpha: float | None

    def sample(self, latents: Tensor, sigmas: Sequence[float], progress: bool) -> Tensor:
        """Return samples, from standard normal noise, by steps that start at these noise levels."""
        steps = self._plan(sigmas)
        work = _Workspace(latents)
        x = latents * (steps[0].sigma * self.flow.s(steps[0].t))
        for step in _shown(steps, progress):
            x_hat = self._add_noise(x, step, work)
            x = self._step(x_hat, step, work)
        return x

    def _plan(self, sigmas: Sequence[float]) -> list["_Step"]:
        sigma_inv = self.flow.schedule.sigma_inv
        sigma = self.denoiser.rounded(sigmas)
        sigma_hat = self.denoiser.rounded([*map(self.churn.sigma_hat, sigma)])
        t = [*map(sigma_inv, sigma), 0.0]
        return [
            _Step(
                sigma=sigma[i],
                t=t[i],
                sigma_hat=sigma_hat[i],
                t_hat=sigma_inv(sigma_hat[i]),
                t_next=t[i + 1],
            )
            for i in range(len(sigma))
        ]

    def _add_noise(self, x: Tensor, step: "_Step", work: "_Workspace") -> Tensor:
        """Return ``x_hat``, at the time ``t_hat``."""
        if self.churn.gamma == 0:
            return x
        # Drawn even if none is added, so that each step has its own noise whatever the range.
        noise = self.churn.randn_like(x)
        s, s_hat = self.flow.s(step.t), self.flow.s(step.t_hat)
        # The net's rounding of levels may lower sigma_hat below sigma.
        added = math.sqrt(max(step.sigma_hat**2 - step.sigma**2, 0.0)) * self.churn.s_noise
        return _combine((s_hat / s, x), (added * s_hat, noise), out=work.reuse(x))

    def _step(self, x_hat: Tensor, step: "_Step", work: "_Workspace") -> Tensor:
        """Return the state at ``t_next``."""
        t_hat, h = step.t_hat, step.t_next - step.t_hat

        # Euler step: x_next = x_hat + h d_cur.
        of_x, of_denoised = self.flow.derivative(t_hat)
        denoised = self._denoised(x_hat, t_hat, work)
        d_cur = _combine((of_x, x_hat), (of_denoised, denoised), out=work.d_cur)
        # The last step ends at noise level 0, where the derivative is not defined.
        if self.alpha is None or step.t_next == 0:
            return _combine((1.0, x_hat), (h, d_cur), out=work.reuse(x_hat))

        # Second-order correction (Heun): with d_prime, the derivative at x_prime,
        # x_next = x_hat + h ((1 - 1 / (2 alpha)) d_cur + 1 / (2 alpha) d_prime).
        # Its two terms are added as they are, which saves the memory of d_prime.
        x_prime = _combine((1.0, x_hat), (self.alpha * h, d_cur), out=work.x_prime)
        t_prime = t_hat + self.alpha * h
        of_x, of_denoised = self.flow.derivative(t_prime)
        denoised = self._denoised(x_prime, t_prime, work)
        weight = h / (2 * self.alpha)
        weighted_d_prime = (weight * of_x, x_prime), (weight * of_denoised, denoised)
        out = work.reuse(x_hat)
        return _combine((1.0, x_hat), (h - weight, d_cur), *weighted_d_prime, out=out)

    def _denoised(self, x: Tensor, t: float, work: "_Workspace") -> Tensor:
        """Return D(x / s; sigma)."""
        # A copy even at scale 1, for a net may change its input.
        unscaled = _combine((1 / self.flow.s(t), x), out=work.unscaled)
        return self.denoiser(unscaled, self.flow.schedule.sigma(t))


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
        self.d_cur, self.x_prime, self.unscaled = (
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


def _shown(steps: Sequence[_Step], progress: bool) -> Iterable[_Step]:
    """Return the steps, behind a progress bar if asked for."""
    if not progress:
        return steps
    from rich.progress import track  # not needed otherwise, and slow to import

    return track(steps, description="Sampling")
