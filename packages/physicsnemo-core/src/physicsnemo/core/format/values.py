# SPDX-License-Identifier: Apache-2.0
"""Constructor arguments as JSON, with a note of the types that JSON does not have.

Files hold tuples, sets and ordered dictionaries as plain lists and dictionaries, which is how the
reference implementation has them; what they were stands beside, by JSON pointers such as
``"/sizes/0"``, so that they come back as they were.
"""

import enum
import operator
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from physicsnemo.core.errors import CheckpointError

Types = dict[str, str]
Path = tuple[str, ...]

_SCALARS = (bool, int, float, str, type(None))
_LISTS: dict[type, str] = {list: "", tuple: "tuple", torch.Size: "torch.Size"}
_SETS: dict[type, str] = {set: "set", frozenset: "frozenset"}
_DICTIONARIES: dict[type, str] = {dict: "", OrderedDict: "OrderedDict"}
_MADE_BY = {
    name: kind for kinds in (_LISTS, _SETS, _DICTIONARIES) for kind, name in kinds.items() if name
}
_SMALL = 1000


def recorded(value: Any) -> Any:
    """Return a value as it is when a model is built: containers copied, numbers as Python's own."""
    kind = type(value)
    if kind in _LISTS or kind in _SETS:
        return kind(map(recorded, value))
    if kind in _DICTIONARIES:
        return kind((key, recorded(item)) for key, item in value.items())
    return _python_number(value)


def write(
    value: Any,
    path: Path,
    owner: str,
    types: Types,
    nested: Callable[[Any, Path], str | None],
) -> Any:
    """Return a value as JSON can hold it.

    Parameters
    ----------
    value
        The value of an argument, or a part of one.
    path
        The argument's name and the places in it.
    owner
        The model's class, for error texts.
    types
        Gains what JSON does not tell, by JSON pointers.
    nested
        Returns the text that stands for a value which is a model, None for any other.

    Raises
    ------
    TypeError
        If the value would not come back as it is. The text names it by its path.
    """
    value = _python_number(value)
    kind = type(value)

    def part(item: Any, name: Any) -> Any:
        return write(item, (*path, str(name)), owner, types, nested)

    if kind in _SCALARS:
        return value
    if (key := nested(value, path)) is not None:
        return key
    if note := {**_LISTS, **_SETS, **_DICTIONARIES}.get(kind):
        types[_pointer(path)] = note
    if kind in _LISTS:
        return [part(item, place) for place, item in enumerate(value)]
    if kind in _SETS and all(type(item) in _SCALARS for item in value):
        return sorted(value, key=repr)
    if kind in _DICTIONARIES and all(type(key) is str for key in value):
        return {key: part(item, key) for key, item in value.items()}
    raise TypeError(
        f"the argument {'.'.join(path)!r} of {owner} is a {kind.__module__}.{kind.__qualname__}, "
        f"which is not JSON serializable and cannot be stored in a checkpoint: {_advice(value)}"
    )


def restore(arguments: dict[str, Any], types: Any, source: str) -> dict[str, Any]:
    """Return the arguments in a file with the types that they had.

    Parameters
    ----------
    arguments
        As JSON holds them.
    types
        What the file notes of their types, None if nothing.
    source
        The file's name, for error texts.

    Raises
    ------
    CheckpointError
        If the note is no object of known types, or one does not fit.
    """
    if types is None:
        return arguments
    if not (isinstance(types, dict) and all(name in _MADE_BY for name in _texts(types))):
        raise CheckpointError(
            f"argument_types in {source} must map places of arguments to one of "
            f"{', '.join(sorted(_MADE_BY))}"
        )
    try:
        return {name: _restored(value, (name,), types) for name, value in arguments.items()}
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"argument_types in {source} do not fit the arguments: {error}"
        ) from error


def _texts(types: Mapping[Any, Any]) -> list[Any]:
    return [name if isinstance(name, str) else None for name in types.values()]


def _restored(value: Any, path: Path, types: Types) -> Any:
    if isinstance(value, list):
        value = [_restored(item, (*path, str(place)), types) for place, item in enumerate(value)]
    elif isinstance(value, dict):
        value = {key: _restored(item, (*path, key), types) for key, item in value.items()}
    name = types.get(_pointer(path))
    return value if name is None else _MADE_BY[name](value)


def _pointer(path: Path) -> str:
    """Return a JSON pointer (RFC 6901)."""
    return "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in path)


def _python_number(value: Any) -> Any:
    """Return numbers of other libraries as Python's own, anything else as it is."""
    if isinstance(value, np.generic):
        item = value.item()
        return item if type(item) in _SCALARS else value
    if isinstance(value, (*_SCALARS, torch.Tensor, np.ndarray)):
        return value
    return operator.index(value) if hasattr(type(value), "__index__") else value


def _advice(value: Any) -> str:
    if isinstance(value, torch.nn.Module):
        return "convert its class with physicsnemo.Module.from_torch, or pass a name instead"
    if isinstance(value, enum.Enum):
        return f"pass its value, {value.value!r}, or its name as text"
    if isinstance(value, (torch.Tensor, np.ndarray)):
        size = value.numel() if isinstance(value, torch.Tensor) else value.size
        numbers = "pass its numbers as a list, by .tolist()"
        return numbers if size <= _SMALL else "make it a buffer, and pass what it is made from"
    if type(value) in _DICTIONARIES:
        return "its keys must be text"
    if type(value) in _SETS:
        return "a set may hold numbers and text"
    for plain in (dict, tuple, list, set, str, int, float):
        if isinstance(value, plain):
            return f"pass a plain {plain.__name__}"
    return "pass numbers, text, lists, dictionaries or physicsnemo models"
