# SPDX-License-Identifier: Apache-2.0
"""What the public modules of physicsnemo-core are built from; each room knows only those before it.

``format`` is the bytes of a file, ``install`` what is installed, ``base`` a model that remembers
its constructor call, ``rebuild`` the way from a file to a model and back, ``capture`` a step that
is recorded, ``training`` a training on the disk. ``physicsnemo.registry`` and ``physicsnemo.hooks``
stand between ``base`` and ``rebuild``, ``physicsnemo.models.module`` on top of ``rebuild``. Below
them all, ``releases`` reads the state dicts of former releases by what classes declare with
``history``, and ``errors``, ``lazy`` and ``pytree`` know nothing of models. None of them is needed
to use a model.

Releases of nvidia-physicsnemo from 2.0 on have their public classes under this name, so these are
found here too.
"""

from physicsnemo.core.lazy import lazy_exports

__all__ = ["ModelMetaData", "ModelRegistry", "Module"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ModelMetaData": "physicsnemo.models.meta",
        "ModelRegistry": "physicsnemo.registry",
        "Module": "physicsnemo.models.module",
    },
)
