# SPDX-License-Identifier: Apache-2.0
"""Fields that tell a network where a pixel is."""

import math

import torch
from torch import Tensor

GRID_TYPES = ("sinusoidal", "learnable", "linear", "test")


def position_grid(gridtype: str, channels: int, height: int, width: int) -> Tensor:
    """Return fields of shape (channels, height, width).

    Parameters
    ----------
    gridtype
        See :class:`~physicsnemo.models.diffusion.song_unet.SongUNetPosEmbd`.
    channels
        Their number.
    height, width
        Size of the grid.

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
    if gridtype == "sinusoidal":
        return _waves(channels, height, width)
    if channels != 2:
        raise ValueError(f"expected N_grid_channels=2 for gridtype={gridtype!r}, got {channels}")
    if gridtype == "linear":
        y, x = _coordinates(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width))
        return torch.stack((x, y))
    return torch.stack(_coordinates(torch.arange(height), torch.arange(width))).float()


def _waves(channels: int, height: int, width: int) -> Tensor:
    if channels < 4 or channels % 4:
        raise ValueError(
            f"expected N_grid_channels to be a multiple of 4 for gridtype='sinusoidal', got "
            f"{channels}"
        )
    turn = 2 * math.pi
    y, x = _coordinates(torch.linspace(0, turn, height), torch.linspace(0, turn, width))
    if channels == 4:
        return torch.stack((y.sin(), x.sin(), y.cos(), x.cos()))
    count = channels // 4
    waves = []
    for frequency in 2 ** torch.linspace(0, count, count):
        waves += [wave(frequency * axis) for wave in (torch.sin, torch.cos) for axis in (x, y)]
    return torch.stack(waves)


def _coordinates(y: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    return torch.meshgrid(y, x, indexing="ij")
