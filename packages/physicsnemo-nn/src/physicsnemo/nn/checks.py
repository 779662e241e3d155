# SPDX-License-Identifier: Apache-2.0
"""Checks of arguments and inputs; their error texts say what to change."""

import operator
from collections.abc import Iterable, Mapping
from numbers import Real
from types import EllipsisType
from typing import Any, Literal

import torch
from torch import Tensor

from physicsnemo.nn.tracing import is_tracing

Layout = Mapping[str, int | EllipsisType | None]
"""The axes of a tensor in order, each with its name and size.

None stands for any size, but only the first axis, a batch, may then be empty. ``...`` stands for
any size from 0 on. A first axis that is named ``...`` stands for any number of axes.
"""

Numbers = Literal["alike", "floating", "real"]
"""What a tensor may hold.

``alike``: floating-point numbers of the weights' type; ``floating``: those of any type; ``real``:
integers too.
"""


def field_layout(in_channels: int, dimension: int) -> Layout:
    """Return the layout of fields on grids of any size, (batch, in_channels, *grid)."""
    grid = {f"n{axis}": None for axis in range(1, dimension + 1)}
    return {"batch": None, "in_channels": in_channels} | grid


def is_integer(value: Any) -> bool:
    """Return whether something counts as a whole number, as whatever can be an index does.

    NumPy's integers do; numbers with a fraction, even of 0, and text do not.
    """
    try:
        operator.index(value)
    except TypeError:
        return False
    return True


def check_at_least(least: int, **values: int) -> None:
    """Check that options, given by name, are whole numbers of at least some number.

    Raises
    ------
    TypeError
        If one is no whole number; see :func:`is_integer`.
    ValueError
        If one is smaller.
    """
    for name, value in values.items():
        if not is_integer(value):
            raise TypeError(f"expected {name} to be a whole number, got {_briefly(value)}")
        if value < least:
            raise ValueError(f"expected {name} of at least {least}, got {value}")


def _briefly(value: object) -> str:
    """Return what a value looks like, its type where that takes lines, as that of a tensor does."""
    text = repr(value)
    return text if len(text) <= 80 and "\n" not in text else f"a {type(value).__name__}"


def check_real(**values: float) -> None:
    """Raise a TypeError unless options, given by name, are real numbers."""
    for name, value in values.items():
        if not isinstance(value, Real):
            raise TypeError(f"expected {name} to be a number, got {value!r}")


def check_between(least: float, most: float, **values: float) -> None:
    """Check that options, given by name, are numbers in a range, ends included.

    Raises
    ------
    TypeError
        If one is no real number.
    ValueError
        If one is outside of the range, or NaN.
    """
    check_real(**values)
    for name, value in values.items():
        if not least <= value <= most:
            raise ValueError(f"expected {name} from {least} to {most}, got {value}")


def check_above(limit: float, **values: float) -> None:
    """Check that options, given by name, are finite numbers above a limit.

    Raises
    ------
    TypeError
        If one is no real number.
    ValueError
        If one is not above the limit, infinite or NaN.
    """
    check_real(**values)
    for name, value in values.items():
        if not limit < value < float("inf"):
            raise ValueError(f"expected {name} to be a finite number above {limit}, got {value}")


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise a ValueError if an option is none of its choices.

    Parameters
    ----------
    name
        The option.
    value
        What was given for it.
    choices
        What it may be.

    Examples
    --------
    >>> from physicsnemo.nn.checks import check_choice
    >>> check_choice("norm", "batch", ("layer", "none"))
    Traceback (most recent call last):
    ValueError: expected norm to be one of layer, none, got 'batch'
    """
    known = tuple(choices)
    if value not in known:
        raise ValueError(f"expected {name} to be one of {', '.join(known)}, got {value!r}")


def check_dense(name: str, value: object, beside: Tensor | None = None) -> None:
    """Raise a TypeError if an argument is no tensor, or a sparse or nested one.

    Parameters
    ----------
    name
        The argument.
    value
        What was given for it.
    beside
        A tensor on the device that it should be on, for the advice alone.
    """
    if not isinstance(value, Tensor):
        device = "" if beside is None else f", device='{beside.device}'"
        raise TypeError(
            f"expected {name} to be a tensor, got a {type(value).__name__}; convert it, as in "
            f"torch.as_tensor({name}{device})"
        )
    if not _is_dense(value):
        raise TypeError(
            f"expected {name} to be a dense tensor, got layout {value.layout}; convert it, as in "
            f"{name}.to_dense()"
        )


def check_input(
    x: Tensor, layout: Layout, weight: Tensor, name: str = "input", numbers: Numbers = "alike"
) -> None:
    """Check the type, dtype, device and shape of an input.

    A trace of :func:`torch.jit.trace` holds no checks, and a symbolic trace of :mod:`torch.fx`
    keeps them. They look at no values, so that they neither wait for a GPU nor break a graph.

    Parameters
    ----------
    x
        The input.
    layout
        Expected axes. Sizes bear the name of the constructor argument that fixes them.
    weight
        Any weight that the input meets, for the model's device and dtype. Take a
        weight rather than a buffer, which tools that lower the precision leave as it is.
    name
        The argument that it is passed as, where a model takes several.
    numbers
        ``alike``: floating-point numbers of the type of the weights; under autocast, types that it
        converts may mix, which are all but float64. ``floating``: those of any type, where the
        model converts them. ``real``: integers too.

    Raises
    ------
    TypeError
        If it is no dense tensor, or does not hold such numbers.
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
    if not is_tracing():
        _check(x, layout, weight, name=name, numbers=numbers)


