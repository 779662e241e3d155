# SPDX-License-Identifier: Apache-2.0
"""Redefinitions of a class, as by a notebook's cell that runs again: of each, the newest counts."""

from types import FunctionType
from typing import Any

# What Python itself adds, and what differs although nothing that computes does.
_IGNORED = {"__dict__", "__weakref__", "__doc__", "__static_attributes__", "__firstlineno__"}
_CONSTANTS = (bool, int, float, complex, str, bytes, type(None))


def newest_of_each(classes: list[type], definitions: list[str]) -> list[type]:
    """Return classes without those that a later one of the same definition repeats.

    Parameters
    ----------
    classes
        The classes, the oldest first.
    definitions
        Where each was defined. A class of a module is repeated by any later one of its definition,
        as when a notebook's cell runs again; one of a function only if it is made of the same
        code and values, since the function may make another one at each call.
    """
    kept: list[tuple[type, str]] = []
    for found in reversed(list(zip(classes, definitions, strict=True))):
        if not any(_repeats(found, later) for later in kept):
            kept.append(found)
    return [model_class for model_class, _ in reversed(kept)]


def _repeats(one: tuple[type, str], other: tuple[type, str]) -> bool:
    same_place = one[1] == other[1]
    return same_place and ("<locals>" not in one[1] or _same_content(one[0], other[0]))


def _same_content(one: type, other: type) -> bool:
    ours, theirs = ({k: v for k, v in vars(it).items() if k not in _IGNORED} for it in (one, other))
    return ours.keys() == theirs.keys() and all(_same(ours[name], theirs[name]) for name in ours)


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, staticmethod | classmethod) and type(one) is type(other):
        return _same(one.__func__, other.__func__)
    if isinstance(one, FunctionType) and isinstance(other, FunctionType):
        return (
            one.__code__ is other.__code__
            and _all_same(_enclosed(one), _enclosed(other))
            and _all_same(one.__defaults__ or (), other.__defaults__ or ())
        )
    if isinstance(one, tuple) and isinstance(other, tuple):
        return _all_same(one, other)
    return type(one) is type(other) and isinstance(one, _CONSTANTS) and bool(one == other)


def _all_same(ones: tuple[Any, ...], others: tuple[Any, ...]) -> bool:
    return len(ones) == len(others) and all(map(_same, ones, others))


def _enclosed(function: FunctionType) -> tuple[Any, ...]:
    """Return what a function remembers from around it, but for its own class."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return tuple(cell.cell_contents for name, cell in cells if name != "__class__")
