# SPDX-License-Identifier: Apache-2.0
"""Preconditioners of release 2.2, around any network.

:class:`~physicsnemo.diffusion.Diffusion` does what all of them do; they read the files of that
release, and have its names and the keys of its states.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from physicsnemo.diffusion._conditions import Condition, each_tensor
from physicsnemo.diffusion._scalings import scalings
from physicsnemo.diffusion.schedules import IDDPM, VE, VP
from physicsnemo.models.diffusion._constants import rounded
from physicsnemo.models.diffusion.preconditioning import Scalings
from physicsnemo.models.history import Constant
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.nn.numerics import PAPER, check_numerics, implied
from physicsnemo.utils.diffusion._time_steps import iddpm_schedule

Coefficients = tuple[Tensor, Tensor, Tensor, Tensor]

_MODULE = "physicsnemo.diffusion.preconditioners.preconditioners"


@dataclass
class MetaData(ModelMetaData):
    """What the preconditioners support is up to their networks."""

    name: str = "Preconditioner"


class BaseAffinePreconditioner(Module):
    r"""Preconditioner :math:`D(x, t) = c_{skip}\, x + c_{out}\, F(c_{in}\, x;\, c_{noise})`.

    A subclass gives :meth:`compute_coefficients`, and :meth:`sigma` where the level of the noise is
    not the time.

    Parameters
    ----------
    model
        The network :math:`F`, ``model(x, c_noise, condition=condition)``, such as a
        :class:`ConcatConditionWrapper`.
    meta
        What the preconditioner supports.

    Attributes
    ----------
    model
        The network.
    """

    def __init__(self, model: nn.Module, meta: ModelMetaData | None = None) -> None:
        super().__init__(meta=MetaData() if meta is None else meta)
        self.model = model

    def compute_coefficients(self, sigma: Tensor) -> Coefficients:
        """Return c_in, c_noise, c_out and c_skip at levels (batch, 1, ...), in a subclass."""
        raise NotImplementedError(f"{type(self).__name__} has no compute_coefficients")

    def sigma(self, t: Tensor) -> Tensor:
        """Return the levels of the noise at times (batch,): by default the times."""
        return t

    def forward(
        self, x: Tensor, t: Tensor, condition: Condition = None, **model_kwargs: Any
    ) -> Tensor:
        """Estimate the data.

        Parameters
        ----------
        x
            Noisy data of shape (batch, channels, ...).
        t
            Times of shape (batch,).
        condition
            What the network takes as ``condition``; it is not passed if it is None.
        **model_kwargs
            Further arguments of the network.

        Returns
        -------
        The estimate, of the shape of ``x``.

        Raises
        ------
        ValueError
            If the times, or a tensor of the condition, are for another number of samples.
        """
        check_times(t, x)
        each_tensor(condition, lambda name, it: _checked(name, it, x))
        self._validate_input(x)
        sigma = self.sigma(t).reshape(-1, *[1] * (x.ndim - 1))
        c_in, c_noise, c_out, c_skip = self.compute_coefficients(sigma)
        given = {} if condition is None else {"condition": condition}
        output: Tensor = self.model(c_in * x, c_noise.flatten(), **given, **model_kwargs)
        return c_skip * x + c_out * output

    def _validate_input(self, x: Tensor) -> None:
        """Raise an error if these data do not fit, in subclasses."""


class EDMPreconditioner(BaseAffinePreconditioner):
    r"""Preconditioner of EDM, to unit variance of the network's input and target.

    Parameters
    ----------
    model
        As of :class:`BaseAffinePreconditioner`.
    sigma_data
        Standard deviation of the data, or one for each channel.

    Raises
    ------
    ValueError
        If ``sigma_data`` is not above 0, or for another number of channels than the data.

    References
    ----------
    Karras et al. 2022, arXiv:2206.00364, table 1.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.diffusion.preconditioners import EDMPreconditioner
    >>> from physicsnemo.diffusion.utils import ConcatConditionWrapper
    >>> from physicsnemo.models.diffusion_unets import SongUNet
    >>> network = SongUNet(8, in_channels=2 + 1, out_channels=2, model_channels=8, channel_mult=[1])
    >>> model = EDMPreconditioner(ConcatConditionWrapper(network))
    >>> model(torch.randn(4, 2, 8, 8), torch.rand(4), torch.randn(4, 1, 8, 8)).shape
    torch.Size([4, 2, 8, 8])
    """

    _recorded_as = f"{_MODULE}.EDMPreconditioner"
    _state_history: ClassVar[tuple[Constant, ...]] = (Constant("sigma_data"),)
    sigma_data: Tensor

    def __new__(cls, /, *args: Any, **kwargs: Any) -> Self:
        """Record a tensor's numbers, which a file can hold."""
        named = {name: _storable(value) for name, value in kwargs.items()}
        return super().__new__(cls, *map(_storable, args), **named)

    def __init__(
        self, model: nn.Module, sigma_data: float | Sequence[float] | Tensor = 0.5
    ) -> None:
        super().__init__(model)
        values = torch.as_tensor(sigma_data, dtype=torch.float64)
        if values.ndim > 1 or not bool((values > 0).all()):
            raise ValueError(
                f"expected sigma_data above 0, one number or one for each channel, got {sigma_data}"
            )
        self.register_buffer("sigma_data", rounded(values))

    def compute_coefficients(self, sigma: Tensor) -> Coefficients:
        """Return c_in, c_noise, c_out and c_skip, for each channel if ``sigma_data`` is."""
        of_channels = self.sigma_data.reshape(-1, *[1] * (sigma.ndim - 2))
        return _in_order(scalings("edm", sigma, sigma.log() / 4, of_channels.to(sigma)))

    def _validate_input(self, x: Tensor) -> None:
        if self.sigma_data.numel() not in (1, x.shape[1]):
            raise ValueError(
                f"sigma_data is for {self.sigma_data.numel()} channels, got x of shape "
                f"{tuple(x.shape)}"
            )


