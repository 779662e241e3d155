# SPDX-License-Identifier: Apache-2.0
r"""Noise schedules: :math:`x_t = \alpha(t)\, x_0 + \sigma(t)\, n`, from data to noise."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from physicsnemo.diffusion._noise import Generator, draw_normal, draw_student
from physicsnemo.nn.checks import check_choice
from physicsnemo.utils.diffusion._checks import check_numbers
from physicsnemo.utils.diffusion._probability_flow import (
    Linear,
    ProbabilityFlow,
    VarianceExploding,
    VariancePreserving,
)
from physicsnemo.utils.diffusion._time_steps import (
    edm_levels,
    iddpm_levels,
    iddpm_schedule,
    ve_levels,
)

Levels = Literal["log-normal", "log-uniform"]


@dataclass(frozen=True)
class Schedule(ABC):
    r"""What noise there is at a time, the times to sample at, and those to train at.

    The *level* of the noise is :math:`\sigma / \alpha`, its standard deviation relative to the
    data. A subclass is a frozen dataclass of numbers and texts, so that files can hold it.
    """

    @property
    @abstractmethod
    def flow(self) -> ProbabilityFlow:
        """The probability-flow differential equation, in numbers rather than tensors."""

    @abstractmethod
    def level(self, t: Tensor) -> Tensor:
        """Return the level of the noise at times of any shape."""

    @abstractmethod
    def time(self, level: Tensor) -> Tensor:
        """Return the times of levels of any shape."""

    @abstractmethod
    def label(self, t: Tensor) -> Tensor:
        """Return what a network is told of times: a number of order one, or a step."""

    @abstractmethod
    def times(self, steps: int) -> list[float]:
        """Return the times where so many steps begin, the noisiest first, and then 0."""

    @abstractmethod
    def draw(self, normal: Tensor) -> Tensor:
        """Turn standard normal numbers into times, distributed as training wants them."""

    def alpha(self, t: Tensor) -> Tensor:
        r"""Return :math:`\alpha`, the factor of the data."""
        return (1 + self.level(t).square()).rsqrt() if self.flow.preserves_variance else t * 0 + 1

    def sigma(self, t: Tensor) -> Tensor:
        r"""Return :math:`\sigma`, the factor of the noise."""
        return self.alpha(t) * self.level(t)

    @property
    def spread(self) -> float:
        """The standard deviation of the noise :math:`n`."""
        return 1.0

    def noise(self, shape: Sequence[int], like: Tensor, generator: Generator = None) -> Tensor:
        """Draw the noise :math:`n`, of the type and on the device of a tensor.

        Parameters
        ----------
        shape
            Shape (batch, ...).
        like
            The tensor.
        generator
            A ``torch.Generator``, or a
            :class:`~physicsnemo.utils.diffusion.StackedRandomGenerator` with a seed for each
            sample; by default PyTorch's.
        """
        return draw_normal(shape, like, generator)

    def record(self) -> dict[str, Any]:
        """Return what JSON can hold of the schedule: its name and its numbers."""
        return {"name": type(self).__name__, **asdict(self)}

    @staticmethod
    def restore(record: "Schedule | Mapping[str, Any]") -> "Schedule":
        """Return the schedule of a record, or the schedule itself.

        Raises
        ------
        ValueError
            If there is no schedule of that name, or a number is out of range.
        """
        if isinstance(record, Schedule):
            return record
        kinds = {kind.__name__: kind for kind in (EDM, VE, VP, IDDPM)}
        check_choice("the name of the schedule", record.get("name"), kinds)
        return kinds[record["name"]](**{key: record[key] for key in record if key != "name"})

    def __post_init__(self) -> None:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        low, high = values.get("sigma_min", 0.0), values.get("sigma_max", math.inf)
        free = {"levels", "P_mean", "P_std", "nu", "beta_d"}  # texts, None or not above 0
        check_numbers(1, **{key: value for key, value in values.items() if key not in free})
        if not low < high:
            raise ValueError(f"expected sigma_min < sigma_max, got {low} and {high}")


@dataclass(frozen=True)
class EDM(Schedule):
    r"""Schedule of EDM: time is the noise level, and data keep their scale.

    Parameters
    ----------
    sigma_min, sigma_max
        Noise levels of the last and the first step of sampling.
    rho
        How much steps gather at low levels: the ``rho``-th roots of levels are even.
    P_mean, P_std
        Mean and standard deviation of the logarithm of levels in training.
    levels
        Levels in training: ``"log-normal"``, or ``"log-uniform"`` from ``sigma_min`` to
        ``sigma_max``.
    nu
        Degrees of freedom, above 2, of noise of Student's t distribution, each sample a vector;
        None for normal noise.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    References
    ----------
    Karras et al. 2022, arXiv:2206.00364, eq. 5 and table 1; with ``nu``, Pandey et al. 2024,
    arXiv:2410.14171.

    Examples
    --------
    >>> from physicsnemo.diffusion import EDM
    >>> [round(time, 3) for time in EDM().times(steps=3)]
    [80.0, 2.515, 0.002, 0.0]
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    P_mean: float = -1.2
    P_std: float = 1.2
    levels: Levels = "log-normal"
    nu: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("levels", self.levels, get_args(Levels))
        if self.P_std < 0:
            raise ValueError(f"expected P_std of at least 0, got {self.P_std}")
        if self.nu is not None and not self.nu > 2:
            raise ValueError(f"expected nu above 2, where noise has a variance, got {self.nu}")

    @property
    def flow(self) -> ProbabilityFlow:
        """The probability flow."""
        return ProbabilityFlow(Linear(), preserves_variance=False)

    @property
    def spread(self) -> float:
        """The standard deviation of the noise: above 1 where its tails are heavy."""
        return 1.0 if self.nu is None else math.sqrt(self.nu / (self.nu - 2))

    def noise(self, shape: Sequence[int], like: Tensor, generator: Generator = None) -> Tensor:
        """Draw the noise, as :meth:`Schedule.noise` describes."""
        if self.nu is None:
            return draw_normal(shape, like, generator)
        return draw_student(self.nu, shape, like, generator)

    def level(self, t: Tensor) -> Tensor:
        """Return the time."""
        return t

    def time(self, level: Tensor) -> Tensor:
        """Return the level."""
        return level

    def label(self, t: Tensor) -> Tensor:
        """Return a quarter of the logarithm of the noise's standard deviation."""
        return (t * self.spread).log() / 4

    def times(self, steps: int) -> list[float]:
        """Return times whose ``rho``-th roots are even."""
        check_numbers(steps)
        return [*edm_levels(steps, self.sigma_min, self.sigma_max, self.rho), 0.0]

    def draw(self, normal: Tensor) -> Tensor:
        """Turn standard normal numbers into levels."""
        if self.levels == "log-uniform":
            return log_uniform(normal, self.sigma_min, self.sigma_max)
        return (self.P_mean + self.P_std * normal).exp()


