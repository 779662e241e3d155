# SPDX-License-Identifier: Apache-2.0
"""Grids divided into windows, and which points of a window attend to each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
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

    def split(self, x: Tensor, shared: int) -> Tensor:
        """Cut a grid into windows.

        Parameters
        ----------
        x
            A grid of shape (batch, *grid, channels).
        shared
            Which windows to count with the samples, for whatever follows treats them alike: none
            (0), those that differ in the longitude alone (1), or all (2).

        Returns
        -------
        A contiguous tensor of shape (batch * such windows, points, other windows, channels).
        """
        batch, channels = x.shape[0], x.shape[-1]
        together, apart = prod(self._numbers[:shared]), prod(self._numbers[shared:])
        x = x.reshape(batch, *self._cut, channels).permute(self._order(shared))
        return x.reshape(batch * together, self.points, apart, channels)

    def join(self, x: Tensor, shared: int) -> Tensor:
        """Undo :meth:`split`."""
        batch, channels = x.shape[0] // prod(self._numbers[:shared]), x.shape[-1]
        order = self._order(shared)
        cut = (batch, *self._cut, channels)
        back = sorted(range(len(order)), key=order.__getitem__)
        x = x.reshape([cut[axis] for axis in order]).permute(back)
        return x.reshape(batch, *self.grid, channels)

    @property
    def _numbers(self) -> tuple[int, int]:
        return self.columns, self.types

    @property
    def _cut(self) -> tuple[int, ...]:
        """Number of windows and of their points along the first axis, the second, and so on."""
        return tuple(chain.from_iterable(zip(self.counts, self.window, strict=True)))

    def _order(self, shared: int) -> tuple[int, ...]:
        """Return where :meth:`split` takes its axes from: batch, those of ``_cut``, channels."""
        last = 2 * len(self.grid)
        counts, points = (last - 1, *range(1, last - 1, 2)), range(2, last + 1, 2)
        together = (0, 1, len(counts))[shared]
        return (0, *counts[:together], *points, *counts[together:], last + 1)


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
    part = windows.split(part.view(1, *windows.grid, 1), shared=2)
    part = part.view(windows.columns, windows.types, windows.points)
    return torch.where(part.unsqueeze(-1) == part.unsqueeze(-2), 0.0, _EXCLUDED)


def rolled_labels(size: int, window: int, shift: int) -> Tensor:
    """Label the points of a rolled axis: whole windows, the last one, what came round the end."""
    labels = torch.zeros(size)
    labels[size - window : max(0, size - shift)] = 1
    labels[max(0, size - shift) :] = 2
    return labels
