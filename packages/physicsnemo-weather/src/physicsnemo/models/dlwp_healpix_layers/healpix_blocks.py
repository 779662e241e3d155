# SPDX-License-Identifier: Apache-2.0
"""Convolution blocks, the recurrent block and resampling on the HEALPix grid.

All map faces of shape (batch * 12, channels, height, width) to such faces.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from physicsnemo.models.dlwp_healpix_layers._resampling import (
    AvgPool,
    Interpolate,
    MaxPool,
    TransposedConvUpsample,
)
from physicsnemo.models.dlwp_healpix_layers.configuration import Activation, activation_of
from physicsnemo.models.dlwp_healpix_layers.healpix_layers import GeometryLayer, HEALPixLayer
from physicsnemo.nn.checks import check_at_least

__all__ = [
    "AvgPool",
    "BasicConvBlock",
    "ConvGRUBlock",
    "ConvNeXtBlock",
    "DoubleConvNeXtBlock",
    "Interpolate",
    "MaxPool",
    "Multi_SymmetricConvNeXtBlock",
    "SymmetricConvNeXtBlock",
    "TransposedConvUpsample",
]

_Convolution = Callable[[int, int, int], nn.Module]
"""Function of input channels, output channels and kernel size that makes a convolution."""


class BasicConvBlock(nn.Module):
    """Convolutions, each followed by an activation.

    Parameters
    ----------
    geometry_layer
        Class that applies a convolution to the faces.
    in_channels, out_channels
        Number of input and output channels.
    kernel_size
        Kernel size, an odd number.
    dilation
        Dilation of the kernels.
    n_layers
        Number of convolutions; 0 for the identity.
    latent_channels
        Number of channels between convolutions, by default the larger of ``in_channels`` and
        ``out_channels``.
    activation
        Activation behind every convolution, as a configuration, a name or a module; None for none.
    enable_nhwc, enable_healpixpad
        As in :class:`HEALPixLayer`.
    """

    def __init__(
        self,
        geometry_layer: GeometryLayer = HEALPixLayer,
        in_channels: int = 3,
        out_channels: int = 1,
        kernel_size: int = 3,
        dilation: int = 1,
        n_layers: int = 1,
        latent_channels: int | None = None,
        activation: Activation = None,
        enable_nhwc: bool = False,
        enable_healpixpad: bool = False,
    ) -> None:
        super().__init__()
        check_at_least(0, n_layers=n_layers)
        between = max(in_channels, out_channels) if latent_channels is None else latent_channels
        self.convblock = _chain(
            _convolution(
                geometry_layer,
                dilation=dilation,
                enable_nhwc=enable_nhwc,
                enable_healpixpad=enable_healpixpad,
            ),
            widths=[in_channels, *[between] * (n_layers - 1), out_channels][: n_layers + 1],
            kernels=[kernel_size] * n_layers,
            activation=activation_of(activation),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to faces."""
        return cast(Tensor, self.convblock(x))


