# SPDX-License-Identifier: Apache-2.0
"""The preconditioners of score-based diffusion: variance-preserving and variance-exploding."""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from physicsnemo.models.diffusion._inputs import Resolution
from physicsnemo.models.diffusion.preconditioning._preconditioner import (
    PUBLIC,
    Preconditioner,
    Scalings,
    Sigma,
    legacy,
)
from physicsnemo.models.history import Constant, Renamed
from physicsnemo.nn.numerics import PAPER


class VPPrecond(Preconditioner):
    r"""Preconditioner of variance-preserving diffusion (VP, DDPM).

    The noise level grows with time as :math:`\sigma(t) = \sqrt{e^{\beta_d t^2/2 + \beta_{min} t} -
    1}`; the network is told the time, in steps.

    Parameters
    ----------
    img_resolution, label_dim, use_fp16, model_type, numerics, **model_kwargs
        As in :class:`Preconditioner`.
    img_channels
        Channels of the fields.
    beta_d, beta_min
        Noise schedule: the rate of noise is ``beta_min`` at first, and ``beta_d`` more at time 1.
    M
        Number of steps in the network's training.
    epsilon_t
        Earliest time.

    Attributes
    ----------
    sigma_min, sigma_max
        Noise levels at the earliest time and at time 1.

    References
    ----------
    Song et al. 2021, Score-based generative modeling through stochastic differential equations,
    arXiv:2011.13456; in the form of Karras et al. 2022, arXiv:2206.00364, table 1.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.diffusion import VPPrecond
    >>> net = VPPrecond(16, img_channels=2, model_channels=8, channel_mult=[1, 2], num_blocks=1)
    >>> net(torch.randn(3, 2, 16, 16), sigma=torch.tensor([0.1, 1.0, 10.0])).shape
    torch.Size([3, 2, 16, 16])
    """

    _recorded_as = f"{PUBLIC}.VPPrecond"
    _recorded_by_release = legacy("VPPrecond")
    _state_history: ClassVar[tuple[Renamed | Constant, ...]] = tuple(
        Constant(name, since="2.0") for name in ("beta_d", "beta_min", "M")
    )

    def __init__(
        self,
        img_resolution: Resolution,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        beta_d: float = 19.9,
        beta_min: float = 0.1,
        M: int = 1000,  # noqa: N803  # as files name it
        epsilon_t: float = 1e-5,
        model_type: str = "SongUNet",
        numerics: str = PAPER,
        **model_kwargs: Any,
    ) -> None:
        # In float64, where float32 would lose most digits of the first.
        sigma_min, sigma_max = (
            math.sqrt(math.expm1(0.5 * beta_d * t**2 + beta_min * t)) for t in (epsilon_t, 1.0)
        )
        super().__init__(
            img_resolution=img_resolution,
            channels=img_channels,
            in_channels=img_channels,
            out_channels=img_channels,
            use_fp16=use_fp16,
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            model_type=model_type,
            numerics=numerics,
            label_dim=label_dim,
            **model_kwargs,
        )
        self.img_channels = img_channels
        self.beta_d, self.beta_min = beta_d, beta_min
        self.M = M
        self.epsilon_t = epsilon_t

    def sigma(self, t: Sigma) -> Tensor:
        """Return the noise level at a time."""
        t = torch.as_tensor(t)
        return (0.5 * self.beta_d * t.square() + self.beta_min * t).expm1().sqrt()

    def sigma_inv(self, sigma: Sigma) -> Tensor:
        """Return the time of a noise level."""
        # The quadratic formula, in the form that does not subtract two close numbers.
        log = torch.as_tensor(sigma).square().log1p()
        return 2 * log / ((self.beta_min**2 + 2 * self.beta_d * log).sqrt() + self.beta_min)

    def scalings(self, sigma: Tensor) -> Scalings:
        """Return the functions of the noise level; the network predicts the noise."""
        return Scalings(
            c_skip=torch.ones_like(sigma),
            c_out=-sigma,
            c_in=(sigma.square() + 1).rsqrt(),
            c_noise=(self.M - 1) * self.sigma_inv(sigma),
        )


class VEPrecond(Preconditioner):
    """Preconditioner of variance-exploding diffusion (VE, SMLD).

    Parameters
    ----------
    img_channels
        Channels of the fields.
    img_resolution, label_dim, use_fp16, sigma_min, sigma_max, model_type, numerics, **model_kwargs
        As in :class:`Preconditioner`.

    References
    ----------
    Song et al. 2021, arXiv:2011.13456; in the form of Karras et al. 2022, arXiv:2206.00364,
    table 1.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.diffusion import VEPrecond
    >>> net = VEPrecond(16, img_channels=2, model_channels=8, channel_mult=[1, 2], num_blocks=1)
    >>> net(torch.randn(3, 2, 16, 16), sigma=2.0).shape
    torch.Size([3, 2, 16, 16])
    """

    _recorded_as = f"{PUBLIC}.VEPrecond"
    _recorded_by_release = legacy("VEPrecond")

    def __init__(
        self,
        img_resolution: Resolution,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        sigma_min: float = 0.02,
        sigma_max: float = 100.0,
        model_type: str = "SongUNet",
        numerics: str = PAPER,
        **model_kwargs: Any,
    ) -> None:
        super().__init__(
            img_resolution=img_resolution,
            channels=img_channels,
            in_channels=img_channels,
            out_channels=img_channels,
            use_fp16=use_fp16,
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            model_type=model_type,
            numerics=numerics,
            label_dim=label_dim,
            **model_kwargs,
        )
        self.img_channels = img_channels

    def scalings(self, sigma: Tensor) -> Scalings:
        """Return the functions of the noise level."""
        ones = torch.ones_like(sigma)
        return Scalings(c_skip=ones, c_out=sigma, c_in=ones, c_noise=(0.5 * sigma).log())
