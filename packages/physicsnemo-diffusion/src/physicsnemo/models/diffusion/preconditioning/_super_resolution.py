# SPDX-License-Identifier: Apache-2.0
"""The preconditioners of EDM for downscaling."""

import math
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from physicsnemo.models.diffusion._inputs import Resolution
from physicsnemo.models.diffusion._network import (
    AMP_MODE,
    OVERRIDABLE,
    PROFILE_MODE,
    any_sigma,
    build_network,
    half_precision,
    join,
)
from physicsnemo.models.diffusion._numerics import IMPLIED
from physicsnemo.models.diffusion.preconditioning._denoise import (
    PUBLIC,
    MetaData,
    Sigma,
    denoise,
)
from physicsnemo.models.diffusion.preconditioning._formulas import Scalings, edm_scalings
from physicsnemo.models.module import Module
from physicsnemo.nn.numerics import PAPER


class EDMPrecondSuperResolution(Module):
    """The preconditioner of EDM for fields given others of low resolution, as in CorrDiff.

    Parameters
    ----------
    img_resolution, model_type, numerics, **model_kwargs
        As in :class:`VPPrecond`.
    img_in_channels
        Channels of the conditioning fields, and those that the network adds for positions and
        lead times.
    img_out_channels
        Channels of the fields.
    use_fp16
        Keep the weights in float16, and compute the network in it on GPUs. Autocast, which keeps
        the weights in float32 and also takes bfloat16, is the better way for most.
    sigma_data, sigma_min, sigma_max
        As in :class:`EDMPrecond`.

    Attributes
    ----------
    model
        The network.
    scaling_fn
        Makes the network's input of the fields, the conditioning fields and the factor of the
        first.

    Raises
    ------
    ValueError
        If there is no such network, or it refuses the arguments.

    References
    ----------
    Karras et al. 2022, arXiv:2206.00364; Mardani et al. 2023, Residual corrective diffusion
    modeling for km-scale atmospheric downscaling, arXiv:2309.15214.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.diffusion import EDMPrecondSuperResolution
    >>> net = EDMPrecondSuperResolution(
    ...     16, img_in_channels=3 + 4, img_out_channels=2, model_type="SongUNetPosEmbd",
    ...     model_channels=8, channel_mult=[1, 2], num_blocks=1, N_grid_channels=4,
    ... )
    >>> net(torch.randn(1, 2, 16, 16), torch.randn(1, 3, 16, 16), sigma=2.0).shape
    torch.Size([1, 2, 16, 16])
    """

    __module__ = PUBLIC
    _recorded_as: ClassVar[Mapping[str, str]] = {
        "2.0": "physicsnemo.diffusion.preconditioners.legacy.EDMPrecondSuperResolution"
    }
    _implied_args = IMPLIED
    _overridable_args = OVERRIDABLE
    round_sigma = staticmethod(any_sigma)
    use_fp16 = half_precision
    amp_mode = AMP_MODE
    profile_mode = PROFILE_MODE

    def __init__(
        self,
        img_resolution: Resolution,
        img_in_channels: int,
        img_out_channels: int,
        use_fp16: bool = False,
        model_type: str = "SongUNetPosEmbd",
        sigma_data: float = 0.5,
        sigma_min: float = 0.0,
        sigma_max: float = math.inf,
        numerics: str = PAPER,
        **model_kwargs: Any,
    ) -> None:
        super().__init__(meta=MetaData(name="EDMPrecondSuperResolution"))
        self.img_resolution = img_resolution
        self.img_in_channels = img_in_channels
        self.img_out_channels = img_out_channels
        self.label_dim = model_kwargs.get("label_dim", 0)
        self.sigma_data = sigma_data
        self.sigma_min = sigma_min
        self.sigma_max = sigma_max
        self.scaling_fn = condition_as_it_is
        self.model = build_network(
            model_type,
            img_resolution,
            img_in_channels + img_out_channels,
            img_out_channels,
            numerics,
            **model_kwargs,
        )
        self.use_fp16 = use_fp16

    def forward(
        self,
        x: Tensor,
        img_lr: Tensor | None,
        sigma: Sigma,
        force_fp32: bool = False,
        **model_kwargs: Any,
    ) -> Tensor:
        """Estimate the fields in noise.

        Parameters
        ----------
        x
            Noisy fields of shape (batch, img_out_channels, height, width).
        img_lr
            Conditioning fields of shape (batch, channels, height, width), interpolated to the
            points of the others; None if the network takes none.
        sigma, force_fp32, **model_kwargs
            As in :meth:`VPPrecond.forward`, among them ``class_labels`` if the network was built
            with ``label_dim``.

        Returns
        -------
        Fields of the shape of ``x``, in float32, or in the type of the weights if that is wider.

        Raises
        ------
        TypeError
            If an argument does not hold real numbers.
        ValueError
            If an argument has another shape or device than described, or a noise level is none.
        """

        def scaled_input(x: Tensor, factor: Tensor) -> Tensor:
            return x * factor if img_lr is None else self.scaling_fn(x, img_lr, factor)

        return denoise(
            self,
            self._scalings,
            x,
            sigma,
            channels=self.img_out_channels,
            scaled_input=scaled_input,
            label_dim=self.label_dim,
            force_fp32=force_fp32,
            **model_kwargs,
        )

    def _scalings(self, sigma: Tensor) -> Scalings:
        return edm_scalings(sigma, self.sigma_data)


