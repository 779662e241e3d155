# SPDX-License-Identifier: Apache-2.0
"""From a file to a model and back.

Loading: a ``blueprint`` is made of the file's records, for each of which ``resolution`` finds the
class, with an eye on ``redefinitions``, and ``migration`` makes the arguments those of the class,
with the ``defaults`` that files imply and the keys of older ``releases``. ``build`` constructs the
model within ``limits``, and ``weights`` puts the numbers in, with a ``rollback`` if that fails.

Saving: ``contents`` says what a file holds of a model. ``conversion`` makes model classes of plain
PyTorch classes, ``inspection`` and ``verify`` look into files, and an
``example`` is what a file may hold of a model at work.

The names below are imported when they are touched, since the command line starts without PyTorch.
"""

from typing import TYPE_CHECKING

from physicsnemo.core.lazy import lazy_exports

if TYPE_CHECKING:
    from physicsnemo.core.rebuild.inspection import inspect_in_full as inspect_in_full
    from physicsnemo.core.rebuild.verify import PARTS as PARTS
    from physicsnemo.core.rebuild.verify import verify_checkpoint as verify_checkpoint

__all__ = ["PARTS", "inspect_in_full", "verify_checkpoint"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "PARTS": "physicsnemo.core.rebuild.verify",
        "inspect_in_full": "physicsnemo.core.rebuild.inspection",
        "verify_checkpoint": "physicsnemo.core.rebuild.verify",
    },
)
