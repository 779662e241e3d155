# SPDX-License-Identifier: Apache-2.0
"""Regression wrappers: a U-Net without noise, as in CorrDiff and StormCast."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from physicsnemo.models.diffusion._architecture import IMPLIED
from physicsnemo.models.diffusion._inputs import Resolution, height_and_width
from physicsnemo.models.diffusion._network import (
    NETWORK_HISTORY,
    OVERRIDABLE,
    any_sigma,
    build_network,
    half_precision,
    join,
    network_type,
    of_network,
    wide_type,
)
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.nn.checks import check_input
from physicsnemo.nn.numerics import PAPER

__all__ = ["CorrDiffRegressionUNet", "MetaData", "StormCastUNet", "UNet"]


@dataclass
class MetaData(ModelMetaData):
    """Metadata of :class:`UNet` and :class:`StormCastUNet`."""

    name: str = "UNet"
    cuda_graphs: bool = True
    amp_gpu: bool | None = True
    bf16: bool = True


class UNet(Module):
    """Regression U-Net of CorrDiff: predicts fields from conditioning fields.

    The network is that of a diffusion model, at noise level 0.

    Parameters
    ----------
    img_resolution
        Height and width of the fields, or one number for both.
    img_in_channels
        Channels of the conditioning fields, and those that the network adds for positions and
        lead times.
    img_out_channels
        Channels of the fields.
    use_fp16
        Keep the weights in float16, and compute in it on GPUs. Autocast, which keeps the weights in
        float32 and also takes bfloat16, is the better way for most.
    model_type
        Network: ``SongUNetPosEmbd``, ``SongUNetPosLtEmbd``, ``SongUNet`` or ``DhariwalUNet``.
    numerics
        ``paper``, or what a release, ``reference-1.2`` to ``reference-2.2``, means in the network.
    **model_kwargs
        Further arguments of the network.

    Attributes
    ----------
    model
        The network.

    Raises
    ------
    ValueError
        If there is no such network, or it refuses the arguments.

    References
    ----------
    Mardani et al. 2023, Residual corrective diffusion modeling for km-scale atmospheric
    downscaling, arXiv:2309.15214.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.diffusion import UNet
    >>> model = UNet(
    ...     16, img_in_channels=3 + 4, img_out_channels=2, model_channels=8, channel_mult=[1, 2],
    ...     num_blocks=1, N_grid_channels=4,
    ... )
    >>> model(torch.zeros(1, 2, 16, 16), torch.randn(1, 3, 16, 16)).shape
    torch.Size([1, 2, 16, 16])
    """

    __model_checkpoint_version__ = "0.2.0"
    __supported_model_checkpoint_version__: ClassVar[dict[str, str]] = {
        "0.1.0": (
            "this file of UNet is of version 0.1.0, whose arguments img_channels, sigma_min, "
            "sigma_max and sigma_data have no effect and are left out; save it again to write 0.2.0"
        )
    }
    _implied_args = IMPLIED
    _recorded_by_release: ClassVar[Mapping[str, str]] = {
        "2.0": "physicsnemo.models.diffusion_unets.unet.CorrDiffRegressionUNet"
    }
    _overridable_args = OVERRIDABLE
    _argument_history = NETWORK_HISTORY
    round_sigma = staticmethod(any_sigma)
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
        numerics: str = PAPER,
        **model_kwargs: Any,
    ) -> None:
        super().__init__(meta=MetaData())
        self.img_resolution = img_resolution
        self.img_in_channels = img_in_channels
        self.img_out_channels = img_out_channels
        self.model = build_network(
            model_type,
            img_resolution=img_resolution,
            in_channels=img_in_channels + img_out_channels,
            out_channels=img_out_channels,
            numerics=numerics,
            **model_kwargs,
        )
        self.img_shape_y, self.img_shape_x = height_and_width(img_resolution)
        self.use_fp16 = use_fp16

    def forward(
        self,
        x: Tensor,
        img_lr: Tensor | None = None,
        force_fp32: bool = False,
        **model_kwargs: Any,
    ) -> Tensor:
        """Predict fields.

        Parameters
        ----------
        x
            Fields of shape (batch, img_out_channels, height, width) to start from; CorrDiff takes
            zeros. The network sees them before the conditioning fields, so that the sum of
            channels is what counts.
        img_lr
            Conditioning fields of shape (batch, channels, height, width), interpolated to the
            points of the others; None if the network takes none.
        force_fp32
            Compute in float32 despite ``use_fp16``.
        **model_kwargs
            Further arguments of the network's ``forward``.

        Returns
        -------
        Fields of shape (batch, img_out_channels, height, width), in float32, or in the type of the
        weights if that is wider.

        Raises
        ------
        TypeError
            If the fields do not hold real numbers.
        ValueError
            If they have another shape or device than described.
        """
        layout = {"batch": None, "channels": None, "height": None, "width": None}
        check_input(x, layout, self.device_buffer, name="x", numbers="real")
        joined = x if img_lr is None else join(x.to(wide_type(self)), img_lr)
        return predict_without_noise(self, joined, force_fp32, **model_kwargs)

    @classmethod
    def _backward_compat_arg_mapper(cls, version: str, args: dict[str, Any]) -> dict[str, Any]:
        args = super()._backward_compat_arg_mapper(version, args)
        if version == "0.1.0":
            without_effect = ("img_channels", "sigma_min", "sigma_max", "sigma_data")
            args = {name: value for name, value in args.items() if name not in without_effect}
        return args


CorrDiffRegressionUNet = UNet
"""The name of :class:`UNet` in nvidia-physicsnemo 2."""


class StormCastUNet(Module):
    """Regression U-Net of StormCast: predicts the next fields.

    The network is that of a diffusion model, at noise level 0.

    Parameters
    ----------
    img_resolution, img_out_channels, model_type, numerics, **model_kwargs
        As in :class:`UNet`.
    img_in_channels
        Input channels, and those that the network adds for positions and lead times.
    use_fp16
        Compute in float16 on GPUs. Autocast, which also takes bfloat16, is the better way for most.
    sigma_min, sigma_max, sigma_data
        Not used: there is no noise.

    Attributes
    ----------
    model
        The network.

    Raises
    ------
    ValueError
        If there is no such network, or it refuses the arguments.

    References
    ----------
    Pathak et al. 2024, Kilometer-scale convection allowing model emulation using generative
    diffusion modeling, arXiv:2408.10958.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.diffusion import StormCastUNet
    >>> model = StormCastUNet(
    ...     [16, 32], img_in_channels=5, img_out_channels=2, model_channels=8, channel_mult=[1, 2]
    ... )
    >>> model(torch.randn(1, 5, 16, 32)).shape
    torch.Size([1, 2, 16, 32])
    """

    _implied_args = IMPLIED
    _recorded_by_release: ClassVar[Mapping[str, str]] = {
        "2.0": "physicsnemo.models.diffusion_unets.unet.StormCastUNet"
    }
    _overridable_args = OVERRIDABLE
    _argument_history = NETWORK_HISTORY
    round_sigma = staticmethod(any_sigma)

    def __init__(
        self,
        img_resolution: Resolution,
        img_in_channels: int,
        img_out_channels: int,
        use_fp16: bool = False,
        sigma_min: float = 0,
        sigma_max: float = math.inf,
        sigma_data: float = 0.5,
        model_type: str = "SongUNet",
        numerics: str = PAPER,
        **model_kwargs: Any,
    ) -> None:
        super().__init__(meta=MetaData(name="StormCastUNet"))
        self.img_resolution = img_resolution
        self.img_in_channels = img_in_channels
        self.img_out_channels = img_out_channels
        self.use_fp16 = use_fp16
        self.sigma_min = sigma_min
        self.sigma_max = sigma_max
        self.sigma_data = sigma_data
        self.model = build_network(
            model_type,
            img_resolution=img_resolution,
            in_channels=img_in_channels,
            out_channels=img_out_channels,
            numerics=numerics,
            **model_kwargs,
        )
        self.img_shape_y, self.img_shape_x = height_and_width(img_resolution)

    def forward(self, x: Tensor, force_fp32: bool = False, **model_kwargs: Any) -> Tensor:
        """Predict the next fields.

        Parameters
        ----------
        x
            Fields of shape (batch, channels, height, width).
        force_fp32, **model_kwargs
            As in :meth:`UNet.forward`.

        Returns
        -------
        Fields of shape (batch, img_out_channels, height, width), in float32, or in the type of the
        weights if that is wider.

        Raises
        ------
        TypeError
            If the fields do not hold real numbers.
        ValueError
            If they have another shape or device than described.
        """
        layout = {"batch": None, "channels": None, "height": None, "width": None}
        check_input(x, layout, self.device_buffer, name="x", numbers="real")
        return predict_without_noise(self, x, force_fp32, **model_kwargs)


def predict_without_noise(
    wrapper: UNet | StormCastUNet, x: Tensor, force_fp32: bool, **model_kwargs: Any
) -> Tensor:
    """Return the output of the wrapped network at noise level 0."""
    wide = wide_type(wrapper)
    own = network_type(wrapper, bool(wrapper.use_fp16), force_fp32)
    noise = torch.zeros(x.shape[0], dtype=wide, device=x.device)
    output: Tensor = wrapper.model(x.to(own), noise, **{"class_labels": None, **model_kwargs})
    return output.to(wide)