class ConvNeXtBlock(nn.Module):
    """ConvNeXt block: two convolutions with expanded channels and a pointwise one, residual.

    Parameters
    ----------
    geometry_layer, in_channels, out_channels, kernel_size, dilation, activation
        As in :class:`BasicConvBlock`.
    latent_channels
        Number of channels between the convolutions, before expansion.
    n_layers
        Ignored; it makes the blocks interchangeable.
    upscale_factor
        Expansion factor of ``latent_channels``.
    enable_nhwc, enable_healpixpad
        As in :class:`HEALPixLayer`.

    References
    ----------
    Karlbauer et al. 2024, arXiv:2311.06253; after Liu et al. 2022, A ConvNet for the 2020s,
    arXiv:2201.03545.
    """

    def __init__(
        self,
        geometry_layer: GeometryLayer = HEALPixLayer,
        in_channels: int = 3,
        latent_channels: int = 1,
        out_channels: int = 1,
        kernel_size: int = 3,
        dilation: int = 1,
        n_layers: int = 1,
        upscale_factor: int = 4,
        activation: Activation = None,
        enable_nhwc: bool = False,
        enable_healpixpad: bool = False,
    ) -> None:
        super().__init__()
        convolution = _convolution(
            geometry_layer,
            dilation=dilation,
            enable_nhwc=enable_nhwc,
            enable_healpixpad=enable_healpixpad,
        )
        wide = latent_channels * upscale_factor
        self.skip_module = _skip(convolution, in_channels, out_channels)
        self.convblock = _chain(
            convolution,
            widths=[in_channels, wide, wide, out_channels],
            kernels=[kernel_size, kernel_size, 1],
            activation=activation_of(activation),
            last=False,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to faces."""
        return cast(Tensor, self.skip_module(x) + self.convblock(x))


class DoubleConvNeXtBlock(nn.Module):
    """Two ConvNeXt blocks: each a convolution and an inverted bottleneck, residual.

    Parameters
    ----------
    geometry_layer, in_channels, out_channels, kernel_size, dilation, activation
        As in :class:`BasicConvBlock`.
    latent_channels
        Number of channels between the two, and of the bottlenecks.
    n_layers
        Ignored; it makes the blocks interchangeable.
    upscale_factor
        Expansion factor of the bottlenecks.
    enable_nhwc, enable_healpixpad
        As in :class:`HEALPixLayer`.

    References
    ----------
    After Liu et al. 2022, arXiv:2201.03545.
    """

    def __init__(
        self,
        geometry_layer: GeometryLayer = HEALPixLayer,
        in_channels: int = 3,
        latent_channels: int = 1,
        out_channels: int = 1,
        kernel_size: int = 3,
        dilation: int = 1,
        n_layers: int = 1,
        upscale_factor: int = 4,
        activation: Activation = None,
        enable_nhwc: bool = False,
        enable_healpixpad: bool = False,
    ) -> None:
        super().__init__()
        convolution = _convolution(
            geometry_layer,
            dilation=dilation,
            enable_nhwc=enable_nhwc,
            enable_healpixpad=enable_healpixpad,
        )
        latent, wide = latent_channels, latent_channels * upscale_factor
        kernels, shared = [kernel_size, 1, 1], activation_of(activation)
        self.skip_module1 = _skip(convolution, in_channels, latent)
        self.skip_module2 = _skip(convolution, latent, out_channels)
        self.convblock1 = _chain(
            convolution,
            widths=[in_channels, latent, wide, latent],
            kernels=kernels,
            activation=shared,
        )
        self.convblock2 = _chain(
            convolution,
            widths=[latent, latent, wide, out_channels],
            kernels=kernels,
            activation=shared,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to faces."""
        x = self.skip_module1(x) + self.convblock1(x)
        return cast(Tensor, self.skip_module2(x) + self.convblock2(x))


class SymmetricConvNeXtBlock(nn.Module):
    """Symmetric ConvNeXt block: an inverted bottleneck between two convolutions, residual.

    Parameters
    ----------
    geometry_layer, in_channels, out_channels, kernel_size, dilation, activation
        As in :class:`BasicConvBlock`.
    latent_channels
        Number of channels of the bottleneck. The skip connection is the identity if
        ``in_channels``, ``latent_channels`` and ``out_channels`` are equal.
    n_layers
        Ignored; it makes the blocks interchangeable.
    upscale_factor
        Expansion factor of the bottleneck.
    enable_nhwc, enable_healpixpad
        As in :class:`HEALPixLayer`.

    References
    ----------
    After Liu et al. 2022, arXiv:2201.03545.
    """

    def __init__(
        self,
        geometry_layer: GeometryLayer = HEALPixLayer,
        in_channels: int = 3,
        latent_channels: int = 1,
        out_channels: int = 1,
        kernel_size: int = 3,
        dilation: int = 1,
        n_layers: int = 1,
        upscale_factor: int = 4,
        activation: Activation = None,
        enable_nhwc: bool = False,
        enable_healpixpad: bool = False,
    ) -> None:
        super().__init__()
        convolution = _convolution(
            geometry_layer,
            dilation=dilation,
            enable_nhwc=enable_nhwc,
            enable_healpixpad=enable_healpixpad,
        )
        latent, wide = latent_channels, latent_channels * upscale_factor
        # With other latent channels, files have a weight although the skip would not need it.
        identity = in_channels == latent == out_channels
        self.skip_module = nn.Identity() if identity else convolution(in_channels, out_channels, 1)
        self.convblock = _chain(
            convolution,
            widths=[in_channels, latent, wide, latent, out_channels],
            kernels=[kernel_size, 1, 1, kernel_size],
            activation=activation_of(activation),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to faces."""
        return cast(Tensor, self.skip_module(x) + self.convblock(x))


class Multi_SymmetricConvNeXtBlock(nn.Module):  # noqa: N801  # a public name of nvidia-physicsnemo
    """Sequence of :class:`SymmetricConvNeXtBlock`.

    Parameters
    ----------
    geometry_layer, in_channels, latent_channels, out_channels, kernel_size, dilation
        As in :class:`SymmetricConvNeXtBlock`; all but the first have ``out_channels`` input
        channels.
    n_layers
        Number of blocks; 0 for the identity.
    upscale_factor, activation, enable_nhwc, enable_healpixpad
        As in :class:`SymmetricConvNeXtBlock`.
    """

    def __init__(
        self,
        geometry_layer: GeometryLayer = HEALPixLayer,
        in_channels: int = 3,
        latent_channels: int = 1,
        out_channels: int = 1,
        kernel_size: int = 3,
        dilation: int = 1,
        n_layers: int = 1,
        upscale_factor: int = 4,
        activation: Activation = None,
        enable_nhwc: bool = False,
        enable_healpixpad: bool = False,
    ) -> None:
        super().__init__()
        check_at_least(0, n_layers=n_layers)
        shared = activation_of(activation)
        self.blocks = nn.ModuleList(
            SymmetricConvNeXtBlock(
                geometry_layer=geometry_layer,
                in_channels=channels,
                latent_channels=latent_channels,
                out_channels=out_channels,
                kernel_size=kernel_size,
                dilation=dilation,
                upscale_factor=upscale_factor,
                activation=shared,
                enable_nhwc=enable_nhwc,
                enable_healpixpad=enable_healpixpad,
            )
            for channels in [in_channels, *[out_channels] * (n_layers - 1)][:n_layers]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the blocks to faces."""
        for block in self.blocks:
            x = block(x)
        return x


class ConvGRUBlock(nn.Module):
    """Convolutional GRU whose hidden state is added to its input.

    The hidden state is zero at first, and again after :meth:`reset` or if the input's shape or
    device changes. It is kept between calls, including its autograd graph, but not in files.

    Parameters
    ----------
    geometry_layer
        Class that applies a convolution to the faces.
    in_channels
        Number of channels of the input, the hidden state and the output.
    kernel_size
        Kernel size, an odd number.
    enable_nhwc, enable_healpixpad
        As in :class:`HEALPixLayer`.

    References
    ----------
    Ballas et al. 2016, arXiv:1511.06432; Karlbauer et al. 2024, arXiv:2311.06253.
    """

    def __init__(
        self,
        geometry_layer: GeometryLayer = HEALPixLayer,
        in_channels: int = 3,
        kernel_size: int = 1,
        enable_nhwc: bool = False,
        enable_healpixpad: bool = False,
    ) -> None:
        super().__init__()
        options = {
            "layer": nn.Conv2d,
            "in_channels": 2 * in_channels,
            "kernel_size": kernel_size,
            "enable_nhwc": enable_nhwc,
            "enable_healpixpad": enable_healpixpad,
        }
        self.conv_gates = geometry_layer(out_channels=2 * in_channels, **options)
        self.conv_can = geometry_layer(out_channels=in_channels, **options)
        self.h: Tensor | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """Update the hidden state by the input, and add it to the input."""
        outputs, self.h = self.step(inputs, self.h)
        return outputs

    def step(self, inputs: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """Apply the GRU to an explicit hidden state; return the output and the new hidden state."""
        if h is None or h.shape != inputs.shape or h.device != inputs.device:
            h = torch.zeros_like(inputs)
        gates = torch.sigmoid(self.conv_gates(torch.cat((inputs, h), dim=1)))
        reset, update = gates.chunk(2, dim=1)
        candidate = torch.tanh(self.conv_can(torch.cat((inputs, reset * h), dim=1)))
        h = (1 - update) * h + update * candidate
        return inputs + h, h

    def reset(self) -> None:
        """Reset the hidden state."""
        self.h = None


def _convolution(
    geometry_layer: GeometryLayer, *, dilation: int, enable_nhwc: bool, enable_healpixpad: bool
) -> _Convolution:
    def convolution(in_channels: int, out_channels: int, kernel_size: int) -> nn.Module:
        return geometry_layer(
            layer=nn.Conv2d,
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=kernel_size,
            dilation=1 if kernel_size == 1 else dilation,
            enable_nhwc=enable_nhwc,
            enable_healpixpad=enable_healpixpad,
        )

    return convolution


def _skip(convolution: _Convolution, in_channels: int, out_channels: int) -> nn.Module:
    same = in_channels == out_channels
    return nn.Identity() if same else convolution(in_channels, out_channels, 1)


def _chain(
    convolution: _Convolution,
    *,
    widths: list[int],
    kernels: list[int],
    activation: nn.Module | None,
    last: bool = True,
) -> nn.Sequential:
    """Return convolutions between successive widths, with the same activation behind each."""
    layers: list[nn.Module | None] = []
    for before, after, kernel in zip(widths[:-1], widths[1:], kernels, strict=True):
        layers += [convolution(before, after, kernel), activation]
    chosen = layers if last else layers[:-1]
    return nn.Sequential(*(layer for layer in chosen if layer is not None))
