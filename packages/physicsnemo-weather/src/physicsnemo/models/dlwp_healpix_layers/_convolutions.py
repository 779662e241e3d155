# SPDX-License-Identifier: Apache-2.0
"""Blocks of convolutions."""

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor, nn

from physicsnemo.models.dlwp_healpix_layers.configuration import Activation, activation_of
from physicsnemo.models.dlwp_healpix_layers.healpix_layers import HEALPixLayer
from physicsnemo.nn.checks import check_at_least

__all__ = [
    "BasicConvBlock",
    "ConvNeXtBlock",
    "DoubleConvNeXtBlock",
    "GeometryLayer",
    "Multi_SymmetricConvNeXtBlock",
    "SymmetricConvNeXtBlock",
]

GeometryLayer = Callable[..., nn.Module]
"""What applies a layer of images to faces: :class:`HEALPixLayer`, or a class like it."""

_Convolution = Callable[[int, int, int], nn.Module]
"""Makes a convolution of some kernel size between two numbers of channels."""


class BasicConvBlock(nn.Module):
    """Convolutions, each followed by an activation.

    Parameters
    ----------
    geometry_layer
        What applies a convolution to the faces.
    in_channels, out_channels
        Channels of the input and of the output.
    kernel_size
        Size of the kernels, an odd number.
    dilation
        Distance between the cells that a kernel sees.
    n_layers
        Number of convolutions; without any, the block returns what it gets.
    latent_channels
        Channels between them, by default the larger of ``in_channels`` and ``out_channels``.
    activation
        The activation, one for all convolutions: a configuration, a name or a module; None for
        none.
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
        convolution = _convolution(geometry_layer, dilation, enable_nhwc, enable_healpixpad)
        widths = [in_channels, *[between] * (n_layers - 1), out_channels][: n_layers + 1]
        kernels = [kernel_size] * n_layers
        self.convblock = _chain(convolution, widths, kernels, activation_of(activation))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to faces."""
        return cast(Tensor, self.convblock(x))


class ConvNeXtBlock(nn.Module):
    """Two convolutions to and between many channels, one back at each cell; beside a skip.

    Parameters
    ----------
    geometry_layer, in_channels, out_channels, kernel_size, dilation, activation
        As in :class:`BasicConvBlock`.
    latent_channels
        Channels between the convolutions, divided by ``upscale_factor``.
    n_layers
        Not used; there so that blocks can take each other's place.
    upscale_factor
        How many times ``latent_channels`` there are between the convolutions.
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
        convolution = _convolution(geometry_layer, dilation, enable_nhwc, enable_healpixpad)
        wide = latent_channels * upscale_factor
        self.skip_module = _skip(convolution, in_channels, out_channels)
        self.convblock = _chain(
            convolution,
            [in_channels, wide, wide, out_channels],
            [kernel_size, kernel_size, 1],
            activation_of(activation),
            last=False,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to faces."""
        return cast(Tensor, self.skip_module(x) + self.convblock(x))


class DoubleConvNeXtBlock(nn.Module):
    """Twice a convolution and two layers at each cell, over many channels; each beside a skip.

    Parameters
    ----------
    geometry_layer, in_channels, out_channels, kernel_size, dilation, activation
        As in :class:`BasicConvBlock`.
    latent_channels
        Channels between the two halves.
    n_layers
        Not used; there so that blocks can take each other's place.
    upscale_factor
        How many times ``latent_channels`` there are between the two layers at each cell.
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
        convolution = _convolution(geometry_layer, dilation, enable_nhwc, enable_healpixpad)
        latent, wide = latent_channels, latent_channels * upscale_factor
        kernels, shared = [kernel_size, 1, 1], activation_of(activation)
        self.skip_module1 = _skip(convolution, in_channels, latent)
        self.skip_module2 = _skip(convolution, latent, out_channels)
        widths = [in_channels, latent, wide, latent]
        self.convblock1 = _chain(convolution, widths, kernels, shared)
        widths = [latent, latent, wide, out_channels]
        self.convblock2 = _chain(convolution, widths, kernels, shared)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to faces."""
        x = self.skip_module1(x) + self.convblock1(x)
        return cast(Tensor, self.skip_module2(x) + self.convblock2(x))


class SymmetricConvNeXtBlock(nn.Module):
    """A convolution, two layers at each cell over many channels, and a convolution; beside a skip.

    Parameters
    ----------
    geometry_layer, in_channels, out_channels, kernel_size, dilation, activation
        As in :class:`BasicConvBlock`.
    latent_channels
        Channels behind the first convolution and before the last. The skip is the input itself
        where ``in_channels``, ``latent_channels`` and ``out_channels`` are the same.
    n_layers
        Not used; there so that blocks can take each other's place.
    upscale_factor
        How many times ``latent_channels`` there are between the two layers at each cell.
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
        convolution = _convolution(geometry_layer, dilation, enable_nhwc, enable_healpixpad)
        latent, wide = latent_channels, latent_channels * upscale_factor
        # A weight that equal channels do not need, but that files have where others differ.
        plain = in_channels == latent == out_channels
        self.skip_module = nn.Identity() if plain else convolution(in_channels, out_channels, 1)
        self.convblock = _chain(
            convolution,
            [in_channels, latent, wide, latent, out_channels],
            [kernel_size, 1, 1, kernel_size],
            activation_of(activation),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to faces."""
        return cast(Tensor, self.skip_module(x) + self.convblock(x))


class Multi_SymmetricConvNeXtBlock(nn.Module):  # noqa: N801  # a public name of nvidia-physicsnemo
    """Several of :class:`SymmetricConvNeXtBlock`, one after the other.

    Parameters
    ----------
    geometry_layer, in_channels, latent_channels, out_channels, kernel_size, dilation
        As in :class:`SymmetricConvNeXtBlock`; all but the first have ``out_channels`` for
        ``in_channels``.
    n_layers
        Number of blocks; without any, this returns what it gets.
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


def _convolution(
    geometry_layer: GeometryLayer, dilation: int, enable_nhwc: bool, enable_healpixpad: bool
) -> _Convolution:
    options: dict[str, Any] = {
        "enable_nhwc": enable_nhwc,
        "enable_healpixpad": enable_healpixpad,
    }

    def convolution(in_channels: int, out_channels: int, kernel_size: int) -> nn.Module:
        return geometry_layer(
            layer=nn.Conv2d,
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=kernel_size,
            dilation=1 if kernel_size == 1 else dilation,
            **options,
        )

    return convolution


def _skip(convolution: _Convolution, in_channels: int, out_channels: int) -> nn.Module:
    same = in_channels == out_channels
    return nn.Identity() if same else convolution(in_channels, out_channels, 1)


def _chain(
    convolution: _Convolution,
    widths: list[int],
    kernels: list[int],
    activation: nn.Module | None,
    last: bool = True,
) -> nn.Sequential:
    """Return convolutions from each width to the next, the same activation behind each."""
    layers: list[nn.Module | None] = []
    for before, after, kernel in zip(widths[:-1], widths[1:], kernels, strict=True):
        layers += [convolution(before, after, kernel), activation]
    chosen = layers if last else layers[:-1]
    return nn.Sequential(*(layer for layer in chosen if layer is not None))
