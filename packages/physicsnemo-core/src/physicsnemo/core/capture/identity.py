# SPDX-License-Identifier: Apache-2.0
"""Identity: whether objects are the very same, seen without running Python code for each.

Lists and dictionaries look for identity before they ask for equality, which takes a nanosecond an
item. Where they go on to ask, tensors are to refuse: ``==`` of theirs compares values, and waits
for the device.
"""

from operator import is_
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode


class IdentityKey:
    """Key that equals another only if both hold the very same object.

    It keeps the object alive: otherwise a new one could get the same ``id``.
    """

    __slots__ = ("_object",)

    def __init__(self, value: Any) -> None:
        self._object = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdentityKey) and self._object is other._object

    def __hash__(self) -> int:
        return id(self._object)

    def __str__(self) -> str:
        return str(getattr(self._object, "__qualname__", type(self._object).__qualname__))


def equal(one: Any, other: Any) -> bool:
    """Return whether two things are equal, where a tensor equals nothing but itself."""
    try:
        with _TENSORS_DIFFER:
            return bool(one == other)
    except Exception:  # of an array of several numbers, for example
        return False


def same(mine: list[Any], others: list[Any]) -> bool:
    """Return whether two lists hold the very same objects, whatever these think of equality."""
    return len(mine) == len(others) and all(map(is_, mine, others))


def equals_itself_alone(value: Any) -> bool:
    """Return whether :func:`equal` compares a value by identity."""
    kind: Any = type(value).__eq__
    return value is None or kind is object.__eq__ or kind is Tensor.__eq__


class _TensorsDiffer(TorchFunctionMode):
    """Mode in which no tensor equals another."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return False if func is Tensor.__eq__ else func(*args, **(kwargs or {}))


_TENSORS_DIFFER = _TensorsDiffer()