def check_grid(x: Tensor, least: int, reason: str) -> None:
    """Check that a grid is large enough for a model.

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
    if not is_tracing():
        _check_grid(x, least, reason)


@torch.fx.wrap  # symbolic tracing keeps the call, whose branches it cannot follow
def _check(x: Tensor, layout: Layout, weight: Tensor, name: str, numbers: Numbers) -> None:
    expected = "expected an input" if name == "input" else f"expected {name}"
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{expected} in a tensor of shape {_axes(layout)}, got {_described(x, weight)}"
        )
    if not _is_dense(x):
        kind = "a nested tensor" if x.is_nested else f"a tensor with layout {x.layout}"
        raise TypeError(f"{expected} in a dense tensor, got {kind}; convert it, as in x.to_dense()")
    _check_numbers(x, weight, expected=expected, numbers=numbers)
    if x.device != weight.device:
        subject = "the input" if name == "input" else name
        raise ValueError(
            f"{subject} is on {x.device} and the model on {weight.device}; move one of them, "
            f"as in x.to('{weight.device}')"
        )
    _check_shape(tuple(x.shape), layout, expected)
    if numbers == "alike" and not _mix(x, weight):
        raise TypeError(
            f"{expected} of {weight.dtype}, as the weights are, got {x.dtype}; convert it, as in "
            f"x.to({weight.dtype}), or the model, as in model.to({x.dtype})"
        )


def _is_dense(x: Tensor) -> bool:
    return not x.is_nested and x.layout == torch.strided


@torch.fx.wrap
def _check_grid(x: Tensor, least: int, reason: str) -> None:
    if min(x.shape[2:]) < least:
        raise ValueError(
            f"expected a grid of at least {least} points along each axis, got an input of shape "
            f"{tuple(x.shape)}; {reason}"
        )


def _check_numbers(x: Tensor, weight: Tensor, expected: str, numbers: Numbers) -> None:
    if x.is_floating_point():
        return
    if x.is_complex() or x.dtype == torch.bool or numbers != "real":
        kind = "real" if numbers == "real" else "floating-point"
        first = "take x.real or torch.view_as_real(x), and " if x.is_complex() else ""
        raise TypeError(
            f"{expected} of {kind} numbers, got {x.dtype}; {first}convert it, as in "
            f"x.to({weight.dtype})"
        )


def _mix(x: Tensor, weight: Tensor) -> bool:
    """Return whether a product takes both: they are alike, or autocast converts them."""
    if x.dtype == weight.dtype:
        return True
    # Autocast never converts float64, and there is none for the meta device.
    if x.is_meta or torch.float64 in (x.dtype, weight.dtype):
        return False
    return torch.is_autocast_enabled(x.device.type)


def _check_shape(shape: tuple[int, ...], layout: Layout, expected: str) -> None:
    problem = _problem(shape, layout)
    if problem is not None:
        raise ValueError(
            f"{expected} of shape {_axes(layout)}, got {shape}, {problem}{_advice(shape, layout)}"
        )


def _problem(shape: tuple[int, ...], layout: Layout) -> str | None:
    """Say what is wrong with a shape, if anything is."""
    sizes = {name: size for name, size in layout.items() if name != "..."}
    missing = len(sizes) - len(shape)
    if missing > 0 or (missing < 0 and "..." not in layout):
        return f"which has {len(shape)} dimensions"
    may_be_empty = next(iter(layout))
    for (name, size), given in zip(sizes.items(), shape[-len(sizes) :], strict=True):
        if isinstance(size, int) and given != size:
            return f"where {name} is {given}"
        if size is None and name != may_be_empty and given == 0:
            return f"where {name} is 0; expected at least 1 points along each axis but the first"
    return None


def _advice(shape: tuple[int, ...], layout: Layout) -> str:
    """Say how to make the input fit, if another order of its axes or another axis would do."""
    order = (0, len(shape) - 1, *range(1, len(shape) - 1))
    if len(shape) > 2 and _problem(tuple(shape[axis] for axis in order), layout) is None:
        return f"; if the channels are last, move them, as in x.permute{order}"
    if "batch" in layout and _problem((1, *shape), layout) is None:
        return "; if it is one sample, make it a batch, as in x.unsqueeze(0)"
    if len(shape) == 2 and _problem(shape[::-1], layout) is None:
        return "; if its axes are in the other order, transpose it, as in x.T"
    if _problem((*shape, 1), layout) is None:
        return "; if it is one feature of each, make it an axis, as in x.unsqueeze(-1)"
    if shape[:1] == (1,) and _problem(shape[1:], layout) is None:
        return "; if it is a batch of one, take what is in it, as in x.squeeze(0)"
    return ""


def _axes(layout: Layout) -> str:
    axes = (f"{name}={size}" if isinstance(size, int) else name for name, size in layout.items())
    return f"({', '.join(axes)})"


def _described(x: Any, weight: Tensor) -> str:
    """Say what was given in place of a tensor, and how to make one of it."""
    if x is None:
        return "None; pass one"
    if isinstance(x, str | bytes):
        return f"the text {x[:40]!r}"
    where = "" if weight.device.type == "cpu" else f", device='{weight.device}'"
    how = f"torch.as_tensor(x, dtype={weight.dtype}{where})"
    return f"a {type(x).__name__}; convert it, as in {how}"
