# SPDX-License-Identifier: Apache-2.0
"""Checks of constructor arguments that models of windowed attention share."""

import operator
from collections.abc import Iterable
from typing import Any

from physicsnemo.nn.checks import is_integer


def check_sizes(name: str, sizes: Iterable[int], axes: str) -> tuple[int, ...]:
    """Return sizes as a tuple, or raise an error unless there is a positive one for each axis.

    Parameters
    ----------
    name
        The argument's name.
    sizes
        Its value.
    axes
        What the entries are, such as ``height, width``.

    Raises
    ------
    ValueError
        If there are more or fewer sizes, or one is not a positive whole number.
    """
    many = isinstance(sizes, Iterable) and not isinstance(sizes, str)
    given: tuple[Any, ...] = tuple(sizes) if many else (sizes,)
    whole = all(is_integer(size) and size > 0 for size in given)
    if len(given) != len(axes.split(", ")) or not whole:
        raise ValueError(
            f"expected {name} to be positive whole numbers ({axes}), got {list(given)}"
        )
    return tuple(map(operator.index, given))


def check_heads(channels: int, heads: int) -> None:
    """Raise an error unless heads divide channels.

    Raises
    ------
    ValueError
        If they do not.
    """
    if not is_integer(heads) or heads < 1 or channels % heads:
        raise ValueError(
            f"expected a number of heads that divides the channels, got num_heads of {heads} for "
            f"{channels} channels; take another num_heads or embed_dim"
        )
