# SPDX-License-Identifier: Apache-2.0
"""How files of a class differed from release to release of the reference implementation.

Classes state it as data, and loading and saving follow it: a module by ``_state_history``, what the
keys of its state were; a model by ``_argument_history``, which constructor arguments files hold, by
``_implied_args``, what they mean by leaving one out, by ``_recorded_as``, under which path files
record the class, where that is not its own, and by ``_recorded_by_release``, under which path files
for a release do. A file that claims no release is dated by all of these.
Authors of plugins whose state changed may use the same, with their own releases.
"""

from physicsnemo.core.history import Argument, Constant, Ignored, Implied, Renamed, Twin, Value
from physicsnemo.core.releases import follow_history

__all__ = [
    "Argument",
    "Constant",
    "Ignored",
    "Implied",
    "Renamed",
    "Twin",
    "Value",
    "follow_history",
]
