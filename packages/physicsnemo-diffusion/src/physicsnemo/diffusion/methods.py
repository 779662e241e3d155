# SPDX-License-Identifier: Apache-2.0
"""Methods of sampling: one step each, from noise towards data.

A method is any function ``method(flow, x, t, t_next)`` that returns the state at ``t_next``, an
earlier time of less noise, which may be 0. Those of this module are dataclasses of their options.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from physicsnemo.diffusion._noise import Generator, draw_normal
from physicsnemo.diffusion.schedules import Schedule
from physicsnemo.utils.diffusion._checks import check_churn, check_fractions
from physicsnemo.utils.diffusion._solver import Churn as _Churn


class Flow:
    """What a step can ask for: estimates of the data, the schedule in numbers, and noise.

    Parameters
    ----------
    estimate
        Returns the estimate of the data, given the state and the time.
    schedule
        The schedule. Its numbers are computed on the CPU, so that no step waits for a device.
    steps
        How many steps there are.
    generator
        Draws noise.

    Attributes
    ----------
    steps
        How many steps there are.
    last
        Time and result of the last estimate, for methods of several steps; None at first.
    """

    def __init__(
        self,
        estimate: Callable[[Tensor, float], Tensor],
        schedule: Schedule,
        steps: int,
        generator: Generator = None,
    ) -> None:
        self.steps = steps
        self.last: tuple[float, Tensor] | None = None
        self._estimate, self._flow, self._generator = estimate, schedule.flow, generator

    def x0(self, x: Tensor, t: float) -> Tensor:
        """Return the estimate of the data, and remember it."""
        estimate = self._estimate(x, t)
        self.last = t, estimate
        return estimate

    def slope(self, t: float, x: Tensor, x0: Tensor) -> Tensor:
        """Return the derivative of the state along the probability flow."""
        of_x, of_x0 = self._flow.derivative(t)
        return of_x * x + of_x0 * x0

    def alpha(self, t: float) -> float:
        """Return the factor of the data."""
        return self._flow.s(t)

    def level(self, t: float) -> float:
        """Return the noise relative to the data."""
        return self._flow.schedule.sigma(t)

    def level_slope(self, t: float) -> float:
        """Return the derivative of the level."""
        return self._flow.schedule.sigma_dot(t)

    def time(self, level: float) -> float:
        """Return the time of a level."""
        return self._flow.schedule.sigma_inv(level)

    def noise(self, x: Tensor) -> Tensor:
        """Draw standard normal noise for a state."""
        return draw_normal(x.shape, x, self._generator)


Method = Callable[[Flow, Tensor, float, float], Tensor]


@dataclass(frozen=True)
class Euler:
    """Euler's method along the probability flow, of order 1."""

    def __call__(self, flow: Flow, x: Tensor, t: float, t_next: float) -> Tensor:
        """Return the state at ``t_next``."""
        return x + (t_next - t) * flow.slope(t, x, flow.x0(x, t))


@dataclass(frozen=True)
class Heun:
    """Heun's method along the probability flow, of order 2; a last step to time 0 is Euler's.

    Parameters
    ----------
    alpha
        Where in a step the second slope is: 1 at the end, 0.5 in the middle.

    References
    ----------
    Karras et al. 2022, arXiv:2206.00364, algorithm 1 and appendix D.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        """Check the option."""
        check_fractions(alpha=self.alpha)

    def __call__(self, flow: Flow, x: Tensor, t: float, t_next: float) -> Tensor:
        """Return the state at ``t_next``."""
        h = t_next - t
        slope = flow.slope(t, x, flow.x0(x, t))
        if t_next == 0:  # where the slope is not defined
            return x + h * slope
        there, t_there = x + self.alpha * h * slope, t + self.alpha * h
        weight = 1 / (2 * self.alpha)
        second = flow.slope(t_there, there, flow.x0(there, t_there))
        return x + h * ((1 - weight) * slope + weight * second)


@dataclass(frozen=True)
class EulerMaruyama:
    """Euler's and Maruyama's method for the stochastic equation backwards in time.

    Its weak order is 1. A last step to time 0 is Euler's along the probability flow.

    References
    ----------
    Song et al. 2021, arXiv:2011.13456, eq. 6; Anderson 1982.
    """

    def __call__(self, flow: Flow, x: Tensor, t: float, t_next: float) -> Tensor:
        """Return the state at ``t_next``."""
        h = t_next - t
        x0 = flow.x0(x, t)
        slope, noise = flow.slope(t, x, x0), flow.noise(x)
        if t_next == 0:
            return x + h * slope
        # Of g^2 times the score, the flow has one half: the equation the other half too.
        alpha, level = flow.alpha(t), flow.level(t)
        g_squared = 2 * alpha**2 * level * flow.level_slope(t)
        score = (alpha * x0 - x) / (alpha * level) ** 2
        return x + h * (slope - 0.5 * g_squared * score) + math.sqrt(-h * g_squared) * noise


@dataclass(frozen=True)
class DDIM:
    r"""Denoising diffusion implicit models: the flow at a fixed estimate of the data, of order 1.

    Parameters
    ----------
    eta
        Share of the noise that is drawn anew: 0 for none, 1 for ancestral sampling (DDPM).

    References
    ----------
    Song, Meng and Ermon 2021, arXiv:2010.02502, eq. 12 and 16.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        """Check the option."""
        if not 0 <= self.eta <= 1:
            raise ValueError(f"expected eta of at least 0 and at most 1, got {self.eta}")

    def __call__(self, flow: Flow, x: Tensor, t: float, t_next: float) -> Tensor:
        """Return the state at ``t_next``."""
        x0 = flow.x0(x, t)
        level, level_next = flow.level(t), flow.level(t_next)
        new = self.eta * level_next / level * math.sqrt(level**2 - level_next**2)
        old = math.sqrt(level_next**2 - new**2) / level
        moved = x0 + old * (x / flow.alpha(t) - x0)
        if self.eta > 0:
            moved = moved + new * flow.noise(x)
        return flow.alpha(t_next) * moved


