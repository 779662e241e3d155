# SPDX-License-Identifier: Apache-2.0
"""Inputs of a model: those of an example, random ones, and arrays in place of either."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import click
import torch
from torch import Tensor

from physicsnemo.cli._parameters import described_inputs, draw_inputs
from physicsnemo.cli.page.uploads import LARGEST, Array
from physicsnemo.core.errors import shown
from physicsnemo.core.pytree import map_leaves, named_leaves


class InputError(ValueError):
    """No input can be made of what the user gives; the text says what was given and expected."""


class Call(NamedTuple):
    """Arguments of a model's ``forward``, by position and by name."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @classmethod
    def of(cls, example: Mapping[str, Any]) -> "Call":
        """Return the call that an example in a file holds."""
        return cls(tuple(example["args"]), dict(example["kwargs"]))

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors in it, by names for people."""
        single = len(self.args) == 1 and not self.kwargs
        given = {"input" if single else f"input {n}": it for n, it in enumerate(self.args, 1)}
        return tensors_of({**given, **self.kwargs})

    def with_tensor(self, name: str, tensor: Tensor) -> "Call":
        """Return the same with a tensor in the place of the one of that name."""
        old = self.tensors[name]
        args, kwargs = map_leaves(tuple(self), lambda leaf: tensor if leaf is old else leaf)
        return Call(args, kwargs)


def tensors_of(named: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors in pytrees, each by the expression that leads to it."""
    leaves = (leaf for name, tree in named.items() for leaf in named_leaves(tree, name))
    return {name: leaf for name, leaf in leaves if isinstance(leaf, Tensor)}


def random_call(text: str) -> Call:
    """Return inputs of random numbers, the same each time.

    Parameters
    ----------
    text
        Their shapes, as the option ``--input`` takes them: ``1,3,64,64``, or several, with spaces
        between, as in ``x=8,3 labels=8:10``.

    Raises
    ------
    InputError
        If the text describes none, or too large ones.
    """
    words = text.replace(", ", ",").split()
    try:
        described = described_inputs(words)
    except click.BadParameter as error:
        raise InputError(shown(error.message)) from error
    if not described:
        raise InputError("expected the shape of each input, as in 1,3,64,64, got nothing")
    size = 8 * sum(math.prod(it.shape) for it in described)
    if size > LARGEST:
        raise InputError(
            f"expected inputs of at most {LARGEST // 8:,} numbers, got {size // 8:,}: {shown(text)}"
        )
    drawn = draw_inputs(described)
    return Call((), dict(drawn)) if isinstance(drawn, Mapping) else Call(tuple(drawn), {})


def described(call: Call) -> str:
    """Return the text for :func:`random_call` that makes tensors of the same shapes.

    It is empty where other values stand among them.
    """
    values = (*call.args, *call.kwargs.values())
    if not values or not all(isinstance(it, Tensor) and it.ndim for it in values):
        return ""
    names = [""] * len(call.args) + [f"{name}=" for name in call.kwargs]
    if call.args and call.kwargs:
        return ""
    return " ".join(map(_described, names, values))


def _described(name: str, tensor: Tensor) -> str:
    shape = name + ",".join(map(str, tensor.shape))
    whole = not (tensor.is_floating_point() or tensor.is_complex())
    return f"{shape}:{max(int(tensor.max()), 0) + 1}" if whole and tensor.numel() else shape


def as_input(array: Array, name: str, like: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return an array as an input.

    Parameters
    ----------
    array
        Its numbers.
    name
        Which input it is, for error texts.
    like
        The same input in an example, whose type it gets, and which it must have as many axes as.
    dtype
        The type that real numbers get where there is no example.

    Raises
    ------
    InputError
        If it has another number of axes, or numbers that the type cannot hold.
    """
    if like is not None and array.ndim != like.ndim:
        raise InputError(
            f"expected {name} to have {like.ndim} axes, as in the example, where its shape is "
            f"{tuple(like.shape)}; got an array of shape {array.shape}"
        )
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype("int64")  # PyTorch hardly computes with the others
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype("float64")
    tensor = torch.from_numpy(array)
    if like is None:
        return tensor.to(dtype) if tensor.is_floating_point() else tensor
    if not _can_be(tensor, like.dtype):
        raise InputError(
            f"expected {name} to hold numbers that {_called(like.dtype)} can hold, as in the "
            f"example; got {_called(tensor.dtype)} ones that it cannot"
        )
    return tensor.to(like.dtype)


def _can_be(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Tell whether no number loses its imaginary part or what is behind the point."""
    if dtype.is_complex or dtype.is_floating_point:
        return dtype.is_complex or not tensor.is_complex()
    return not tensor.is_complex() and torch.equal(tensor.to(dtype).to(tensor.dtype), tensor)


def _called(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
