# SPDX-License-Identifier: Apache-2.0
"""Spectral convolutions by the number of axes, with the modes of each axis as an argument."""

from physicsnemo.models.fno import SpectralConv
from physicsnemo.nn.numerics import PAPER

__all__ = ["SpectralConv1d", "SpectralConv2d", "SpectralConv3d", "SpectralConv4d"]


class SpectralConv1d(SpectralConv):
    """:class:`SpectralConv` for fields of shape (batch, in_channels, n1).

    Parameters
    ----------
    in_channels, out_channels
        Input and output channels.
    modes1
        Number of Fourier modes to keep.
    numerics
        As of :class:`SpectralConv`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, modes1: int, numerics: str = PAPER
    ) -> None:
        super().__init__(in_channels, out_channels, [modes1], numerics)


class SpectralConv2d(SpectralConv):
    """:class:`SpectralConv` for fields of shape (batch, in_channels, n1, n2).

    Parameters
    ----------
    in_channels, out_channels
        Input and output channels.
    modes1, modes2
        Number of Fourier modes to keep along each axis.
    numerics
        As of :class:`SpectralConv`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        modes1: int,
        modes2: int,
        numerics: str = PAPER,
    ) -> None:
        super().__init__(in_channels, out_channels, [modes1, modes2], numerics)


class SpectralConv3d(SpectralConv):
    """:class:`SpectralConv` for fields of shape (batch, in_channels, n1, n2, n3).

    Parameters
    ----------
    in_channels, out_channels
        Input and output channels.
    modes1, modes2, modes3
        Number of Fourier modes to keep along each axis.
    numerics
        As of :class:`SpectralConv`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        modes1: int,
        modes2: int,
        modes3: int,
        numerics: str = PAPER,
    ) -> None:
        super().__init__(in_channels, out_channels, [modes1, modes2, modes3], numerics)


class SpectralConv4d(SpectralConv):
    """:class:`SpectralConv` for fields of shape (batch, in_channels, n1, n2, n3, n4).

    Parameters
    ----------
    in_channels, out_channels
        Input and output channels.
    modes1, modes2, modes3, modes4
        Number of Fourier modes to keep along each axis.
    numerics
        As of :class:`SpectralConv`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        modes1: int,
        modes2: int,
        modes3: int,
        modes4: int,
        numerics: str = PAPER,
    ) -> None:
        super().__init__(in_channels, out_channels, [modes1, modes2, modes3, modes4], numerics)
