# SPDX-License-Identifier: Apache-2.0
"""Grids of half, and of twice, the resolution in latitude and longitude."""

from torch import Tensor, nn

from physicsnemo.models.window_layers.padding import centred_pads, crop_grid, pad_grid

# By how much axes get coarser: levels, if any, do not.
_FACTORS = (1, 2, 2)


class DownSample(nn.Module):
    """Join two by two points into one of twice the channels.

    Parameters
    ----------
    dim
        Channels of the input.
    grid
        Its points along (level,) latitude and longitude; odd numbers are padded.
    """

    def __init__(self, dim: int, grid: tuple[int, ...]) -> None:
        super().__init__()
        self.pads = centred_pads(grid, _FACTORS[-len(grid) :])
        self.linear = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map grids of shape (batch, *grid, dim) to (batch, *coarser grid, 2 * dim)."""
        x = pad_grid(x, self.pads)
        x = x.unflatten(-2, (-1, 2)).unflatten(-4, (-1, 2))  # ..., lat, 2, lon, 2, channels
        x = x.transpose(-4, -3).flatten(-3)
        output: Tensor = self.linear(self.norm(x))
        return output


class UpSample(nn.Module):
    """Undo the shapes of a :class:`DownSample`: one point becomes two by two of half the channels.

    Parameters
    ----------
    dim
        Channels of the output.
    grid
        Its points along (level,) latitude and longitude.
    """

    def __init__(self, dim: int, grid: tuple[int, ...]) -> None:
        super().__init__()
        self.pads = centred_pads(grid, _FACTORS[-len(grid) :])
        self.linear1 = nn.Linear(2 * dim, 4 * dim, bias=False)
        self.linear2 = nn.Linear(dim, dim, bias=False)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map grids of shape (batch, *coarser grid, 2 * dim) to (batch, *grid, dim)."""
        x = self.linear1(x).unflatten(-1, (2, 2, -1)).transpose(-4, -3)
        x = x.flatten(-3, -2).flatten(-4, -3)
        output: Tensor = self.linear2(self.norm(crop_grid(x, self.pads)))
        return output


def coarser(grid: tuple[int, ...]) -> tuple[int, ...]:
    """Return the size of the grid that a :class:`DownSample` makes."""
    factors = _FACTORS[-len(grid) :]
    return tuple(-(-size // factor) for size, factor in zip(grid, factors, strict=True))
