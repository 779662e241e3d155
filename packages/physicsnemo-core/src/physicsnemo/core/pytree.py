# SPDX-License-Identifier: Apache-2.0
"""Pytrees: tuples, lists, dictionaries and dataclasses, nested, of leaves of any type.

``torch.utils._pytree`` knows exact types only: dataclasses and subclasses of containers would be
leaves. Here only what has attributes beside its items is one, as a copy could lose them.
"""

import copy
import dataclasses
from collections.abc import Callable, Hashable, Iterator
from types import FunctionType, ModuleType
from typing import Any

from torch import Tensor, nn

_LEAVES = {Tensor, nn.Parameter, int, float, bool, str, type(None)}


def flatten(tree: Any, leaves: list[Any]) -> Hashable:
    """Append the leaves of a pytree to a list, and return its spec: a hashable of the rest."""
    kind = type(tree)
    if kind is tuple or kind is list:
        if _LEAVES.issuperset(map(type, tree)):  # as most of them are
            leaves.extend(tree)
            return (kind, *[None] * len(tree))
        return (kind, *[flatten(child, leaves) for child in tree])
    children = tree.items() if kind is dict else children_of(tree)
    if children is None:
        leaves.append(tree)
        return None
    return (kind, *[(key, flatten(child, leaves)) for key, child in children])


def map_leaves(tree: Any, function: Callable[[Any], Any]) -> Any:
    """Return a copy of a pytree with a function applied to each leaf."""
    children = children_of(tree)
    if children is None:
        return function(tree)
    new = {key: map_leaves(child, function) for key, child in children}
    if isinstance(tree, tuple):
        make = getattr(type(tree), "_make", type(tree))  # named tuples take no iterable
        return make(new.values())
    result = copy.copy(tree)
    if dataclasses.is_dataclass(tree):
        # ``dataclasses.replace`` would call ``__post_init__``; frozen ones refuse ``setattr``.
        for name, child in new.items():
            object.__setattr__(result, str(name), child)
    else:
        for key, child in new.items():
            result[key] = child
    return result


def map_tensors(tree: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Return a copy of a pytree with a function applied to each tensor."""
    return map_leaves(tree, lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf)


def named_leaves(tree: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield each leaf with the expression that leads to it, in the order of :func:`flatten`."""
    children = children_of(tree)
    if children is None:
        yield name, tree
        return
    form = "{}[{!r}]" if isinstance(tree, list | dict) or type(tree) is tuple else "{}.{}"
    for key, child in children:
        yield from named_leaves(child, form.format(name, key))


def detach(tree: Any) -> Any:
    """Return a copy of a pytree without gradients; objects that hold such tensors are copied."""
    known: dict[int, Any] = {}
    return map_leaves(tree, lambda leaf: _detach_leaf(leaf, known))


def _detach_leaf(leaf: Any, known: dict[int, Any]) -> Any:
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
    new_leaves = [_detach_leaf(part, known) for part in leaves]
    if any(map(_differs, leaves, new_leaves)):
        known[id(leaf)] = new = copy.copy(leaf)
        supply = iter(new_leaves)
        attributes, items = map_leaves(held, lambda _: next(supply))
        vars(new).update(attributes)
        for key, item in items.items():
            dict.__setitem__(new, key, item)  # a subclass may set its attributes, too
    return known[id(leaf)]


def _differs(before: Any, after: Any) -> bool:
    return before.requires_grad if isinstance(before, Tensor) else before is not after


def children_of(tree: Any) -> list[tuple[Hashable, Any]] | None:
    """Return keys and children, or None for a leaf."""
    # The commonest types first: captured steps look at their arguments at each call.
    kind = type(tree)
    if kind in _LEAVES:
        return None
    if kind is tuple or kind is list:
        return list(enumerate(tree))
    if kind is dict:
        return list(tree.items())
    if isinstance(tree, tuple | list | dict):
        if getattr(tree, "__dict__", None):
            return None  # it carries more than its items
        if isinstance(tree, dict):
            return list(tree.items())
        names = getattr(tree, "_fields", range(len(tree)))  # of a named tuple
        return list(zip(names, tree, strict=True))
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type | nn.Module):
        fields = {field.name: getattr(tree, field.name) for field in dataclasses.fields(tree)}
        return list((fields | getattr(tree, "__dict__", {})).items())
    return None
