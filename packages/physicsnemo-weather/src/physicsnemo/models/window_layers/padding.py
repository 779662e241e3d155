# SPDX-License-Identifier: Apache-2.0
"""Grids made larger until patches and windows fill them, and cut to size again."""

from collections.abc import Sequence
from itertools import chain

from torch import Tensor
from torch.nn import functional

Pads = tuple[tuple[int, int], ...]
"""How much to add before and after, for each axis of a grid; less than zero cuts off."""


def centred_pads(sizes: Sequence[int], multiples: Sequence[int]) -> Pads:
    """Return what makes sizes multiples of others: half of it before, or one less if it is odd."""
    totals = [-size % multiple for size, multiple in zip(sizes, multiples, strict=True)]
    return tuple((total // 2, total - total // 2) for total in totals)


def padded_sizes(sizes: Sequence[int], pads: Pads) -> tuple[int, ...]:
    """Return the sizes of a padded grid."""
    return tuple(size + sum(pad) for size, pad in zip(sizes, pads, strict=True))


def pad_grid(x: Tensor, pads: Pads, channels_last: bool = True) -> Tensor:
    """Surround a grid by zeros.

    Parameters
    ----------
    x
        Fields of shape (batch, *grid, channels), or (batch, channels, *grid).
    pads
        How much to add.
    channels_last
        Which of the two shapes it is.
    """
    if not any(map(any, pads)):
        return x
    last = [(0, 0)] if channels_last else []
    return functional.pad(x, [*chain.from_iterable([*last, *reversed(pads)])])


def crop_grid(x: Tensor, pads: Pads, channels_last: bool = True) -> Tensor:
    """Undo :func:`pad_grid`, where that cut nothing off."""
    first = 1 if channels_last else 2
    for axis, (before, after) in enumerate(pads, start=first):
        if before or after:
            x = x.narrow(axis, before, x.shape[axis] - before - after)
    return x
