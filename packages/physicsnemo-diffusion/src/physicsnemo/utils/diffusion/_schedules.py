# SPDX-License-Identifier: Apache-2.0
"""How noise level and scale depend on time: Karras et al. (2022), Table 1."""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

ScheduleName = Literal["vp", "ve", "linear"]
ScalingName = Literal["vp", "none"]


class Schedule(Protocol):
    """The noise level as a function of time, with its derivative and its inverse."""

    def sigma(self, t: float) -> float:
        """Return the noise level at a time."""

    def slope(self, t: float) -> float:
        """Return the derivative of the noise level."""

    def time(self, sigma: float) -> float:
        """Return the time of a noise level."""


@dataclass(frozen=True)
class VariancePreserving:
    """The noise of Song et al. (2021), eq. 32, whose rate grows linearly in time."""

    beta_d: float
    beta_min: float

    @classmethod
    def between(cls, sigma_min: float, sigma_max: float, epsilon_s: float) -> "VariancePreserving":
        """Fit the rates so that time runs from ``epsilon_s`` to 1 between two noise levels."""
        low, high = math.log1p(sigma_min**2), math.log1p(sigma_max**2)
        if low >= epsilon_s * (2 - epsilon_s) * high:
            raise ValueError(
                f"no vp schedule rises all the way from sigma_min={sigma_min} at time "
                f"epsilon_s={epsilon_s} to sigma_max={sigma_max} at time 1; lower sigma_min, or "
                f"set another epsilon_s"
            )
        beta_d = 2 * (high - low / epsilon_s) / (1 - epsilon_s)
        return cls(beta_d, high - 0.5 * beta_d)

    def sigma(self, t: float) -> float:
        """Return the noise level at a time."""
        return math.sqrt(math.expm1(0.5 * self.beta_d * t**2 + self.beta_min * t))

    def slope(self, t: float) -> float:
        """Return the derivative of the noise level."""
        sigma = self.sigma(t)
        return 0.5 * (self.beta_min + self.beta_d * t) * (sigma + 1 / sigma)

    def time(self, sigma: float) -> float:
        """Return the time of a noise level."""
        # This form of the quadratic formula has no division by beta_d, which may be zero.
        twice = 2 * math.log1p(sigma**2)
        return twice / (math.sqrt(self.beta_min**2 + self.beta_d * twice) + self.beta_min)


@dataclass(frozen=True)
class VarianceExploding:
    """The noise of Song et al. (2021), eq. 30, as Brownian motion: variance is time."""

    def sigma(self, t: float) -> float:
        """Return the noise level at a time."""
        return math.sqrt(t)

    def slope(self, t: float) -> float:
        """Return the derivative of the noise level."""
        return 0.5 / math.sqrt(t)

    def time(self, sigma: float) -> float:
        """Return the time of a noise level."""
        return sigma**2


@dataclass(frozen=True)
class Linear:
    """The noise of Karras et al. (2022): its level is time."""

    def sigma(self, t: float) -> float:
        """Return the noise level at a time."""
        return t

    def slope(self, t: float) -> float:
        """Return the derivative of the noise level."""
        return 1.0

    def time(self, sigma: float) -> float:
        """Return the time of a noise level."""
        return sigma


@dataclass(frozen=True)
class Path:
    """The probability-flow equation of a schedule and a scaling: Karras et al. (2022), eq. 81.

    For a state x of noise level n and scale s, both functions of time, and a net D, it is
    x' = (n'/n + s'/s) x - (n'/n) s D(x/s, n).
    """

    schedule: Schedule
    preserves_variance: bool
    """Whether the scale keeps the variance of the state near that of the data (``"vp"``)."""

    def scale(self, t: float) -> float:
        """Return what the sum of signal and noise is multiplied by."""
        return 1 / math.hypot(1, self.schedule.sigma(t)) if self.preserves_variance else 1.0

    def coefficients(self, t: float) -> tuple[float, float]:
        """Return the factors of the state and of the denoised state in the derivative."""
        sigma, slope, scale = self.schedule.sigma(t), self.schedule.slope(t), self.scale(t)
        growth = slope / sigma
        decay = sigma * slope * scale**2 if self.preserves_variance else 0.0
        return growth - decay, -growth * scale
