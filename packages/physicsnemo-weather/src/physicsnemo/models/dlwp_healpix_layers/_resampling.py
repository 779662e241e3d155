# SPDX-License-Identifier: Apache-2.0
"""Coarser and finer grids; each cell has all of its four parts on one face."""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.models.dlwp_healpix_layers._convolutions import GeometryLayer
from physicsnemo.models.dlwp_healpix_layers.configuration import Activation, activation_of
from physicsnemo.models.dlwp_healpix_layers.healpix_layers import HEALPixLayer

__all__ = ["AvgPool", "Interpolate", "MaxPool", "TransposedConvUpsample"]


class MaxPool(nn.Module):
    """The largest value of neighbouring cells.

    Parameters
    ----------
    geometry_layer
        What applies the layer to the faces.
    pooling
        How many cells in either direction become one.
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
    """The mean of neighbouring cells.

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
    """A finer grid by a transposed convolution, whose kernel is as large as one coarse cell.

    Parameters
    ----------
    geometry_layer
        What applies the layer to the faces.
    in_channels, out_channels
        Channels of the input and of the output.
    upsampling
        How many cells in either direction one becomes.
    activation
        The activation: a configuration, a name or a module; None for none.
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
    """A finer grid by interpolation within each face.

    Parameters
    ----------
    scale_factor
        How many cells in either direction one becomes.
    mode
        How, as :func:`torch.nn.functional.interpolate` has it.
    in_channels, out_channels
        Either none, or the same; there so that the layer can take the place of
        :class:`TransposedConvUpsample`.
    enable_nhwc, enable_healpixpad
        Have no effect.

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
        return functional.interpolate(inputs, scale_factor=self.scale_factor, mode=self.mode)