@dataclass(frozen=True)
class DPMSolver:
    r"""DPM-Solver++(2M), two steps at once, of order 2; a last step to time 0 takes the estimate.

    It estimates the data once in each step, as Euler's method does.

    References
    ----------
    Lu et al. 2022, "DPM-Solver++", arXiv:2211.01095, algorithm 2.
    """

    def __call__(self, flow: Flow, x: Tensor, t: float, t_next: float) -> Tensor:
        """Return the state at ``t_next``."""
        before = flow.last
        x0 = flow.x0(x, t)
        decay = flow.level(t_next) / flow.level(t)  # e^-h, h the step of -ln(level)
        scale = flow.alpha(t_next)
        ahead = x0
        if before is not None and before[0] > t and t_next > 0:
            ratio = math.log(flow.level(before[0]) / flow.level(t)) / -math.log(decay)
            ahead = x0 + (x0 - before[1]) / (2 * ratio)
        return scale / flow.alpha(t) * decay * x + scale * (1 - decay) * ahead


@dataclass(frozen=True)
class Churn:
    r"""Noise before each step of another method, which corrects errors of earlier steps.

    Parameters
    ----------
    method
        The other method. One of several steps begins anew with each.
    amount
        How much over all steps: each raises the level by this over the number of steps, at most
        :math:`\sqrt 2`-fold.
    level_min, level_max
        Range of levels where there is any.
    noise
        Factor of the noise, slightly above 1 against a loss of detail.

    References
    ----------
    Karras et al. 2022, arXiv:2206.00364, algorithm 2.
    """

    method: Method = field(default_factory=Heun)
    amount: float = 40.0
    level_min: float = 0.0
    level_max: float = math.inf
    noise: float = 1.0

    def __post_init__(self) -> None:
        """Check the options."""
        check_churn(self.amount, s_min=self.level_min, s_max=self.level_max, s_noise=self.noise)

    def __call__(self, flow: Flow, x: Tensor, t: float, t_next: float) -> Tensor:
        """Return the state at ``t_next``."""
        gamma = min(self.amount / flow.steps, math.sqrt(2) - 1)
        churn = _Churn(gamma, self.level_min, self.level_max, self.noise, flow.noise)
        # Drawn even if none is added, so that each step has its own noise whatever the range.
        noise = churn.randn_like(x)
        level = flow.level(t)
        raised = churn.sigma_hat(level)
        if raised == level:
            return self.method(flow, x, t, t_next)
        flow.last = None  # an estimate before the noise says nothing of the slope after it
        t_raised = flow.time(raised)
        scale = flow.alpha(t_raised)
        added = scale * churn.s_noise * math.sqrt(raised**2 - level**2)
        return self.method(flow, scale / flow.alpha(t) * x + added * noise, t_raised, t_next)


METHODS: dict[str, Method] = {
    "euler": Euler(),
    "heun": Heun(),
    "euler-maruyama": EulerMaruyama(),
    "ddim": DDIM(),
    "dpm-solver": DPMSolver(),
    "churn": Churn(),
}
"""The methods with their default options, by name."""
