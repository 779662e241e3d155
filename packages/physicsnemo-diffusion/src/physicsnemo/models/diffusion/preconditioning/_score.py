# SPDX-License-Identifier: Apache-2.0
"""The preconditioners of score-based diffusion: preserving variance, and exploding."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from physicsnemo.models.diffusion._inputs import Resolution
from physicsnemo.models.diffusion._network import (
    OVERRIDABLE,
    any_sigma,
    build_network,
)
from physicsnemo.models.diffusion._numerics import IMPLIED
from physicsnemo.models.diffusion.preconditioning._denoise import (
    PUBLIC,
    MetaData,
    Sigma,
    denoise,
)
from physicsnemo.models.diffusion.preconditioning._formulas import (
    Scalings,
    ve_scalings,
    vp_scalings,
    vp_sigma,
    vp_time,
)
from physicsnemo.models.history import Constant, Renamed
from physicsnemo.models.module import Module
from physicsnemo.nn.numerics import PAPER


class VPPrecond(Module):
    r"""The preconditioner of variance-preserving diffusion.

    The noise level grows with time as :math:`\sigma(t) = \sqrt{e^{\beta_d t^2/2 + \beta_{min} t} -
    1}`; the network is told the time, in steps.

    Parameters
    ----------
    img_resolution
        Height and width of the fields, or one number for both.
    img_channels
        Channels of the fields.
    label_dim
        Number of labels of each sample; 0 for none.
    use_fp16
        Compute the network in float16 on GPUs. Autocast, which keeps the weights in float32 and
        also takes bfloat16, is the better way for most.
    beta_d, beta_min
        The noise schedule.
    M
        Number of steps in the network's training.
    epsilon_t
        The earliest time.
    model_type
        The network: ``SongUNet``, ``SongUNetPosEmbd``, ``SongUNetPosLtEmbd`` or ``DhariwalUNet``.
    numerics
        ``paper``, or what a release, ``reference-1.2`` to ``reference-2.2``, means in the network.
    **model_kwargs
        Further arguments of the network.

    Attributes
    ----------
    model
        The network.
    sigma_min, sigma_max
        The noise levels at the earliest time and at time 1.

    Raises
    ------
    ValueError
        If there is no such network, or it refuses the arguments.

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

    __module__ = PUBLIC
    _recorded_as: ClassVar[Mapping[str, str]] = {
        "2.0": "physicsnemo.diffusion.preconditioners.legacy.VPPrecond"
    }
    _implied_args = IMPLIED
    _overridable_args = OVERRIDABLE
    _release_marks: ClassVar[dict[str, str]] = {"2.0": "^beta_d$"}
    _state_history: ClassVar[tuple[Renamed | Constant, ...]] = tuple(
        Constant(name, since="2.0") for name in ("beta_d", "beta_min", "M")
    )
    round_sigma = staticmethod(any_sigma)

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
        super().__init__(meta=MetaData(name="VPPrecond"))
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.label_dim = label_dim
        self.use_fp16 = use_fp16
        self.beta_d = beta_d
        self.beta_min = beta_min
        self.M = M
        self.epsilon_t = epsilon_t
        self.sigma_min, self.sigma_max = (
            math.sqrt(math.expm1(0.5 * beta_d * t**2 + beta_min * t)) for t in (epsilon_t, 1.0)
        )
        self.model = build_network(
            model_type,
            img_resolution,
            img_channels,
            img_channels,
            numerics,
            label_dim=label_dim,
            **model_kwargs,
        )

    def forward(
        self,
        x: Tensor,
        sigma: Sigma,
        class_labels: Tensor | None = None,
        force_fp32: bool = False,
        **model_kwargs: Any,
    ) -> Tensor:
        """Estimate the fields in noise.

        Parameters
        ----------
        x
            Noisy fields of shape (batch, img_channels, height, width), also of whole numbers.
        sigma
            Standard deviation of the noise, finite and above 0: a number, or a tensor with one
            number or one for each sample, of any shape, on the device of ``x`` or on the CPU.
            Values are checked where that is free, not on a GPU, where anything else makes NaN.
        class_labels
            Labels of shape (batch, label_dim) or (label_dim,), numbers or truth values, by default
            zeros. Not used if
            ``label_dim`` is 0.
        force_fp32
            Compute the network in float32 despite ``use_fp16``.
        **model_kwargs
            Further arguments of the network's ``forward``.

        Returns
        -------
        Fields of the same shape, in float32, or in the type of the weights if that is wider.

        Raises
        ------
        TypeError
            If an argument does not hold real numbers.
        ValueError
            If an argument has another shape or device than described, or a noise level is none.
        """
        return denoise(
            self,
            self._scalings,
            x,
            sigma,
            channels=self.img_channels,
            label_dim=self.label_dim,
            class_labels=class_labels,
            force_fp32=force_fp32,
            **model_kwargs,
        )

    def sigma(self, t: Sigma) -> Tensor:
        """Return the noise level at a time."""
        return vp_sigma(torch.as_tensor(t), self.beta_d, self.beta_min)

    def sigma_inv(self, sigma: Sigma) -> Tensor:
        """Return the time of a noise level."""
        return vp_time(torch.as_tensor(sigma), self.beta_d, self.beta_min)

    def _scalings(self, sigma: Tensor) -> Scalings:
        return vp_scalings(sigma, self.beta_d, self.beta_min, self.M)


class VEPrecond(Module):
    """The preconditioner of variance-exploding diffusion.

    Parameters
    ----------
    img_resolution, img_channels, label_dim, use_fp16, model_type, numerics, **model_kwargs
        As in :class:`VPPrecond`.
    sigma_min, sigma_max
        The noise levels between which samplers go.

    Raises
    ------
    ValueError
        If there is no such network, or it refuses the arguments.

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

    __module__ = PUBLIC
    _recorded_as: ClassVar[Mapping[str, str]] = {
        "2.0": "physicsnemo.diffusion.preconditioners.legacy.VEPrecond"
    }
    _implied_args = IMPLIED
    _overridable_args = OVERRIDABLE
    round_sigma = staticmethod(any_sigma)

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
        super().__init__(meta=MetaData(name="VEPrecond"))
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.label_dim = label_dim
        self.use_fp16 = use_fp16
        self.sigma_min = sigma_min
        self.sigma_max = sigma_max
        self.model = build_network(
            model_type,
            img_resolution,
            img_channels,
            img_channels,
            numerics,
            label_dim=label_dim,
            **model_kwargs,
        )

    def forward(
        self,
        x: Tensor,
        sigma: Sigma,
        class_labels: Tensor | None = None,
        force_fp32: bool = False,
        **model_kwargs: Any,
    ) -> Tensor:
        """Estimate the fields in noise; arguments, result and errors as :class:`VPPrecond`."""
        return denoise(
            self,
            ve_scalings,
            x,
            sigma,
            channels=self.img_channels,
            label_dim=self.label_dim,
            class_labels=class_labels,
            force_fp32=force_fp32,
            **model_kwargs,
        )