class VEPreconditioner(BaseAffinePreconditioner):
    """Preconditioner of variance-exploding diffusion, whose time is the variance of the noise.

    Parameters
    ----------
    model
        As of :class:`BaseAffinePreconditioner`.
    numerics
        ``"paper"``, or as release 2.2 has it, ``"reference-2.2"``: the time is taken for the level,
        although that of :class:`VENoiseScheduler` is its square, and so what the network returns
        has the size of the level's inverse. Files of that release need it.

    References
    ----------
    Song et al. 2021, arXiv:2011.13456; Karras et al. 2022, arXiv:2206.00364, table 1.
    """

    _recorded_as = f"{_MODULE}.VEPreconditioner"
    _implied_args = implied()

    def __init__(self, model: nn.Module, numerics: str = PAPER) -> None:
        super().__init__(model)
        check_numerics(numerics)
        self._time_is_level = numerics != PAPER

    def sigma(self, t: Tensor) -> Tensor:
        """Return the levels of the noise at times."""
        return t if self._time_is_level else VE().level(t)

    def compute_coefficients(self, sigma: Tensor) -> Coefficients:
        """Return c_in, c_noise, c_out and c_skip."""
        label = VE().label(VE().time(sigma))
        return _in_order(scalings("ve", sigma, label, 1.0))


