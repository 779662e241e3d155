# SPDX-License-Identifier: Apache-2.0
"""Summaries: what a recording bakes in of arguments, and of what sources hold."""

from collections.abc import Hashable, Sequence
from itertools import chain
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
    containers hold nothing but constants and what is compared by identity.

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
        self._reads = [source.read for source in sources]
        self._values = [read() for read in self._reads]
        self.summaries = [
            _summary(value) if source.small else IdentityKey(value)
            for source, value in zip(sources, self._values, strict=True)
        ]
        self._containers = _Containers()
        self._summarized = [
            place
            for place, (source, value) in enumerate(zip(sources, self._values, strict=True))
            if source.small and not self._is_seen(value)
        ]
        self._items = self._containers.items()
        self._own_summaries = [self.summaries[place] for place in self._summarized]

    def are_unchanged(self) -> bool:
        """Return whether the sources hold the same things still; False if in doubt."""
        now = [read() for read in self._reads]
        return (
            same(now, self._values)
            and self._containers.are(self._items)
            and [_summary(now[place]) for place in self._summarized] == self._own_summaries
        )

    def _is_seen(self, value: Any) -> bool:
        if isinstance(value, tuple | list | dict):
            return self._containers.add(value)
        return not isinstance(value, Tensor)


Items = tuple[list[Any], list[Any], list[int]]
"""Items of containers, keys of dictionaries, and how many each container has."""


class _Containers:
    """Containers whose items may change, found within values that do not."""

    def __init__(self) -> None:
        self._lists: list[list[Any]] = []
        self._dicts: list[dict[Any, Any]] = []
        self._seen: dict[int, bool] = {}

    def add(self, value: Any) -> bool:
        """Add a value and what is within it; return whether identity tells when it changes."""
        if id(value) not in self._seen:
            self._seen[id(value)] = True  # also for one that leads to itself
            self._seen[id(value)] = self._add(value)
        return self._seen[id(value)]

    def items(self) -> Items:
        """Return what they hold now."""
        return (
            [
                *chain.from_iterable(self._lists),
                *chain.from_iterable(map(dict.values, self._dicts)),
            ],
            [*chain.from_iterable(self._dicts)],
            [*map(len, self._lists), *map(len, self._dicts)],
        )

    def are(self, items: Items) -> bool:
        """Return whether they hold these very things."""
        if not self._lists and not self._dicts:
            return True
        values, *rest = self.items()
        return rest == list(items[1:]) and same(values, items[0])

    def _add(self, value: Any) -> bool:
        within = children_of(value)
        if within is None:
            return not isinstance(value, Tensor)
        if isinstance(value, list):
            self._lists.append(value)
        elif isinstance(value, dict):
            self._dicts.append(value)
        elif not isinstance(value, tuple):  # a dataclass
            attributes = getattr(value, "__dict__", {})
            if attributes.keys() < dict(within).keys():  # some are in slots
                return False
            self._dicts.append(attributes)
        seen = [self.add(child) for _, child in within]  # all of them, also after one is not
        return all(seen)


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
