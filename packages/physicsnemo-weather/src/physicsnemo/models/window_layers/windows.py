# SPDX-License-Identifier: Apache-2.0
"""Window partition of grids: padding to whole windows, windows, and the mask of shifted ones."""

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from physicsnemo.nn.checks import is_integer

Pads = tuple[tuple[int, int], ...]
"""Padding before and after, for each axis of a grid; negative to crop."""

# Added to the logits of masked pairs, as in Swin transformers and nvidia-physicsnemo.
_MASKED = -100.0


@dataclass(frozen=True)
class Windows:
    """Window partition of a grid of (level,) latitude and longitude.

    Windows that differ in longitude alone are of one type.

    Parameters
    ----------
    grid
        Size of the grid, multiples of the window's.
    window
        Size of a window.
    """

    grid: tuple[int, ...]
    window: tuple[int, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of windows along each axis."""
        return tuple(n // w for n, w in zip(self.grid, self.window, strict=True))

    @property
    def columns(self) -> int:
        """Number of windows along longitude."""
        return self.counts[-1]

    @property
    def types(self) -> int:
        """Number of window types, which is that of windows at one longitude."""
        return prod(self.counts[:-1])

    @property
    def points(self) -> int:
        """Number of points in a window."""
        return prod(self.window)

    def split(self, x: Tensor, shared_axes: int) -> Tensor:
        """Partition a grid into windows.

        Parameters
        ----------
        x
            Grid of shape (batch, *grid, channels).
        shared_axes
            Along how many axes of windows, of (columns, types), a bias is the same: windows along
            these join the batch.

        Returns
        -------
        Contiguous tensor of shape (batch * windows along these, points, other windows, channels).
        """
        batch, channels = x.shape[0], x.shape[-1]
        together, apart = (
            prod(self._columns_and_types[:shared_axes]),
            prod(self._columns_and_types[shared_axes:]),
        )
        x = x.reshape(batch, *self._cut, channels).permute(self._order(shared_axes))
        return x.reshape(batch * together, self.points, apart, channels)

    def join(self, x: Tensor, shared_axes: int) -> Tensor:
        """Undo :meth:`split`."""
        batch, channels = x.shape[0] // prod(self._columns_and_types[:shared_axes]), x.shape[-1]
        order = self._order(shared_axes)
        cut = (batch, *self._cut, channels)
        back = sorted(range(len(order)), key=order.__getitem__)
        x = x.reshape([cut[axis] for axis in order]).permute(back)
        return x.reshape(batch, *self.grid, channels)

    @property
    def _columns_and_types(self) -> tuple[int, int]:
        return self.columns, self.types

    @property
    def _cut(self) -> tuple[int, ...]:
        """Number of windows, and points of a window, along each axis in turn."""
        return tuple(chain.from_iterable(zip(self.counts, self.window, strict=True)))

    def _order(self, shared_axes: int) -> tuple[int, ...]:
        """Return the permutation of :meth:`split`, of axes (batch, *``_cut``, channels)."""
        last = 2 * len(self.grid)
        counts, points = (last - 1, *range(1, last - 1, 2)), range(2, last + 1, 2)
        together = (0, 1, len(counts))[shared_axes]
        return (0, *counts[:together], *points, *counts[together:], last + 1)


def window_mask(windows: Windows, labels: Sequence[Tensor]) -> Tensor:
    """Compute the attention mask of shifted windows: only points of one region attend.

    Parameters
    ----------
    windows
        Window partition of the grid.
    labels
        Labels 0, 1 or 2 along each axis of the grid; the points of a region agree in all of them.

    Returns
    -------
    Mask to add to the logits, 0 within a region and -100 between regions, of shape
    (columns, types, points, points).

    References
    ----------
    Liu et al. 2021, Swin transformer, arXiv:2103.14030, figure 4.
    """
    region = torch.zeros(1)
    for label in labels:  # the digits of a number of base 3
        region = 3 * region.unsqueeze(-1) + label
    region = windows.split(region.view(1, *windows.grid, 1), shared_axes=2)
    region = region.view(windows.columns, windows.types, windows.points)
    return torch.where(region.unsqueeze(-1) == region.unsqueeze(-2), 0.0, _MASKED)


def rolled_labels(size: int, window: int, shift: int) -> Tensor:
    """Label the points of a shifted axis: 0; in the last window 1, or 2 if they wrapped around."""
    # The last window joins points of the axis' end (1) and, by the roll, of its beginning (2).
    labels = torch.zeros(size)
    labels[size - window : max(0, size - shift)] = 1
    labels[max(0, size - shift) :] = 2
    return labels


def centered_pads(sizes: Sequence[int], multiples: Sequence[int]) -> Pads:
    """Return the padding that makes sizes multiples: half before, the larger half after."""
    totals = [-size % multiple for size, multiple in zip(sizes, multiples, strict=True)]
    return tuple((total // 2, total - total // 2) for total in totals)


def padded_sizes(sizes: Sequence[int], pads: Pads) -> tuple[int, ...]:
    """Return the sizes of a padded grid."""
    return tuple(size + sum(pad) for size, pad in zip(sizes, pads, strict=True))


def pad_grid(x: Tensor, pads: Pads, channels_last: bool = True) -> Tensor:
    """Pad a grid by zeros.

    Parameters
    ----------
    x
        Fields of shape (batch, *grid, channels), or (batch, channels, *grid).
    pads
        Padding of each axis of the grid.
    channels_last
        Which of the two shapes ``x`` has.
    """
    if not any(map(any, pads)):
        return x
    last = [(0, 0)] if channels_last else []
    return functional.pad(x, [*chain.from_iterable([*last, *reversed(pads)])])


def crop_grid(x: Tensor, pads: Pads, channels_last: bool = True) -> Tensor:
    """Undo :func:`pad_grid`, for padding that is not negative."""
    first = 1 if channels_last else 2
    for axis, (before, after) in enumerate(pads, start=first):
        if before or after:
            x = x.narrow(axis, before, x.shape[axis] - before - after)
    return x


def check_sizes(name: str, sizes: Iterable[int], axes: str) -> tuple[int, ...]:
    """Return sizes as a tuple; raise an error unless there is a positive integer for each axis.

    Parameters
    ----------
    name
        Name of the argument.
    sizes
        Its value.
    axes
        Names of the axes, such as ``height, width``.

    Raises
    ------
    ValueError
        If the number of sizes is another, or one is not a positive integer.
    """
    many = isinstance(sizes, Iterable) and not isinstance(sizes, str)
    given: tuple[Any, ...] = tuple(sizes) if many else (sizes,)
    whole = all(is_integer(size) and size > 0 for size in given)
    if len(given) != len(axes.split(", ")) or not whole:
        raise ValueError(
            f"expected {name} to be positive whole numbers ({axes}), got {list(given)}"
        )
    return tuple(map(operator.index, given))
