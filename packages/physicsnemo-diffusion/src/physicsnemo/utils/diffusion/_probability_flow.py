# SPDX-License-Identifier: Apache-2.0
"""The probability flow, and its noise schedules and scalings: Karras et al. 2022, table 1."""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

ScheduleName = Literal["vp", "ve", "linear"]
ScalingName = Literal["vp", "none"]


class Schedule(Protocol):
    """Noise schedule: the noise level as a function of time, its derivative and its inverse."""

    def sigma(self, t: float) -> float:
        """Return the noise level at a time."""

    def sigma_dot(self, t: float) -> float:
        """Return the derivative of the noise level."""

    def sigma_inv(self, sigma: float) -> float:
        """Return the time of a noise level."""


@dataclass(frozen=True)
class VariancePreserving:
    """Variance-preserving schedule of Song et al. 2021, eq. 32: a rate linear in time."""

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
        # ln(1 + sigma^2) = beta_d t^2 / 2 + beta_min t at both times: two linear equations.
        beta_d = 2 * (high - low / epsilon_s) / (1 - epsilon_s)
        return cls(beta_d, high - 0.5 * beta_d)

    def sigma(self, t: float) -> float:
        """Return the noise level at a time."""
        return math.sqrt(math.expm1(0.5 * self.beta_d * t**2 + self.beta_min * t))

    def sigma_dot(self, t: float) -> float:
        """Return the derivative of the noise level."""
        sigma = self.sigma(t)
        return 0.5 * (self.beta_min + self.beta_d * t) * (sigma + 1 / sigma)

    def sigma_inv(self, sigma: float) -> float:
        """Return the time of a noise level."""
        # This form of the quadratic formula has no division by beta_d, which may be zero.
        twice = 2 * math.log1p(sigma**2)
        return twice / (math.sqrt(self.beta_min**2 + self.beta_d * twice) + self.beta_min)


@dataclass(frozen=True)
class VarianceExploding:
    """Variance-exploding schedule of Song et al. 2021, eq. 30: Brownian motion."""

    def sigma(self, t: float) -> float:
        """Return the noise level at a time."""
        return math.sqrt(t)

    def sigma_dot(self, t: float) -> float:
        """Return the derivative of the noise level."""
        return 0.5 / math.sqrt(t)

    def sigma_inv(self, sigma: float) -> float:
        """Return the time of a noise level."""
        return sigma**2


@dataclass(frozen=True)
class Linear:
    """Linear schedule of Karras et al. 2022: the noise level is the time."""

    def sigma(self, t: float) -> float:
        """Return the noise level at a time."""
        return t

    def sigma_dot(self, t: float) -> float:
        """Return the derivative of the noise level."""
        return 1.0

    def sigma_inv(self, sigma: float) -> float:
        """Return the time of a noise level."""
        return sigma


@dataclass(frozen=True)
class ProbabilityFlow:
    r"""Probability-flow differential equation of a noise schedule and a scaling: eq. 81.

    .. math:: \frac{dx}{dt} = \left(\frac{\dot\sigma}{\sigma} + \frac{\dot s}{s}\right) x
              - \frac{\dot\sigma s}{\sigma} \, D\left(\frac{x}{s}; \sigma\right)

    Attributes
    ----------
    schedule
        :math:`\sigma(t)`.
    preserves_variance
        Whether the scaling is :math:`s = 1 / \sqrt{1 + \sigma^2}` (``"vp"``), which keeps the
        variance of the state near that of the data, or 1.
    """

    schedule: Schedule
    preserves_variance: bool

    def s(self, t: float) -> float:
        """Return the scaling at a time."""
        return 1 / math.hypot(1, self.schedule.sigma(t)) if self.preserves_variance else 1.0

    def derivative(self, t: float) -> tuple[float, float]:
        """Return dx/dt, as the factors of the state and of the denoised state."""
        sigma, sigma_dot, s = self.schedule.sigma(t), self.schedule.sigma_dot(t), self.s(t)
        growth = sigma_dot / sigma
        decay = sigma * sigma_dot * s**2 if self.preserves_variance else 0.0  # -s_dot / s
        return growth - decay, -growth * s
