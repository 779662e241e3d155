# SPDX-License-Identifier: Apache-2.0
"""Checks of what a model is given, with texts that say what to change."""

from collections.abc import Mapping

import torch
from torch import Tensor

Layout = Mapping[str, int | None]
"""The axes of a tensor in order: the name of each, and its size or None where any will do.

A first axis named ``...`` stands for any number of axes.
"""


def field_layout(in_channels: int, dimension: int) -> Layout:
    """Return the axes of fields on grids of any size: the batch, the channels, the grid's."""
    grid = {f"n{axis}": None for axis in range(1, dimension + 1)}
    return {"batch": None, "in_channels": in_channels} | grid


def check_at_least(least: int, **values: int) -> None:
    """Raise an error if an option, given under its name, is smaller than it may be.

    Raises
    ------
    ValueError
        If one is.
    """
    for name, value in values.items():
        if value < least:
            raise ValueError(f"expected {name} of at least {least}, got {value}")


def check_input(x: Tensor, layout: Layout, weight: Tensor) -> None:
    """Raise an error if a model cannot take this input.

    Parameters
    ----------
    x
        The input.
    layout
        Its axes. Sizes bear the name of the constructor argument that fixes them.
    weight
        Any of the model's weights; it tells the device that the model is on.

    Raises
    ------
    TypeError
        If the input does not hold real floating-point numbers.
    ValueError
        If it is on another device, or has another number of axes or another size than expected.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.nn.checks import check_input
    >>> check_input(torch.zeros(8, 2), {"...": None, "in_features": 3}, torch.zeros(1))
    Traceback (most recent call last):
    ValueError: expected an input of shape (..., in_features=3), got (8, 2), where in_features is 2
    """
    # A trace drops comparisons, and warns of each.
    if not torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        _check(x, layout, weight)


def check_grid(x: Tensor, least: int, reason: str) -> None:
    """Raise an error if a grid is too small for a model.

    Parameters
    ----------
    x
        Fields of shape (batch, channels, *grid).
    least
        Number of points that every axis of the grid must have.
    reason
        Why, and what to do about it.

    Raises
    ------
    ValueError
        If an axis has fewer.
    """
    if not torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        _check_grid(x, least, reason)


@torch.fx.wrap  # symbolic tracing keeps the call, whose branches it cannot follow
def _check(x: Tensor, layout: Layout, weight: Tensor) -> None:
    if not x.is_floating_point():
        raise TypeError(
            f"expected an input of floating-point numbers, got {x.dtype}; convert it, "
            f"as in x.to({torch.get_default_dtype()})"
        )
    if x.device != weight.device:
        raise ValueError(
            f"the input is on {x.device} and the model on {weight.device}; move one of them, "
            f"as in x.to('{weight.device}')"
        )
    _check_shape(tuple(x.shape), layout)


@torch.fx.wrap
def _check_grid(x: Tensor, least: int, reason: str) -> None:
    if min(x.shape[2:]) < least:
        raise ValueError(
            f"expected a grid of at least {least} points along each axis, got an input of shape "
            f"{tuple(x.shape)}; {reason}"
        )


def _check_shape(shape: tuple[int, ...], layout: Layout) -> None:
    sizes = {name: size for name, size in layout.items() if name != "..."}
    missing = len(sizes) - len(shape)
    if missing > 0 or (missing < 0 and "..." not in layout):
        raise ValueError(f"{_expected(layout)}, got {shape}, which has {len(shape)} dimensions")
    for (name, size), given in zip(sizes.items(), shape[-len(sizes) :], strict=True):
        if size is not None and given != size:
            raise ValueError(f"{_expected(layout)}, got {shape}, where {name} is {given}")


def _expected(layout: Layout) -> str:
    axes = (name if size is None else f"{name}={size}" for name, size in layout.items())
    return f"expected an input of shape ({', '.join(axes)})"
