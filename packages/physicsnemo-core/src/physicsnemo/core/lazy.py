# SPDX-License-Identifier: Apache-2.0
"""Names of a package that are imported when they are first touched (PEP 562)."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any


def lazy_exports(
    package: str, exports: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a package's ``__getattr__`` and ``__dir__``, given where each name lives.

    Parameters
    ----------
    package
        The package's ``__name__``.
    exports
        Maps each public name to the module that defines it.
    """
    namespace = vars(sys.modules[package])

    def get(name: str) -> Any:
        if name not in exports:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        namespace[name] = value = getattr(import_module(exports[name]), name)
        return value

    def names() -> list[str]:
        # Not what the package imports for itself, such as typing.Any.
        own = (
            it for it in namespace if it.startswith("__") or isinstance(namespace[it], ModuleType)
        )
        return sorted({*own, *exports})

    return get, names
