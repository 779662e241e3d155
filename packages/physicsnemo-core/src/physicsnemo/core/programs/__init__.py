# SPDX-License-Identifier: Apache-2.0
"""Programs: models as files that run without this library.

``export`` records a model as a program and has it written; ``inputs`` makes what a program takes of
a model's inputs; ``formats`` writes and runs files of each kind; ``checkpoints`` exports what a
``.mdlus`` file holds.

The name below is imported when it is touched, since the command line starts without PyTorch.
"""

from typing import TYPE_CHECKING

from physicsnemo.core.lazy import lazy_exports

if TYPE_CHECKING:
    from physicsnemo.core.programs.checkpoints import export_checkpoint as export_checkpoint

__all__ = ["export_checkpoint"]

__getattr__, __dir__ = lazy_exports(
    __name__, {"export_checkpoint": "physicsnemo.core.programs.checkpoints"}
)
