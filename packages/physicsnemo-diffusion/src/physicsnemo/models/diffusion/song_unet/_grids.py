# SPDX-License-Identifier: Apache-2.0
"""Positional embeddings: the grids that tell a network where a pixel is."""

import math

import torch
from torch import Tensor

GRID_TYPES = ("sinusoidal", "sinusoidal_octave", "learnable", "linear", "test")


def position_grid(
    gridtype: str, channels: int, height: int, width: int, sines_of_y_first: bool = True
) -> Tensor:
    """Return a positional embedding of shape (channels, height, width).

    Parameters
    ----------
    gridtype
        See :class:`~physicsnemo.models.diffusion.song_unet.SongUNetPosEmbd`.
    channels
        Their number.
    height, width
        Size of the grid.
    sines_of_y_first
        The order of four channels of ``sinusoidal``: sin y, sin x, cos y, cos x, or else that of
        ``sinusoidal_octave``, where x is first.

    Returns
    -------
    The fields, computed in double precision; those of ``learnable`` in the default type.

    Raises
    ------
    ValueError
        If there is no such type, or none with so many channels.
    """
    if gridtype not in GRID_TYPES:
        raise ValueError(
            f"expected gridtype to be one of {', '.join(GRID_TYPES)}, got {gridtype!r}: Gridtype "
            f"not supported."
        )
    if gridtype == "learnable":
        return torch.empty(channels, height, width).normal_()
    if gridtype.startswith("sinusoidal"):
        if channels < 4 or channels % 4:
            raise ValueError(
                f"expected N_grid_channels to be a multiple of 4 for gridtype={gridtype!r}, got "
                f"{channels}"
            )
        return _sinusoidal(
            gridtype=gridtype,
            count=channels // 4,
            height=height,
            width=width,
            sines_of_y_first=sines_of_y_first,
        )
    if channels != 2:
        raise ValueError(f"expected N_grid_channels=2 for gridtype={gridtype!r}, got {channels}")
    if gridtype == "linear":
        y, x = _coordinates(_even(-1, 1, height), _even(-1, 1, width))
        return torch.stack((x, y))
    return torch.stack(_coordinates(torch.arange(height), torch.arange(width))).double()


def _sinusoidal(
    gridtype: str, count: int, height: int, width: int, sines_of_y_first: bool
) -> Tensor:
    if gridtype == "sinusoidal_octave":
        return _waves(2.0 ** torch.arange(count), height, width)
    waves = _waves(2 ** _even(0, count, count), height, width)
    # With four channels, those of y come first, as in files of release 1.2.
    return waves[[1, 0, 3, 2]] if count == 1 and sines_of_y_first else waves


def _waves(frequencies: Tensor, height: int, width: int) -> Tensor:
    """Return sin fx, sin fy, cos fx and cos fy of each frequency, once around for the first."""
    turn = 2 * math.pi
    y, x = _coordinates(_even(0, turn, height), _even(0, turn, width))
    waves = [
        wave(frequency * axis)
        for frequency in frequencies
        for wave in (torch.sin, torch.cos)
        for axis in (x, y)
    ]
    return torch.stack(waves)


def _even(start: float, end: float, number: int) -> Tensor:
    return torch.linspace(start, end, number, dtype=torch.float64)


def _coordinates(y: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    return torch.meshgrid(y, x, indexing="ij")
