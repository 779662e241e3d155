# SPDX-License-Identifier: Apache-2.0
"""The preconditioners of EDM for downscaling."""

import math
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from physicsnemo.models.diffusion._inputs import Resolution
from physicsnemo.models.diffusion._network import half_precision, join, of_network
from physicsnemo.models.diffusion.preconditioning._edm import edm_scalings
from physicsnemo.models.diffusion.preconditioning._preconditioner import (
    PUBLIC,
    Preconditioner,
    Scalings,
    Sigma,
    legacy,
)
from physicsnemo.nn.numerics import PAPER


class EDMPrecondSuperResolution(Preconditioner):
    """Preconditioner of EDM for super-resolution: fields given others of low resolution (CorrDiff).

    Parameters
    ----------
    img_resolution, sigma_min, sigma_max, model_type, numerics, **model_kwargs
        As in :class:`Preconditioner`.
    img_in_channels
        Channels of the conditioning fields, and those that the network adds for positions and
        lead times.
    img_out_channels
        Channels of the fields.
    use_fp16
        Keep the weights in float16, and compute the network in it on GPUs. Autocast, which keeps
        the weights in float32 and also takes bfloat16, is the better way for most.
    sigma_data
        Standard deviation of the fields without noise.

    Attributes
    ----------
    scaling_fn
        Function ``(x, img_lr, c_in)`` that returns the network's input.

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

    _recorded_as = f"{PUBLIC}.EDMPrecondSuperResolution"
    _recorded_by_release = legacy("EDMPrecondSuperResolution")
    use_fp16 = half_precision
    amp_mode = of_network("amp_mode")
    profile_mode = of_network("profile_mode")

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
        super().__init__(
            img_resolution=img_resolution,
            channels=img_out_channels,
            in_channels=img_in_channels + img_out_channels,
            out_channels=img_out_channels,
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            use_fp16=use_fp16,
            model_type=model_type,
            numerics=numerics,
            **model_kwargs,  # among them label_dim
        )
        self.img_in_channels = img_in_channels
        self.img_out_channels = img_out_channels
        self.sigma_data = sigma_data
        self.scaling_fn = condition_as_it_is  # which a user, or a subclass, may replace

    def forward(  # type: ignore[override]
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
            As in :meth:`Preconditioner.forward`, and so are results and errors; with ``label_dim``,
            among them ``class_labels``.
        """
        return self._denoise(
            x,
            sigma,
            condition=img_lr,
            class_labels=model_kwargs.pop("class_labels", None),
            force_fp32=force_fp32,
            model_kwargs=model_kwargs,
        )

    def network_input(self, x: Tensor, c_in: Tensor, condition: Tensor | None) -> Tensor:
        """Return what the network sees, which is up to ``scaling_fn``."""
        return x * c_in if condition is None else self.scaling_fn(x, condition, c_in)

    def scalings(self, sigma: Tensor) -> Scalings:
        """Return the functions of the noise level."""
        return edm_scalings(sigma, self.sigma_data)


class EDMPrecondSR(EDMPrecondSuperResolution):
    """Deprecated form of :class:`EDMPrecondSuperResolution`, for checkpoints that name it.

    Parameters
    ----------
    img_resolution, img_in_channels, img_out_channels, use_fp16, sigma_min, sigma_max, \
    sigma_data, model_type, numerics, **model_kwargs
        As in :class:`EDMPrecondSuperResolution`.
    img_channels
        Not used.
    scale_cond_input
        Scale the conditioning fields like the noisy ones, which makes them vanish in noise. Files
        need it; new models do not.

    Warns
    -----
    DeprecationWarning
        Always, and once more if ``scale_cond_input`` is set.

    References
    ----------
    Karras et al. 2022, arXiv:2206.00364; Mardani et al. 2023, arXiv:2309.15214.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.diffusion import EDMPrecondSR
    >>> net = EDMPrecondSR(
    ...     16, img_channels=2, img_in_channels=3, img_out_channels=2, model_type="SongUNet",
    ...     model_channels=8, channel_mult=[1, 2], num_blocks=1, scale_cond_input=False,
    ... )
    >>> net(torch.randn(1, 2, 16, 16), torch.randn(1, 3, 16, 16), sigma=2.0).shape
    torch.Size([1, 2, 16, 16])
    """

    _recorded_as = f"{PUBLIC}.EDMPrecondSR"
    _recorded_by_release = legacy("EDMPrecondSR")

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
            img_resolution=img_resolution,
            img_in_channels=img_in_channels,
            img_out_channels=img_out_channels,
            use_fp16=use_fp16,
            model_type=model_type,
            sigma_data=sigma_data,
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            numerics=numerics,
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
    r"""Preconditioner of EDM for heavy-tailed noise (t-EDM), as extreme events have it.

    The noise is :math:`\sigma` times numbers of Student's t distribution with :math:`\nu` degrees
    of freedom, so that its standard deviation is :math:`\sigma \sqrt{\nu / (\nu - 2)}`. That is the
    noise level of :class:`EDMPrecondSuperResolution`.

    Parameters
    ----------
    img_resolution, img_in_channels, img_out_channels, use_fp16, model_type
        As in :class:`EDMPrecondSuperResolution`.
    sigma_data, sigma_min, sigma_max
        As in :class:`EDMPrecondSuperResolution`.
    nu
        Degrees of freedom, above 2.
    numerics, **model_kwargs
        As in :class:`EDMPrecondSuperResolution`.

    Raises
    ------
    ValueError
        If ``nu`` is not above 2, or as in :class:`Preconditioner`.

    References
    ----------
    Pandey et al. 2024, Heavy-tailed diffusion models, arXiv:2410.14171.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.diffusion import tEDMPrecondSuperRes
    >>> net = tEDMPrecondSuperRes(
    ...     16, img_in_channels=3, img_out_channels=2, model_type="SongUNet", nu=5,
    ...     model_channels=8, channel_mult=[1, 2], num_blocks=1,
    ... )
    >>> net(torch.randn(1, 2, 16, 16), torch.randn(1, 3, 16, 16), sigma=2.0).shape
    torch.Size([1, 2, 16, 16])
    """

    _recorded_as = f"{PUBLIC}.tEDMPrecondSuperRes"
    _recorded_by_release: ClassVar[Mapping[str, str]] = {  # an experimental class to this day
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
            img_resolution=img_resolution,
            img_in_channels=img_in_channels,
            img_out_channels=img_out_channels,
            use_fp16=use_fp16,
            model_type=model_type,
            sigma_data=sigma_data,
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            numerics=numerics,
            **model_kwargs,
        )
        self.nu = nu

    def scalings(self, sigma: Tensor) -> Scalings:
        """Return the functions of the noise's standard deviation, which is above its level."""
        return edm_scalings(sigma * math.sqrt(self.nu / (self.nu - 2)), self.sigma_data)


def condition_as_it_is(x: Tensor, img_lr: Tensor, c_in: Tensor) -> Tensor:
    """Return scaled fields with the conditioning fields after them."""
    return join(x * c_in, img_lr)


def condition_scaled_too(x: Tensor, img_lr: Tensor, c_in: Tensor) -> Tensor:
    """Return fields with the conditioning fields after them, all of them scaled."""
    return join(x, img_lr) * c_in
