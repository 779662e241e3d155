# SPDX-License-Identifier: Apache-2.0
"""A training on the disk, as ``physicsnemo.utils.checkpoint`` saves and loads it: one set a step.

``steps`` keeps the sets in a ``folder``, whose files a ``lock`` guards and a ``manifest`` proves
whole; ``parts`` names the files of a step, ``state`` collects and restores what is in them and is
no model, ``serializable`` admits data only. ``selection`` chooses the step to load, ``retention``
the steps to delete, and ``ranks`` lets processes agree on both. ``sharded_steps`` are those of
which each process writes its own parts.

The name below is imported when it is touched, since the command line starts without PyTorch.
"""

from typing import TYPE_CHECKING

from physicsnemo.core.lazy import lazy_exports

if TYPE_CHECKING:
    from physicsnemo.core.training.sharded_steps import merge as merge

__all__ = ["merge"]

__getattr__, __dir__ = lazy_exports(__name__, {"merge": "physicsnemo.core.training.sharded_steps"})
