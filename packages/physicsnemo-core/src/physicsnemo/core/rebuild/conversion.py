# SPDX-License-Identifier: Apache-2.0
"""Conversion: model classes made of plain PyTorch classes, for ``Module.from_torch``."""

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from physicsnemo.core.base import ModelBase
from physicsnemo.core.rebuild.resolution import CONVERTED_MODULE, CONVERTED_SUFFIX
from physicsnemo.models.meta import ModelMetaData


@dataclass(frozen=True)
class Conversion:
    """What a model class is made of: it derives from ``base`` and wraps ``torch_class``."""

    base: type[ModelBase]
    torch_class: type[torch.nn.Module]
    meta: ModelMetaData | None
    name: str


# Kept alive, since a file may name a class that the program has not kept.
_converted: list[tuple[Conversion, type[ModelBase]]] = []


def convert(
    base: type[ModelBase],
    torch_class: type[torch.nn.Module],
    meta: ModelMetaData | None,
    name: str | None = None,
) -> type[ModelBase]:
    """Return the model class for a torch class, the same one each time for the same metadata.

    Parameters
    ----------
    base
        What it derives from, :class:`physicsnemo.Module`.
    torch_class, meta, name
        As :meth:`physicsnemo.Module.from_torch` takes them.

    Raises
    ------
    TypeError
        If it is no class of modules.
    """
    _check_class(torch_class)
    wanted = Conversion(base, torch_class, meta, name or torch_class.__name__ + CONVERTED_SUFFIX)
    for conversion, known in _converted:
        if conversion == wanted:
            return known
    made = _make(wanted)
    _converted.append((wanted, made))
    return made


def _check_class(torch_class: Any) -> None:
    if isinstance(torch_class, type) and issubclass(torch_class, torch.nn.Module):
        return
    if isinstance(torch_class, torch.nn.Module):
        kind = type(torch_class).__name__
        found, advice = f"a model of the class {kind}", f"pass {kind} and build the model from it"
    else:
        found = f"the {type(torch_class).__name__} {torch_class!r:.100}"
        advice = "write a class whose __init__ builds the model"
    raise TypeError(f"expected a subclass of torch.nn.Module to convert, got {found}: {advice}")


def _make(conversion: Conversion) -> type[ModelBase]:
    torch_class = conversion.torch_class

    class Converted(conversion.base):  # type: ignore[misc, name-defined]
        _converted_from = conversion
        # From 2.0 on, the reference implementation adds no suffix.
        _recorded_by_release: ClassVar[Mapping[str, str]] = {
            "2.0": f"physicsnemo.core.module.{conversion.name.removesuffix(CONVERTED_SUFFIX)}"
        }

        # What follows a slash may be called anything, even self.
        def __init__(self, /, *args: Any, **kwargs: Any) -> None:
            super().__init__(meta=copy.copy(conversion.meta))
            self.inner_model = torch_class(*args, **kwargs)

        def forward(self, /, *args: Any, **kwargs: Any) -> Any:
            return self.inner_model(*args, **kwargs)

        def __getattr__(self, name: str) -> Any:
            """Return an attribute that the model alone has, under its own."""
            try:
                return super().__getattr__(name)
            except AttributeError:
                inner = self.__dict__.get("_modules", {}).get("inner_model")
                # Names of Python and PyTorch themselves ask what kind of object this one is.
                if inner is None or name.startswith("__"):
                    raise
                return getattr(inner, name)

        def __reduce__(self) -> tuple[Any, ...]:
            # The class is made at run time, so a pickle names the torch class instead.
            arguments = (conversion.base, torch_class, conversion.meta, conversion.name)
            return _rebuild, arguments, self.__getstate__()

    Converted.__init__.__signature__ = inspect.signature(torch_class.__init__)  # type: ignore[attr-defined]
    Converted.__name__ = Converted.__qualname__ = conversion.name
    Converted.__module__ = CONVERTED_MODULE
    Converted.__doc__ = torch_class.__doc__
    return Converted


def _rebuild(
    base: type[ModelBase],
    torch_class: type[torch.nn.Module],
    meta: ModelMetaData | None,
    name: str | None,
) -> ModelBase:
    converted = convert(base, torch_class, meta, name)
    return converted.__new__(converted)
