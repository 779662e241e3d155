# SPDX-License-Identifier: Apache-2.0
"""Checks of constructor arguments that models of windowed attention share."""

from collections.abc import Sequence


def check_sizes(name: str, sizes: Sequence[int], axes: str) -> tuple[int, ...]:
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
    given = tuple(sizes) if isinstance(sizes, Sequence) else (sizes,)
    whole = all(isinstance(size, int) and size > 0 for size in given)
    if len(given) != len(axes.split(", ")) or not whole:
        raise ValueError(
            f"expected {name} to be positive whole numbers ({axes}), got {list(given)}"
        )
    return given


def check_heads(channels: int, heads: int) -> None:
    """Raise an error unless heads divide channels.

    Raises
    ------
    ValueError
        If they do not.
    """
    if heads < 1 or channels % heads:
        raise ValueError(
            f"expected a number of heads that divides the channels, got num_heads of {heads} for "
            f"{channels} channels; take another num_heads or embed_dim"
        )