@dataclass(frozen=True)
class VE(Schedule):
    """Variance-exploding schedule: Brownian motion, whose variance is the time.

    Parameters
    ----------
    sigma_min, sigma_max
        Noise levels of the last and the first step; in training, levels are log-uniform between.

    References
    ----------
    Song et al. 2021, arXiv:2011.13456, in the form of Karras et al. 2022, table 1.
    """

    sigma_min: float = 0.02
    sigma_max: float = 100.0

    @property
    def flow(self) -> ProbabilityFlow:
        """The probability flow."""
        return ProbabilityFlow(VarianceExploding(), preserves_variance=False)

    def level(self, t: Tensor) -> Tensor:
        """Return the square root of the time."""
        return t.sqrt()

    def time(self, level: Tensor) -> Tensor:
        """Return the square of the level."""
        return level.square()

    def label(self, t: Tensor) -> Tensor:
        """Return the logarithm of half the level."""
        return (0.5 * self.level(t)).log()

    def times(self, steps: int) -> list[float]:
        """Return times in geometric progression."""
        check_numbers(steps)
        return [*(level**2 for level in ve_levels(steps, self.sigma_min, self.sigma_max)), 0.0]

    def draw(self, normal: Tensor) -> Tensor:
        """Turn standard normal numbers into times with log-uniform levels."""
        return log_uniform(normal, self.sigma_min, self.sigma_max).square()


