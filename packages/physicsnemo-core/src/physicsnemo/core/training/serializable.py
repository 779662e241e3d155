# SPDX-License-Identifier: Apache-2.0
"""Values that are data and nothing else, so that reading them back runs no code."""

from collections import Counter, OrderedDict
from types import NoneType
from typing import Any

import torch

from physicsnemo.core.format.storable import problem_of_tensor

_JSON = (NoneType, bool, int, float, str)
_DATA = (*_JSON, complex, bytes, torch.device, torch.dtype, torch.Size, torch.nn.Parameter)


def check_json(value: Any, where: str) -> None:
    """Check that a value consists of what JSON holds; tuples are allowed too.

    Raises
    ------
    TypeError
        If it does not; the text names the place.
    """
    _check(value, where, _JSON, (str,))


def check_data(value: Any, where: str) -> None:
    """Check that ``torch.load(..., weights_only=True)`` will read back what ``torch.save`` writes.

    Raises
    ------
    TypeError
        If it will not; the text names the place.
    """
    _check(value, where, (*_DATA, torch.Tensor), _JSON)


def _check(value: Any, where: str, leaves: tuple[type, ...], keys: tuple[type, ...]) -> None:
    kind = type(value)
    if kind in (dict, OrderedDict, Counter):
        for key, item in value.items():
            _check_leaf(key, f"a key of {where}", keys)
            _check(item, f"{where}[{key!r}]", leaves, keys)
    elif kind in (list, tuple):
        for position, item in enumerate(value):
            _check(item, f"{where}[{position}]", leaves, keys)
    elif torch.Tensor in leaves and isinstance(value, torch.Tensor):
        if problem := problem_of_tensor(value):
            raise TypeError(f"{where} {problem}")
    else:
        _check_leaf(value, where, leaves)


def _check_leaf(value: Any, where: str, leaves: tuple[type, ...]) -> None:
    kind = type(value)
    if kind not in leaves:  # a subclass, as numpy.float64 is of float, is pickled as itself
        hint = "; its .item() is a number" if hasattr(value, "item") else ""
        allowed = ", ".join(leaf.__name__ for leaf in leaves)
        raise TypeError(
            f"{where} is of type {kind.__module__}.{kind.__qualname__} and cannot be stored: "
            f"expected {allowed}, or lists and dictionaries of them{hint}"
        )
