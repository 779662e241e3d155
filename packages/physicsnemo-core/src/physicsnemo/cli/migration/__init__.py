# SPDX-License-Identifier: Apache-2.0
"""A source text with the import paths of this project in place of another release's.

Imports go on binding the same names, so most of the code below them stays as it is. Only what
reaches a name through a module that is elsewhere here, as in
``physicsnemo.launch.utils.save_checkpoint``, is written by its path here. ``reading`` collects what
a text imports and uses, ``planning`` decides what becomes of it, ``writing`` does it.
"""

from typing import NamedTuple

import libcst as cst
from libcst.metadata import MetadataWrapper

from physicsnemo.cli.migration.planning import Plan
from physicsnemo.cli.migration.reading import Reader, Remark, mentions
from physicsnemo.cli.migration.writing import Writer
from physicsnemo.core.install.aliases import FORMER_PACKAGE, ROOT

__all__ = ["Migrated", "Remark", "mentions", "migrated"]


class Migrated(NamedTuple):
    """A source text after it, the modules that it imports, and what is left to the reader."""

    source: bytes
    modules: set[str]
    remarks: list[Remark]


def migrated(source: bytes) -> Migrated:
    """Return a source text with the paths of this project.

    Raises
    ------
    SyntaxError
        If it is no Python, and names this project or its former name.
    """
    if not any(name.encode() in source for name in (ROOT, FORMER_PACKAGE)):
        return Migrated(source, set(), [])  # parsing takes long
    try:
        wrapper = MetadataWrapper(cst.parse_module(source))
    except (cst.ParserSyntaxError, UnicodeDecodeError) as error:
        raise SyntaxError(str(error)) from error
    found = Reader()
    wrapper.visit(found)
    plan = Plan(found)
    module = wrapper.module.visit(Writer(plan))
    return Migrated(module.bytes, plan.modules, sorted({*plan.remarks}))