@dataclass(frozen=True)
class VP(Schedule):
    r"""Variance-preserving schedule: :math:`\alpha^2 = e^{-\beta_d t^2/2 - \beta_{min} t}`.

    The level at time 1 is 152 by default; data are scaled by :math:`\alpha` so that the variance
    of :math:`x_t` is 1 where that of the data is.

    Parameters
    ----------
    beta_min, beta_d
        Rate of noise at time 0, and how much it has grown by time 1.
    epsilon, t_max
        Earliest and latest time of sampling and training; the earliest is above 0.

    References
    ----------
    Song et al. 2021, arXiv:2011.13456, eq. 32 and 33.
    """

    beta_min: float = 0.1
    beta_d: float = 19.9
    epsilon: float = 1e-3
    t_max: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.beta_d >= 0 and self.epsilon < self.t_max):
            raise ValueError(
                f"expected beta_d of at least 0 and epsilon below t_max, got {self.beta_d}, "
                f"{self.epsilon} and {self.t_max}"
            )

    @property
    def flow(self) -> ProbabilityFlow:
        """The probability flow."""
        rates = VariancePreserving(self.beta_d, self.beta_min)
        return ProbabilityFlow(rates, preserves_variance=True)

    def level(self, t: Tensor) -> Tensor:
        """Return the level of the noise at times of any shape."""
        return (0.5 * self.beta_d * t.square() + self.beta_min * t).expm1().sqrt()

    def time(self, level: Tensor) -> Tensor:
        """Return the times of levels of any shape."""
        # The quadratic formula, in the form that does not subtract two close numbers.
        twice = 2 * level.square().log1p()
        return twice / ((self.beta_min**2 + self.beta_d * twice).sqrt() + self.beta_min)

    def label(self, t: Tensor) -> Tensor:
        """Return the time in thousandths, as steps of training were once counted."""
        return 999 * t

    def times(self, steps: int) -> list[float]:
        """Return even times."""
        check_numbers(steps)
        size = (self.t_max - self.epsilon) / max(steps - 1, 1)
        return [*(self.t_max - i * size for i in range(steps)), 0.0]

    def draw(self, normal: Tensor) -> Tensor:
        """Turn standard normal numbers into uniform times."""
        share: Tensor = torch.special.ndtr(normal)
        return self.epsilon + (self.t_max - self.epsilon) * share


@dataclass(frozen=True)
class IDDPM(Schedule):
    r"""Schedule of improved denoising diffusion: discrete levels, and time is the level.

    Parameters
    ----------
    sigma_min, sigma_max
        Range of the levels to sample and to train at.
    C_1, C_2, M
        Constants of the levels; M is their number.

    References
    ----------
    Nichol and Dhariwal 2021, arXiv:2102.09672, in the form of Karras et al. 2022, table 1.
    """

    sigma_min: float = 0.002
    sigma_max: float = 81.0
    C_1: float = 0.001
    C_2: float = 0.008
    M: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        self.times(1)  # which refuses a range without levels

    @property
    def flow(self) -> ProbabilityFlow:
        """The probability flow."""
        return ProbabilityFlow(Linear(), preserves_variance=False)

    def level(self, t: Tensor) -> Tensor:
        """Return the time."""
        return t

    def time(self, level: Tensor) -> Tensor:
        """Return the level."""
        return level

    def label(self, t: Tensor) -> Tensor:
        """Return the step of the nearest level, of 0 for the lowest to M - 1."""
        away = (t.unsqueeze(-1) - self.all_levels(t)).abs()
        return (self.M - 1 - away.argmin(dim=-1)).to(t.dtype)

    def all_levels(self, like: Tensor) -> Tensor:
        r"""Return the M levels above 0, the noisiest first, on the device of a tensor.

        They are those of
        :class:`~physicsnemo.models.diffusion.preconditioning.iDDPMPrecond`, computed on the
        device, since copies to it would wait: :math:`u_j^2 + 1` is a product of ratios.
        """
        angles = torch.arange(self.M + 1, dtype=torch.float64, device=like.device)
        share = (angles * (0.5 * math.pi / self.M / (self.C_2 + 1))).sin().square()
        ratios = (share[:-1] / share[1:]).clamp(min=self.C_1)
        growth = -ratios.log().flip(0).cumsum(0).flip(0)
        return growth.expm1().sqrt().to(like.dtype)

    def times(self, steps: int) -> list[float]:
        """Return an even choice of the levels within the range."""
        check_numbers(steps)
        levels = iddpm_levels(
            steps, self.sigma_min, self.sigma_max, C_1=self.C_1, C_2=self.C_2, M=self.M
        )
        return [*levels, 0.0]

    def draw(self, normal: Tensor) -> Tensor:
        """Turn standard normal numbers into levels within the range, each as likely."""
        first, number = _within(self)
        index = (torch.special.ndtr(normal) * number).long().clamp(max=number - 1)
        return self.all_levels(normal)[first + index]


def log_uniform(normal: Tensor, low: float, high: float) -> Tensor:
    """Turn standard normal numbers into levels with uniform logarithms between two."""
    # By their distribution function, normal numbers become uniform ones.
    share: Tensor = torch.special.ndtr(normal)
    return low * (math.log(high / low) * share).exp()


@cache
def _within(schedule: IDDPM) -> tuple[int, int]:
    """Return the index of the noisiest level within the range, and how many there are."""
    levels = iddpm_schedule(schedule.M, schedule.C_1, schedule.C_2)
    inside = [schedule.sigma_min <= level <= schedule.sigma_max for level in levels]
    return inside.index(True), sum(inside)
