# SPDX-License-Identifier: Apache-2.0
"""Inputs of programs: tensors and constants in plain containers, so that no class is needed."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from physicsnemo.core.pytree import named_leaves
from physicsnemo.core.rebuild.example import Inputs

_TENSOR = object()  # stands for one among constants
_CONSTANTS = (bool, int, float, str, type(None))

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def as_arguments(example: Inputs) -> Arguments:
    """Return positional and named arguments.

    Raises
    ------
    TypeError
        If the example is neither a tuple nor a dictionary.
    """
    if isinstance(example, tuple):
        return example, {}
    if isinstance(example, Mapping):
        return (), dict(example)
    raise TypeError(
        f"expected example to be a tuple of inputs, or a dictionary of them by name, got a "
        f"{type(example).__name__}"
    )


def moved(arguments: Arguments, device: torch.device, dtype: torch.dtype | None) -> Arguments:
    """Return copies of tensors on a device, those of floating-point numbers in a type if given."""

    def move(tensor: Tensor) -> Tensor:
        wanted = dtype if tensor.is_floating_point() else None
        return tensor.detach().to(device, wanted, copy=True)

    result: Arguments = pytree.tree_map_only(Tensor, move, arguments)
    return result


def plain(value: Any) -> Any:
    """Return inputs with every other object, such as a graph, replaced by a tuple of its tensors.

    Raises
    ------
    TypeError
        If an object has no known parts.
    """
    if type(value) in (tuple, list):
        return type(value)(map(plain, value))
    if type(value) is dict:
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (Tensor, *_CONSTANTS)):
        return value
    leaves = pytree.tree_leaves(value)
    if len(leaves) == 1 and leaves[0] is value:
        raise TypeError(
            f"expected inputs of tensors and constants, got a {type(value).__name__}; a program "
            f"cannot take one, so wrap the model in one that takes its tensors"
        )
    return tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))


def check_contiguous(arguments: Arguments, title: str) -> None:
    """Check that tensors lie in memory in the order of their elements, as a program assumes.

    Parameters
    ----------
    arguments
        In the plain form.
    title
        What the program is called.

    Raises
    ------
    ValueError
        If one does not: of other tensors of the same shape, the program would read other elements.
    """
    args, kwargs = arguments
    for name, leaf in (*named_leaves(args, "args"), *named_leaves(kwargs, "kwargs")):
        if isinstance(leaf, Tensor) and not leaf.is_contiguous():
            raise ValueError(
                f"expected contiguous tensors, since an {title} reads all that it is given by the "
                f"strides of the example, unchecked; got {name} of shape {tuple(leaf.shape)} with "
                f"strides {leaf.stride()}: pass it.contiguous() here and to the program (of a "
                f"graph, make it of edge_index.contiguous()), or use compile=False"
            )


class TakesTensors(nn.Module):
    """A model behind the plain form of its inputs; what is no tensor in them is as it was.

    Parameters
    ----------
    model
        The model.
    arguments
        Its inputs, in the form that it takes.
    """

    def __init__(self, model: nn.Module, arguments: Arguments) -> None:
        super().__init__()
        self.model = model
        leaves, self._spec = pytree.tree_flatten(arguments)
        self._constants = [_TENSOR if isinstance(it, Tensor) else it for it in leaves]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the model returns for the tensors among the arguments."""
        given = (it for it in pytree.tree_leaves((args, kwargs)) if isinstance(it, Tensor))
        leaves = [next(given) if it is _TENSOR else it for it in self._constants]
        positional, named = pytree.tree_unflatten(leaves, self._spec)
        return self.model(*positional, **named)


def batches(arguments: Arguments) -> Arguments:
    """Return arguments with two samples where there is one, which would be taken as fixed."""

    def two(tensor: Tensor) -> Tensor:
        return torch.cat((tensor, tensor)) if tensor.ndim and len(tensor) == 1 else tensor

    result: Arguments = pytree.tree_map_only(Tensor, two, arguments)
    return result


def batch_dimensions(model: nn.Module, arguments: Arguments) -> dict[str, Any]:
    """Return for ``torch.export`` that the first axis of all tensors has the same, any, size."""
    batch = torch.export.Dim("batch", min=1)
    args, kwargs = arguments
    bound = inspect.signature(model.forward).bind(*args, **kwargs).arguments
    return {
        name: pytree.tree_map(
            lambda leaf: {0: batch} if isinstance(leaf, Tensor) and leaf.ndim else None, value
        )
        for name, value in bound.items()
    }
