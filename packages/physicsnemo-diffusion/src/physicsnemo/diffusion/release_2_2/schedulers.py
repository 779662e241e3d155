# SPDX-License-Identifier: Apache-2.0
"""Noise schedulers of release 2.2: :class:`~physicsnemo.diffusion.Schedule` by other names."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from physicsnemo.diffusion._conversions import (
    epsilon_of_score,
    epsilon_of_x0,
    score_of_epsilon,
    x0_of_epsilon,
)
from physicsnemo.diffusion._noise import Generator, draw_normal
from physicsnemo.diffusion._scalings import Scaling, error_weight
from physicsnemo.diffusion.release_2_2.protocols import Predictor
from physicsnemo.diffusion.schedules import EDM, IDDPM, VE, VP, Schedule
from physicsnemo.nn.checks import check_choice

Denoising = Literal["ode", "sde"]


class LinearGaussianNoiseScheduler(ABC):
    r"""Noise :math:`x_t = \alpha(t)\, x_0 + \sigma(t)\, n`, the base of all schedulers.

    A subclass gives the abstract methods. Slopes of :math:`\alpha` and :math:`\sigma` follow by
    differentiation unless it gives them too.
    """

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Return the factor of the noise at times of any shape."""

    @abstractmethod
    def sigma_inv(self, sigma: Tensor) -> Tensor:
        """Return the times of factors of the noise."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Return the factor of the data at times of any shape."""

    @abstractmethod
    def timesteps(
        self, num_steps: int, *, device: Any = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Return the times of so many steps, decreasing, and 0 at last."""

    @abstractmethod
    def sample_time(
        self,
        N: int,  # noqa: N803
        *,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Draw N times for training."""

    @abstractmethod
    def loss_weight(self, t: Tensor) -> Tensor:
        """Return the weights of square errors of data at times (N,), of shape (N,) or (N, C)."""

    def sigma_dot(self, t: Tensor) -> Tensor:
        """Return the slope of :meth:`sigma`."""
        return _slope(self.sigma, t)

    def alpha_dot(self, t: Tensor) -> Tensor:
        """Return the slope of :meth:`alpha`."""
        return _slope(self.alpha, t)

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        r"""Return :math:`f = \dot\alpha / \alpha\; x`."""
        return _like(self.alpha_dot(t) / self.alpha(t), x) * x

    def diffusion(self, x: Tensor, t: Tensor) -> Tensor:
        r"""Return :math:`g^2 = 2\sigma\dot\sigma - 2\sigma^2\dot\alpha/\alpha`, to multiply x."""
        sigma = self.sigma(t)
        growth = self.sigma_dot(t) - sigma * self.alpha_dot(t) / self.alpha(t)
        return _like(2 * sigma * growth, x)

    def x0_to_epsilon(self, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the noise where the data are these."""
        return epsilon_of_x0(x0, x_t, *self._factors(t, x_t))

    def epsilon_to_x0(self, epsilon: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the data where the noise is this."""
        return x0_of_epsilon(epsilon, x_t, *self._factors(t, x_t))

    def epsilon_to_score(self, epsilon: Tensor, t: Tensor) -> Tensor:
        """Return the score where the noise is this."""
        return score_of_epsilon(epsilon, _like(self.sigma(t), epsilon))

    def score_to_epsilon(self, score: Tensor, t: Tensor) -> Tensor:
        """Return the noise where the score is this."""
        return epsilon_of_score(score, _like(self.sigma(t), score))

    def x0_to_score(self, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the score where the data are these."""
        return self.epsilon_to_score(self.x0_to_epsilon(x0, x_t, t), t)

    def score_to_x0(self, score: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the data where the score is this."""
        return self.epsilon_to_x0(self.score_to_epsilon(score, t), x_t, t)

    def add_noise(self, x0: Tensor, time: Tensor, *, generator: Generator = None) -> Tensor:
        """Return data with noise at times (batch,)."""
        alpha, sigma = self._factors(time, x0)
        return alpha * x0 + sigma * self._noise(x0.shape, x0, generator)

    def init_latents(
        self,
        spatial_shape: Sequence[int],
        tN: Tensor,  # noqa: N803
        *,
        device: Any = None,
        dtype: torch.dtype | None = None,
        generator: Generator = None,
    ) -> Tensor:
        """Draw the state to begin sampling with.

        Parameters
        ----------
        spatial_shape
            Shape of a sample, its channels first.
        tN
            First times, of shape (batch,).
        device, dtype
            Of the result, by default PyTorch's.
        generator
            Source of noise, as :func:`physicsnemo.diffusion.sample` takes it.
        """
        like = torch.empty(0, device=device, dtype=dtype)
        noise = self._noise((len(tN), *spatial_shape), like, generator)
        return _like(self.sigma(tN.to(like)), noise) * noise

    def get_denoiser(
        self,
        *,
        score_predictor: Predictor | None = None,
        x0_predictor: Predictor | None = None,
        epsilon_predictor: Predictor | None = None,
        denoising_type: Denoising = "ode",
    ) -> "RightHandSide":
        """Return the derivative of the state backwards in time.

        Parameters
        ----------
        score_predictor, x0_predictor, epsilon_predictor
            One of them, ``predictor(x, t)``.
        denoising_type
            ``"ode"`` for the probability flow, ``"sde"`` for the drift of the stochastic equation,
            to which a solver adds noise.

        Raises
        ------
        ValueError
            Unless there is exactly one predictor, or the type is unknown.
        """
        check_choice("denoising_type", denoising_type, get_args(Denoising))
        given = {"score": score_predictor, "x0": x0_predictor, "epsilon": epsilon_predictor}
        predictors = {kind: it for kind, it in given.items() if it is not None}
        if len(predictors) != 1:
            raise ValueError(
                f"expected one of score_predictor, x0_predictor and epsilon_predictor, got "
                f"{' and '.join(f'{kind}_predictor' for kind in predictors) or 'none'}"
            )
        ((kind, predictor),) = predictors.items()
        return RightHandSide(self, predictor, kind, 0.5 if denoising_type == "ode" else 1.0)

    def _noise(self, shape: Sequence[int], like: Tensor, generator: Generator) -> Tensor:
        return draw_normal(shape, like, generator)

    def _factors(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return _like(self.alpha(t), x), _like(self.sigma(t), x)


@dataclass(frozen=True)
class RightHandSide:
    r"""The derivative of the state: :math:`f - g^2 s / 2` of the flow, :math:`f - g^2 s` else.

    Parameters
    ----------
    scheduler
        Gives :math:`f` and :math:`g^2`.
    predictor
        ``predictor(x, t)``.
    predicts
        ``"score"``, ``"x0"`` or ``"epsilon"``.
    share
        Of the score :math:`s`: 0.5 or 1.
    """

    scheduler: LinearGaussianNoiseScheduler
    predictor: Predictor
    predicts: str
    share: float

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the derivative of the state at times (batch,)."""
        score = self.predictor(x, t)
        if self.predicts == "x0":
            score = self.scheduler.x0_to_score(score, x, t)
        elif self.predicts == "epsilon":
            score = self.scheduler.epsilon_to_score(score, t)
        return self.scheduler.drift(x, t) - self.share * self.scheduler.diffusion(x, t) * score


class ScheduledNoise(LinearGaussianNoiseScheduler):
    """A scheduler of a schedule here.

    Attributes
    ----------
    schedule
        The schedule.
    """

    schedule: Schedule
    _scaling: Scaling | None = None
    _sigma_data: float | Tensor = 1.0

    def sigma(self, t: Tensor) -> Tensor:
        """Return the factor of the noise at times of any shape."""
        return self.schedule.sigma(t)

    def sigma_inv(self, sigma: Tensor) -> Tensor:
        """Return the times of factors of the noise."""
        preserves = self.schedule.flow.preserves_variance
        level = sigma / (1 - sigma.square()).sqrt() if preserves else sigma
        return self.schedule.time(level)

    def alpha(self, t: Tensor) -> Tensor:
        """Return the factor of the data at times of any shape."""
        return self.schedule.alpha(t)

    def timesteps(
        self, num_steps: int, *, device: Any = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Return the times of so many steps, decreasing, and 0 at last."""
        default = torch.get_default_dtype() if dtype is None else dtype
        return torch.tensor(self.schedule.times(num_steps), device=device, dtype=default)

    def sample_time(
        self,
        N: int,  # noqa: N803
        *,
        device: Any = None,
        dtype: torch.dtype | None = None,
        generator: Generator = None,
    ) -> Tensor:
        """Draw N times for training."""
        like = torch.empty(0, device=device, dtype=dtype)
        return self.schedule.draw(draw_normal((N,), like, generator))

    def loss_weight(self, t: Tensor) -> Tensor:
        """Return the weights of square errors of data at times (N,), of shape (N,) or (N, C)."""
        level = self.schedule.level(t) * self.schedule.spread
        if not isinstance(self._sigma_data, Tensor):
            return error_weight(self._scaling, level, self._sigma_data)
        return error_weight(self._scaling, level[:, None], self._sigma_data.to(level))

    def _noise(self, shape: Sequence[int], like: Tensor, generator: Generator) -> Tensor:
        return self.schedule.noise(shape, like, generator)


class _EDMNoise(ScheduledNoise):
    _scaling = "edm"

    def __init__(self, schedule: EDM, sigma_data: float | Sequence[float] | Tensor) -> None:
        self.schedule = schedule
        numbers = torch.as_tensor(sigma_data).tolist()
        self._sigma_data = numbers if isinstance(numbers, float) else torch.tensor(numbers)

    @property
    def sigma_data(self) -> Tensor:
        """Standard deviation of the data, or one for each channel."""
        return torch.as_tensor(self._sigma_data)


class EDMNoiseScheduler(_EDMNoise):
    """:class:`~physicsnemo.diffusion.EDM`, with log-normal levels in training.

    Parameters
    ----------
    sigma_min, sigma_max, rho, P_mean, P_std
        As of :class:`~physicsnemo.diffusion.EDM`.
    sigma_data
        Standard deviation of the data for the weight of errors, one number or one for each channel.

    Examples
    --------
    >>> from physicsnemo.diffusion.noise_schedulers import EDMNoiseScheduler
    >>> EDMNoiseScheduler().timesteps(3)
    tensor([8.0000e+01, 2.5152e+00, 2.0000e-03, 0.0000e+00])
    """

    def __init__(
        self,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        rho: float = 7.0,
        sigma_data: float | Sequence[float] | Tensor = 0.5,
        P_mean: float = -1.2,  # noqa: N803
        P_std: float = 1.2,  # noqa: N803
    ) -> None:
        super().__init__(EDM(sigma_min, sigma_max, rho, P_mean, P_std), sigma_data)


class EDMLogUniformNoiseScheduler(_EDMNoise):
    """:class:`~physicsnemo.diffusion.EDM`, with log-uniform levels in training.

    Parameters
    ----------
    sigma_min, sigma_max, rho, sigma_data
        As of :class:`EDMNoiseScheduler`.
    """

    def __init__(
        self,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        rho: float = 7.0,
        sigma_data: float | Sequence[float] | Tensor = 0.5,
    ) -> None:
        super().__init__(EDM(sigma_min, sigma_max, rho, levels="log-uniform"), sigma_data)


class StudentTEDMNoiseScheduler(_EDMNoise):
    """:class:`~physicsnemo.diffusion.EDM` with noise of Student's t distribution.

    Parameters
    ----------
    sigma_min, sigma_max, rho, sigma_data, P_mean, P_std
        As of :class:`EDMNoiseScheduler`.
    nu
        Degrees of freedom, above 2.
    """

    def __init__(
        self,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        rho: float = 7.0,
        nu: float = 10,
        sigma_data: float | Sequence[float] | Tensor = 0.5,
        P_mean: float = -1.2,  # noqa: N803
        P_std: float = 1.2,  # noqa: N803
    ) -> None:
        super().__init__(EDM(sigma_min, sigma_max, rho, P_mean, P_std, nu=nu), sigma_data)


class VENoiseScheduler(ScheduledNoise):
    """:class:`~physicsnemo.diffusion.VE`, whose time is the variance of the noise.

    Parameters
    ----------
    sigma_min, sigma_max
        As of :class:`~physicsnemo.diffusion.VE`.
    """

    def __init__(self, sigma_min: float = 0.02, sigma_max: float = 100.0) -> None:
        self.schedule = VE(sigma_min, sigma_max)


class VPNoiseScheduler(ScheduledNoise):
    """:class:`~physicsnemo.diffusion.VP`.

    Parameters
    ----------
    beta_min, beta_d, epsilon_s, t_max
        As of :class:`~physicsnemo.diffusion.VP`, where ``epsilon_s`` is called ``epsilon``.
    """

    def __init__(
        self,
        beta_min: float = 0.1,
        beta_d: float = 19.1,
        epsilon_s: float = 1e-3,
        t_max: float = 1.0,
    ) -> None:
        self.schedule = VP(beta_min, beta_d, epsilon_s, t_max)


class IDDPMNoiseScheduler(ScheduledNoise):
    """:class:`~physicsnemo.diffusion.IDDPM`.

    Parameters
    ----------
    sigma_min, sigma_max, C_1, C_2, M
        As of :class:`~physicsnemo.diffusion.IDDPM`.
    """

    def __init__(
        self,
        sigma_min: float = 0.002,
        sigma_max: float = 81.0,
        C_1: float = 0.001,  # noqa: N803
        C_2: float = 0.008,  # noqa: N803
        M: int = 1000,  # noqa: N803
    ) -> None:
        self.schedule = IDDPM(sigma_min, sigma_max, C_1, C_2, M)


def _like(values: Tensor, x: Tensor) -> Tensor:
    """Return values of samples, of a shape to multiply fields with."""
    return values.reshape(-1, *[1] * (x.ndim - 1))


def _slope(function: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    t = t.contiguous()  # as an expanded tensor has no room for slopes
    slope: Tensor = torch.func.jvp(function, (t,), (torch.ones_like(t),))[1]
    return slope