class EDMPrecondSR(EDMPrecondSuperResolution):
    """The former :class:`EDMPrecondSuperResolution`, for checkpoints that name it. Deprecated.

    Parameters
    ----------
    img_resolution, img_in_channels, img_out_channels, use_fp16, model_type
        As in :class:`EDMPrecondSuperResolution`.
    img_channels
        Not used.
    sigma_min, sigma_max, sigma_data, numerics, **model_kwargs
        As in :class:`EDMPrecondSuperResolution`.
    scale_cond_input
        Scale the conditioning fields like the noisy ones, which makes them vanish in noise. Files
        need it; new models do not.

    Raises
    ------
    ValueError
        As in :class:`EDMPrecondSuperResolution`.

    Warns
    -----
    DeprecationWarning
        Always, and once more if ``scale_cond_input`` is set.
    """

    __module__ = PUBLIC
    _recorded_as: ClassVar[Mapping[str, str]] = {
        "2.0": "physicsnemo.diffusion.preconditioners.legacy.EDMPrecondSR"
    }

    def __init__(
        self,
        img_resolution: Resolution,
        img_channels: int,
        img_in_channels: int,
        img_out_channels: int,
        use_fp16: bool = False,
        sigma_min: float = 0.0,
        sigma_max: float = math.inf,
        sigma_data: float = 0.5,
        model_type: str = "SongUNetPosEmbd",
        scale_cond_input: bool = True,
        numerics: str = PAPER,
        **model_kwargs: Any,
    ) -> None:
        warnings.warn(
            "EDMPrecondSR is deprecated; use EDMPrecondSuperResolution",
            DeprecationWarning,
            stacklevel=2,
        )
        super().__init__(
            img_resolution,
            img_in_channels,
            img_out_channels,
            use_fp16,
            model_type,
            sigma_data,
            sigma_min,
            sigma_max,
            numerics,
            **model_kwargs,
        )
        self.img_channels = img_channels
        self.scale_cond_input = scale_cond_input
        if scale_cond_input:
            self.scaling_fn = condition_scaled_too
            warnings.warn(
                "EDMPrecondSR scales its conditioning fields with the noise level, which it should "
                "not; for a new model use EDMPrecondSuperResolution, or scale_cond_input=False",
                DeprecationWarning,
                stacklevel=2,
            )


class tEDMPrecondSuperRes(EDMPrecondSuperResolution):  # noqa: N801  # as files name it
    r"""The preconditioner of EDM for noise of heavy tails, as extreme events have them.

    The noise is :math:`\sigma` times numbers of Student's t distribution with :math:`\nu` degrees
    of freedom, so that its standard deviation is :math:`\sigma \sqrt{\nu / (\nu - 2)}`. That is the
    noise level of :class:`EDMPrecondSuperResolution`.

    Parameters
    ----------
    img_resolution, img_in_channels, img_out_channels, use_fp16, model_type, sigma_data
        As in :class:`EDMPrecondSuperResolution`.
    sigma_min, sigma_max, numerics, **model_kwargs
        As in :class:`EDMPrecondSuperResolution`.
    nu
        Degrees of freedom, above 2.

    Raises
    ------
    ValueError
        If ``nu`` is not above 2, or as in :class:`EDMPrecondSuperResolution`.

    References
    ----------
    Pandey et al. 2024, Heavy-tailed diffusion models, arXiv:2410.14171.
    """

    __module__ = PUBLIC
    _recorded_as: ClassVar[Mapping[str, str]] = {
        "1.0": "physicsnemo.experimental.models.diffusion.preconditioning.tEDMPrecondSuperRes"
    }

    def __init__(
        self,
        img_resolution: Resolution,
        img_in_channels: int,
        img_out_channels: int,
        use_fp16: bool = False,
        model_type: str = "SongUNetPosEmbd",
        sigma_data: float = 0.5,
        sigma_min: float = 0.0,
        sigma_max: float = math.inf,
        nu: int = 10,
        numerics: str = PAPER,
        **model_kwargs: Any,
    ) -> None:
        if nu <= 2:
            raise ValueError(
                f"expected nu above 2, since the noise has no finite variance else, got {nu}"
            )
        super().__init__(
            img_resolution,
            img_in_channels,
            img_out_channels,
            use_fp16,
            model_type,
            sigma_data,
            sigma_min,
            sigma_max,
            numerics,
            **model_kwargs,
        )
        self.meta = MetaData(name="tEDMPrecondSuperRes")
        self.nu = nu

    def _scalings(self, sigma: Tensor) -> Scalings:
        return edm_scalings(sigma * math.sqrt(self.nu / (self.nu - 2)), self.sigma_data)


def condition_as_it_is(x: Tensor, img_lr: Tensor, c_in: Tensor) -> Tensor:
    """Return scaled fields with the conditioning fields after them."""
    return join(x * c_in, img_lr)


def condition_scaled_too(x: Tensor, img_lr: Tensor, c_in: Tensor) -> Tensor:
    """Return fields with the conditioning fields after them, all of them scaled."""
    return join(x, img_lr) * c_in
