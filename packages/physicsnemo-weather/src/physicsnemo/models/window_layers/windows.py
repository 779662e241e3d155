# SPDX-License-Identifier: Apache-2.0
"""Grids divided into windows, and which points of a window attend to each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

# What nvidia-physicsnemo and Swin transformers add to a logit to exclude a pair.
_EXCLUDED = -100.0


@dataclass(frozen=True)
class Windows:
    """A grid of latitude and longitude, or level, latitude and longitude, cut into windows.

    All windows in which only the longitude differs are of one type.

    Parameters
    ----------
    grid
        Number of points along each axis, multiples of the window's.
    window
        Points of a window along each axis.
    """

    grid: tuple[int, ...]
    window: tuple[int, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of windows along each axis."""
        return tuple(n // w for n, w in zip(self.grid, self.window, strict=True))

    @property
    def columns(self) -> int:
        """Number of windows along the longitude."""
        return self.counts[-1]

    @property
    def types(self) -> int:
        """Number of windows at one longitude."""
        return prod(self.counts[:-1])

    @property
    def points(self) -> int:
        """Number of points in a window."""
        return prod(self.window)

    def split(self, x: Tensor) -> Tensor:
        """Cut a grid into windows.

        Parameters
        ----------
        x
            Parts of the channels, of shape (batch, *grid, parts, heads, channels).

        Returns
        -------
        A contiguous tensor of shape (parts, batch, columns, types, heads, points, channels).
        """
        batch, (parts, heads, channels) = x.shape[0], x.shape[-3:]
        cut = [size for pair in zip(self.counts, self.window, strict=True) for size in pair]
        x = x.reshape(batch, *cut, parts, heads, channels).permute(self._order)
        return x.reshape(parts, batch, self.columns, self.types, heads, self.points, channels)

    def join(self, x: Tensor) -> Tensor:
        """Undo :meth:`split` for one part: (batch, ..., channels) to (batch, *grid, channels)."""
        batch, heads, channels = x.shape[0], x.shape[-3], x.shape[-1]
        counts = (self.columns, *self.counts[:-1])
        x = x.reshape(1, batch, *counts, heads, *self.window, channels)
        back = sorted(range(len(self._order)), key=self._order.__getitem__)
        return x.permute(back).reshape(batch, *self.grid, heads * channels)

    @property
    def _order(self) -> tuple[int, ...]:
        axes = len(self.grid)
        counts, window = range(1, 2 * axes, 2), range(2, 2 * axes + 1, 2)
        parts, heads, channels = range(2 * axes + 1, 2 * axes + 4)
        return (parts, 0, counts[-1], *counts[:-1], heads, *window, channels)


def separation(windows: Windows, labels: Sequence[Tensor]) -> Tensor:
    """Return what to add to the logits of pairs, so that only points of one part attend.

    Parameters
    ----------
    windows
        The windows.
    labels
        Numbers 0, 1 or 2 along each axis of the grid; points of a part agree in all of them.

    Returns
    -------
    0 for points of one part and -100 for others, of shape (columns, types, points, points).
    """
    part = torch.zeros(1)
    for label in labels:
        part = 3 * part.unsqueeze(-1) + label
    part = windows.split(part.view(1, *windows.grid, 1, 1, 1))[0, 0, :, :, 0, :, 0]
    return torch.where(part.unsqueeze(-1) == part.unsqueeze(-2), 0.0, _EXCLUDED)


def rolled_labels(size: int, window: int, shift: int) -> Tensor:
    """Label the points of a rolled axis: whole windows, the last one, what came round the end."""
    labels = torch.zeros(size)
    labels[-window:-shift] = 1
    labels[-shift:] = 2
    return labels
