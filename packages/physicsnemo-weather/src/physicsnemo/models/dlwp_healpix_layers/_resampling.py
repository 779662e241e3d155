# SPDX-License-Identifier: Apache-2.0
"""Pooling and upsampling; no padding is needed, as the four parts of a cell are on one face."""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.models.dlwp_healpix_layers.configuration import Activation, activation_of
from physicsnemo.models.dlwp_healpix_layers.healpix_layers import GeometryLayer, HEALPixLayer

__all__ = ["AvgPool", "Interpolate", "MaxPool", "TransposedConvUpsample"]


class MaxPool(nn.Module):
    """Max pooling.

    Parameters
    ----------
    geometry_layer
        Class that applies the layer to the faces.
    pooling
        Pooling factor along either axis.
    enable_nhwc, enable_healpixpad
        As in :class:`HEALPixLayer`.
    """

    def __init__(
        self,
        geometry_layer: GeometryLayer = HEALPixLayer,
        pooling: int = 2,
        enable_nhwc: bool = False,
        enable_healpixpad: bool = False,
    ) -> None:
        super().__init__()
        self.maxpool = geometry_layer(
            layer=nn.MaxPool2d,
            kernel_size=pooling,
            enable_nhwc=enable_nhwc,
            enable_healpixpad=enable_healpixpad,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map faces to coarser ones."""
        return cast(Tensor, self.maxpool(x))


class AvgPool(nn.Module):
    """Average pooling.

    Parameters
    ----------
    geometry_layer, pooling, enable_nhwc, enable_healpixpad
        As in :class:`MaxPool`.
    """

    def __init__(
        self,
        geometry_layer: GeometryLayer = HEALPixLayer,
        pooling: int = 2,
        enable_nhwc: bool = False,
        enable_healpixpad: bool = False,
    ) -> None:
        super().__init__()
        self.avgpool = geometry_layer(
            layer=nn.AvgPool2d,
            kernel_size=pooling,
            enable_nhwc=enable_nhwc,
            enable_healpixpad=enable_healpixpad,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map faces to coarser ones."""
        return cast(Tensor, self.avgpool(x))


class TransposedConvUpsample(nn.Module):
    """Upsampling by a transposed convolution, whose stride is its kernel size.

    Parameters
    ----------
    geometry_layer
        Class that applies the layer to the faces.
    in_channels, out_channels
        Number of input and output channels.
    upsampling
        Upsampling factor along either axis.
    activation
        Activation, as a configuration, a name or a module; None for none.
    enable_nhwc, enable_healpixpad
        As in :class:`HEALPixLayer`.
    """

    def __init__(
        self,
        geometry_layer: GeometryLayer = HEALPixLayer,
        in_channels: int = 3,
        out_channels: int = 1,
        upsampling: int = 2,
        activation: Activation = None,
        enable_nhwc: bool = False,
        enable_healpixpad: bool = False,
    ) -> None:
        super().__init__()
        convolution = geometry_layer(
            layer=nn.ConvTranspose2d,
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=upsampling,
            stride=upsampling,
            enable_nhwc=enable_nhwc,
            enable_healpixpad=enable_healpixpad,
        )
        layers = (convolution, activation_of(activation))
        self.upsampler = nn.Sequential(*(layer for layer in layers if layer is not None))

    def forward(self, x: Tensor) -> Tensor:
        """Map faces to finer ones."""
        return cast(Tensor, self.upsampler(x))


class Interpolate(nn.Module):
    """Upsampling by interpolation within each face.

    Parameters
    ----------
    scale_factor
        Upsampling factor along either axis.
    mode
        Mode of :func:`torch.nn.functional.interpolate`.
    in_channels, out_channels
        Ignored, but must be equal; they make the layer interchangeable with
        :class:`TransposedConvUpsample`.
    enable_nhwc, enable_healpixpad
        Ignored.

    Raises
    ------
    ValueError
        If ``in_channels`` and ``out_channels`` differ.
    """

    def __init__(
        self,
        scale_factor: float = 2,
        mode: str = "nearest",
        in_channels: int | None = None,
        out_channels: int | None = None,
        enable_nhwc: bool = False,
        enable_healpixpad: bool = False,
    ) -> None:
        super().__init__()
        if in_channels != out_channels:
            raise ValueError(
                f"interpolation keeps the number of channels, but in_channels={in_channels} and "
                f"out_channels={out_channels}"
            )
        self.scale_factor = scale_factor
        self.mode = mode

    def forward(self, inputs: Tensor) -> Tensor:
        """Map faces to finer ones."""
        factor = int(self.scale_factor)
        if self.mode == "nearest" and factor == self.scale_factor:
            # The gradient of PyTorch's interpolation adds in no fixed order on GPUs.
            rows, columns = inputs.shape[-2:]
            repeated = inputs[..., :, None, :, None].expand(
                *inputs.shape[:-1], factor, columns, factor
            )
            return repeated.reshape(*inputs.shape[:-2], factor * rows, factor * columns)
        return functional.interpolate(inputs, scale_factor=self.scale_factor, mode=self.mode)