class VPPreconditioner(BaseAffinePreconditioner):
    r"""Preconditioner of variance-preserving diffusion.

    Parameters
    ----------
    model
        As of :class:`BaseAffinePreconditioner`.
    beta_d, beta_min
        As of :class:`~physicsnemo.diffusion.VP`. Those of the scheduler must be the same, and by
        default are not, as in release 2.2: ``VPNoiseScheduler(beta_d=19.9)`` is.
    M
        Number of steps that times are told in.
    numerics
        ``"paper"``, or as release 2.2 has it, ``"reference-2.2"``: the state is taken to be
        :math:`x_t / \alpha`, although that of :class:`VPNoiseScheduler` is :math:`x_t`, so that the
        network's input is small. Files of that release need it.

    References
    ----------
    Song et al. 2021, arXiv:2011.13456; Karras et al. 2022, arXiv:2206.00364, table 1.
    """

    _recorded_as = f"{_MODULE}.VPPreconditioner"
    _implied_args = implied()
    _state_history: ClassVar[tuple[Constant, ...]] = tuple(
        Constant(name) for name in ("beta_d", "beta_min", "M")
    )

    def __init__(
        self,
        model: nn.Module,
        beta_d: float = 19.9,
        beta_min: float = 0.1,
        M: int = 1000,  # noqa: N803
        numerics: str = PAPER,
    ) -> None:
        super().__init__(model)
        check_numerics(numerics)
        self._is_scaled = numerics == PAPER
        self._schedule, self._steps = VP(beta_min, beta_d), M
        _hold(self, beta_d=beta_d, beta_min=beta_min, M=M)

    def sigma(self, t: Tensor) -> Tensor:
        """Return the levels of the noise, relative to the data, at times."""
        return self._schedule.level(t)

    def compute_coefficients(self, sigma: Tensor) -> Coefficients:
        """Return c_in, c_noise, c_out and c_skip."""
        label = (self._steps - 1) * self._schedule.time(sigma)
        c = scalings("vp", sigma, label, 1.0)
        # Both are of x_t / alpha, and it is x_t that they multiply.
        alpha = (1 + sigma.square()).rsqrt() if self._is_scaled else 1.0
        return _in_order(c._replace(c_in=c.c_in / alpha, c_skip=c.c_skip / alpha))


class IDDPMPreconditioner(BaseAffinePreconditioner):
    """Preconditioner of improved denoising diffusion.

    Parameters
    ----------
    model
        As of :class:`BaseAffinePreconditioner`.
    C_1, C_2, M
        As of :class:`~physicsnemo.diffusion.IDDPM`.

    References
    ----------
    Nichol and Dhariwal 2021, arXiv:2102.09672; Karras et al. 2022, arXiv:2206.00364, table 1.
    """

    _recorded_as = f"{_MODULE}.IDDPMPreconditioner"
    _state_history: ClassVar[tuple[Constant, ...]] = (
        *(Constant(name) for name in ("C_1", "C_2", "M")),
        Constant("u", tolerance=0.05),  # computed in single precision there
    )

    def __init__(
        self,
        model: nn.Module,
        C_1: float = 0.001,  # noqa: N803
        C_2: float = 0.008,  # noqa: N803
        M: int = 1000,  # noqa: N803
    ) -> None:
        super().__init__(model)
        self._schedule = IDDPM(C_1=C_1, C_2=C_2, M=M)
        levels = torch.tensor(iddpm_schedule(M, C_1, C_2), dtype=torch.float64)
        _hold(self, C_1=C_1, C_2=C_2, M=M)
        self.register_buffer("u", rounded(levels))

    def compute_coefficients(self, sigma: Tensor) -> Coefficients:
        """Return c_in, c_noise, c_out and c_skip."""
        return _in_order(scalings("iddpm", sigma, self._schedule.label(sigma), 1.0))


def check_times(t: Tensor, x: Tensor) -> None:
    """Raise a ValueError unless there is one time for each sample."""
    if t.shape != (x.shape[0],):
        raise ValueError(f"expected times t of shape ({x.shape[0]},), got {tuple(t.shape)}")


def _checked(name: str, tensor: Tensor, x: Tensor) -> Tensor:
    if tensor.shape[0] != x.shape[0]:
        raise ValueError(
            f"expected the condition {name!r} for each of {x.shape[0]} samples, got a tensor of "
            f"shape {tuple(tensor.shape)}"
        )
    return tensor


def _in_order(c: Scalings) -> Coefficients:
    return c.c_in, c.c_noise, c.c_out, c.c_skip


def _storable(value: Any) -> Any:
    return value.tolist() if isinstance(value, Tensor) else value


def _hold(module: nn.Module, **numbers: float) -> None:
    """Keep constants in a module's state, as files have them; nothing is computed from there."""
    for name, number in numbers.items():
        module.register_buffer(name, torch.tensor(number))
