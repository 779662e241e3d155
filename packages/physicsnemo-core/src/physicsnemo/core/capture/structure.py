# SPDX-License-Identifier: Apache-2.0
"""Nested arguments and results: tuples, lists, dictionaries and dataclasses of anything."""

import copy
import dataclasses
import enum
from collections.abc import Callable, Hashable, Iterator
from types import FunctionType, ModuleType, NoneType
from typing import Any

import torch
from torch import Tensor, nn

PLAIN = (
    *(bool, int, float, complex, str, bytes, NoneType, enum.Enum),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format),
)
"""Types whose values never change, and are compared by value."""


class Same:
    """Equal to another only where both hold the very same object, which they keep alive."""

    __slots__ = ("_object",)

    def __init__(self, value: Any) -> None:
        self._object = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self._object is other._object

    def __hash__(self) -> int:
        return id(self._object)


def flatten(value: Any, leaves: list[Any]) -> Hashable:
    """Append the leaves of a nest to a list, and return a hashable description of the rest."""
    parts = _children(value)
    if parts is None:
        leaves.append(value)
        return None
    return (type(value), *((key, flatten(part, leaves)) for key, part in parts))


def rebuild(value: Any, transform: Callable[[Any], Any]) -> Any:
    """Return a copy of a nest, with each leaf transformed."""
    parts = _children(value)
    if parts is None:
        return transform(value)
    new = {key: rebuild(part, transform) for key, part in parts}
    if isinstance(value, tuple):
        make = getattr(type(value), "_make", type(value))  # named tuples take no iterable
        return make(new.values())
    result = copy.copy(value)
    if dataclasses.is_dataclass(value):
        for name, part in new.items():
            object.__setattr__(result, str(name), part)
    else:
        for key, part in new.items():
            result[key] = part
    return result


def detached(value: Any) -> Any:
    """Return a copy of a nest without gradients; objects that hold such tensors are copied, too."""
    known: dict[int, Any] = {}
    return rebuild(value, lambda leaf: _detached_leaf(leaf, known))


def map_tensors(value: Any, transform: Callable[[Tensor], Tensor]) -> Any:
    """Return a copy of a nest, with each tensor transformed."""
    return rebuild(value, lambda leaf: transform(leaf) if isinstance(leaf, Tensor) else leaf)


def name_leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield each leaf with the expression that leads to it, in the order of :func:`flatten`."""
    parts = _children(value)
    if parts is None:
        yield name, value
        return
    form = "{}[{!r}]" if isinstance(value, list | dict) or type(value) is tuple else "{}.{}"
    for key, part in parts:
        yield from name_leaves(part, form.format(name, key))


def describe(leaf: Any) -> Hashable:
    """Return what a recording bakes in of a leaf: all but the values of a tensor."""
    if isinstance(leaf, Tensor):
        bits = (leaf.requires_grad, leaf.is_conj(), leaf.is_neg())
        return (leaf.shape, leaf.stride(), leaf.dtype, leaf.device, *bits)
    return (type(leaf), leaf if isinstance(leaf, PLAIN) else Same(leaf))


def _detached_leaf(leaf: Any, known: dict[int, Any]) -> Any:
    if isinstance(leaf, Tensor):
        return leaf.detach()
    own = getattr(leaf, "__dict__", None)
    if not isinstance(own, dict) or isinstance(leaf, type | FunctionType | ModuleType | nn.Module):
        return leaf
    if id(leaf) in known:
        return known[id(leaf)]
    known[id(leaf)] = leaf  # for an object that leads to itself
    held, leaves = (dict(own), dict(leaf) if isinstance(leaf, dict) else {}), list[Any]()
    flatten(held, leaves)
    new_leaves = [_detached_leaf(part, known) for part in leaves]
    if any(map(_differs, leaves, new_leaves)):
        known[id(leaf)] = new = copy.copy(leaf)
        supply = iter(new_leaves)
        attributes, items = rebuild(held, lambda _: next(supply))
        vars(new).update(attributes)
        for key, item in items.items():
            dict.__setitem__(new, key, item)
    return known[id(leaf)]


def _differs(before: Any, after: Any) -> bool:
    return before.requires_grad if isinstance(before, Tensor) else before is not after


def _children(value: Any) -> list[tuple[Hashable, Any]] | None:
    if isinstance(value, tuple | list | dict):
        if getattr(value, "__dict__", None):
            return None  # it carries more than its items
        if isinstance(value, dict):
            return list(value.items())
        names = getattr(value, "_fields", range(len(value)))  # of a named tuple
        return list(zip(names, value, strict=True))
    if dataclasses.is_dataclass(value) and not isinstance(value, type | nn.Module):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return list((fields | getattr(value, "__dict__", {})).items())
    return None
