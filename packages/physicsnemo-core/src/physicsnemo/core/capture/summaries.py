# SPDX-License-Identifier: Apache-2.0
"""Summaries: what a recording bakes in of arguments, and of what sources hold."""

from collections.abc import Hashable, Sequence
from itertools import chain, compress
from operator import not_
from typing import Any

import torch
from torch import Tensor, nn

from physicsnemo.core.capture.dependency_scan import CONSTANT_TYPES, Source
from physicsnemo.core.capture.identity import IdentityKey, same
from physicsnemo.core.pytree import children_of, flatten

_KINDS = (Tensor, nn.Parameter)


def leaf_metadata(leaf: Any) -> Hashable:
    """Return what a recording bakes in of a leaf: no values of tensors, no states of generators."""
    if type(leaf) in _KINDS and leaf.layout is torch.strided:
        layout = (leaf.shape, leaf.stride(), leaf.dtype, leaf.device)
        return (layout, leaf.requires_grad, leaf.is_conj(), leaf.is_neg())
    if isinstance(leaf, torch.Generator):
        return (torch.Generator, leaf.device)
    return (type(leaf), leaf if isinstance(leaf, CONSTANT_TYPES) else IdentityKey(leaf))


class SourceValues:
    """What sources hold at one moment, and whether that is still so.

    Summaries say what they hold, to be compared with those of another moment. Whether nothing has
    changed since is seen without them, by identity, where constants have no more to tell, and
    containers hold nothing but constants and what is compared by identity. Of tensors, and of
    containers that hold some, summaries are all that is kept: a tensor that is kept alive would
    keep the next one from lying at the same address.

    Parameters
    ----------
    sources
        The sources.

    Attributes
    ----------
    summaries
        For each source, a constant, the metadata of tensors, the identity of other things.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        values = [source.read() for source in sources]
        self.summaries = [
            _summary(value) if source.small else IdentityKey(value)
            for source, value in zip(sources, values, strict=True)
        ]
        self._containers = _Containers()
        seen = [
            not source.small or self._containers.add(value)
            for source, value in zip(sources, values, strict=True)
        ]
        unseen = list(map(not_, seen))
        reads = [source.read for source in sources]
        self._seen, self._unseen = list(compress(reads, seen)), list(compress(reads, unseen))
        self._values = list(compress(values, seen))
        self._summaries_of_unseen = list(compress(self.summaries, unseen))
        self._items = self._containers.items()

    def are_unchanged(self) -> bool:
        """Return whether the sources hold the same things still; False if in doubt."""
        return (
            same([read() for read in self._seen], self._values)
            and self._containers.are(self._items)
            and [_summary(read()) for read in self._unseen] == self._summaries_of_unseen
        )


Items = tuple[list[Any], list[Any], list[int]]
"""Items of containers, keys of dictionaries, and how many each container has."""


class _Containers:
    """Containers whose items may change, found within values that do not."""

    def __init__(self) -> None:
        self._lists: dict[int, list[Any]] = {}
        self._dicts: dict[int, dict[Any, Any]] = {}

    def add(self, value: Any) -> bool:
        """Add what is within a value, unless identity does not tell when all of it changes."""
        if not isinstance(value, tuple | list | dict):
            return not isinstance(value, Tensor)
        found: dict[int, Any] = {}
        if not _find_containers(value, found):
            return False
        for number, container in found.items():
            if isinstance(container, list):
                self._lists[number] = container
            else:
                self._dicts[number] = container
        return True

    def items(self) -> Items:
        """Return what they hold now."""
        lists, dicts = self._lists.values(), self._dicts.values()
        return (
            [*chain.from_iterable(lists), *chain.from_iterable(map(dict.values, dicts))],
            [*chain.from_iterable(dicts)],
            [*map(len, lists), *map(len, dicts)],
        )

    def are(self, items: Items) -> bool:
        """Return whether they hold these very things."""
        if not self._lists and not self._dicts:
            return True
        values, *rest = self.items()
        return rest == list(items[1:]) and same(values, items[0])


def _find_containers(value: Any, found: dict[int, Any]) -> bool:
    """Add the containers within a value by ``id``; return whether there is nothing else to see."""
    within = children_of(value)
    if within is None:
        return not isinstance(value, Tensor)
    if id(value) in found:
        return True
    if isinstance(value, list | dict):
        found[id(value)] = value
    elif not isinstance(value, tuple):  # a dataclass
        attributes = getattr(value, "__dict__", {})
        if attributes.keys() < dict(within).keys():  # some are in slots
            return False
        found[id(value)] = attributes
    return all(_find_containers(child, found) for _, child in within)


def _summary(value: Any) -> Any:
    if isinstance(value, CONSTANT_TYPES):
        return (type(value), value)  # 1 and 1.0 do not compute the same
    if isinstance(value, Tensor):
        return _tensor_summary(value)
    if isinstance(value, tuple | list | dict):
        leaves: list[Any] = []
        spec = flatten(value, leaves)
        return (spec, *(IdentityKey(x) if x is value else _leaf_summary(x) for x in leaves))
    return IdentityKey(value)


def _leaf_summary(value: Any) -> Any:
    return _summary(value) if isinstance(value, (*CONSTANT_TYPES, Tensor)) else IdentityKey(value)


def _tensor_summary(tensor: Tensor) -> Any:
    if type(tensor) not in _KINDS or tensor.layout is not torch.strided:
        return IdentityKey(tensor)
    # A recording reads tensors on the device at each replay, but bakes in values from the host.
    version = tensor._version if tensor.is_cpu and not tensor.is_inference() else 0
    return (tensor.data_ptr(), version, leaf_metadata(tensor))
