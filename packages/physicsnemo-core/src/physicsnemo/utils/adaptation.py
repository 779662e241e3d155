# SPDX-License-Identifier: Apache-2.0
"""Rules by which a family's tensors of another shape are carried over; for authors of models.

:func:`physicsnemo.utils.adapt` uses them. A package names a mapping of classes to :class:`Rules` in
the entry-point group ``physicsnemo.adaptation``.
"""

from physicsnemo.core.adaptation.rules import (
    Change,
    Rule,
    Rules,
    channels,
    left_fresh,
    matrix,
    overlap,
    resampled,
)

__all__ = [
    "Change",
    "Rule",
    "Rules",
    "channels",
    "left_fresh",
    "matrix",
    "overlap",
    "resampled",
]
