# SPDX-License-Identifier: Apache-2.0
"""Physics-ML models: the base class, and every registered model by name.

``physicsnemo.models.FNO`` imports the family that registers ``FNO``, and no other. In code that
type checkers read, import from the family: ``from physicsnemo.models.fno import FNO``.
"""

from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

__path__ = extend_path(__path__, __name__)

from physicsnemo.core.lazy import lazy_exports
from physicsnemo.registry import ModelRegistry

if TYPE_CHECKING:
    from physicsnemo.models.meta import ModelMetaData as ModelMetaData
    from physicsnemo.models.module import Module as Module

__all__ = ["ModelMetaData", "Module"]

_lazy_getattr, _lazy_dir = lazy_exports(
    __name__,
    {"Module": "physicsnemo.models.module", "ModelMetaData": "physicsnemo.models.meta"},
)


def __getattr__(name: str) -> Any:
    if not name.startswith("_") and name in ModelRegistry().list_models():
        return ModelRegistry().factory(name)
    return _lazy_getattr(name)


def __dir__() -> list[str]:
    return sorted({*_lazy_dir(), *ModelRegistry().list_models()})
