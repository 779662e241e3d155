# SPDX-License-Identifier: Apache-2.0
"""Models made from plain PyTorch classes."""

import copy
import inspect
from typing import Any

import torch

from physicsnemo.core.resolution import CONVERTED_MODULE, CONVERTED_SUFFIX
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module

_Source = tuple[type[torch.nn.Module], ModelMetaData | None]

# Kept alive, since a file may name a class that the program has not kept.
_converted: list[tuple[_Source, type[Module]]] = []


def convert(torch_class: type[torch.nn.Module], meta: ModelMetaData | None) -> type[Module]:
    """Return the model class for a torch class, the same one each time for the same metadata."""
    for source, known in _converted:
        if source == (torch_class, meta):
            return known
    made = _make(torch_class, meta)
    _converted.append(((torch_class, meta), made))
    return made


def _make(torch_class: type[torch.nn.Module], meta: ModelMetaData | None) -> type[Module]:
    class Converted(Module):
        _converted_from = (torch_class, meta)

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(meta=copy.copy(meta))
            self.inner_model = torch_class(*args, **kwargs)

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return self.inner_model(*args, **kwargs)

        def __reduce__(self) -> tuple[Any, ...]:
            # The class is made at run time, so a pickle names the torch class instead.
            return _rebuild, (torch_class, meta), self.__getstate__()  # type: ignore[no-untyped-call]

    Converted.__init__.__signature__ = inspect.signature(torch_class.__init__)  # type: ignore[attr-defined]
    Converted.__name__ = Converted.__qualname__ = torch_class.__name__ + CONVERTED_SUFFIX
    Converted.__module__ = CONVERTED_MODULE
    Converted.__doc__ = torch_class.__doc__
    return Converted


def _rebuild(torch_class: type[torch.nn.Module], meta: ModelMetaData | None) -> Module:
    converted = convert(torch_class, meta)
    return converted.__new__(converted)
