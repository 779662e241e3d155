# SPDX-License-Identifier: Apache-2.0
"""Physics machine learning as a family of small packages that share this namespace.

This package is light: importing it, or listing the installed models, does not import PyTorch.
"""

import sys as _sys
from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

__path__ = extend_path(
    __path__, __name__
)  # families are installed beside core, or elsewhere on the path

from physicsnemo.core.install import distributions as _distributions
from physicsnemo.core.install import former_paths as _former_paths
from physicsnemo.core.lazy import lazy_exports

if TYPE_CHECKING:
    from physicsnemo.core.rebuild.inspection import inspect_checkpoint as inspect_checkpoint
    from physicsnemo.hooks import hookimpl as hookimpl
    from physicsnemo.models.meta import ModelMetaData as ModelMetaData
    from physicsnemo.models.module import Module as Module

__all__ = ["ModelMetaData", "Module", "__version__", "hookimpl", "inspect_checkpoint"]

_lazy_getattr, __dir__ = lazy_exports(
    __name__,
    {
        "Module": "physicsnemo.models.module",
        "ModelMetaData": "physicsnemo.models.meta",
        "hookimpl": "physicsnemo.hooks",
        "inspect_checkpoint": "physicsnemo.core.rebuild.inspection",
    },
)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _distributions.installed_version("physicsnemo-core")
    return _lazy_getattr(name)


_former_paths.install()
_former_paths.complete(_sys.modules[__name__])
_distributions.warn_about_conflicts()
