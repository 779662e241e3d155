# SPDX-License-Identifier: Apache-2.0
"""What a source text imports of this project or other releases, and how it uses that."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import libcst as cst
from libcst import matchers
from libcst.helpers import get_full_name_for_node
from libcst.metadata import ImportAssignment, PositionProvider, ScopeProvider

from physicsnemo.core.install.aliases import FORMER_PACKAGE, ROOT
from physicsnemo.core.install.destinations import UNKNOWN, Destination, destination

_RANK = matchers.Name("rank") | matchers.Attribute(attr=matchers.Name("rank"))
_ZERO = matchers.ComparisonTarget(matchers.Equal(), matchers.Integer("0"))
_OF_RANK_0 = matchers.Comparison(_RANK, [_ZERO])
_MENTION = re.compile(rf"(?<![\w./-])(?:{ROOT}|{FORMER_PACKAGE})(?:\.[A-Za-z_]\w*)+")


class Remark(NamedTuple):
    """What is left to the reader: the line, what stands there, and what to know about it."""

    line: int
    path: str
    text: str


@dataclass
class Binding:
    """A name that an import binds.

    Parameters
    ----------
    path
        The module or object that is imported.
    local
        The name.
    line
        Where.
    is_whole
        Whether it is that of ``import a.b``, which binds ``a``.
    target
        What is imported here.
    beside
        Modules that must be imported beside it.
    """

    path: str
    local: str
    line: int
    is_whole: bool = False
    target: Destination = field(default_factory=Destination)
    beside: list[str] = field(default_factory=list)

    @property
    def bound(self) -> str:
        """What the name stands for."""
        return self.local if self.is_whole else self.path


class Use(NamedTuple):
    """A dotted path in the code: a name that ``imports`` bind, and the attributes after it.

    It is ``of_rank_0`` where a condition above it leaves other processes out.
    """

    node: cst.CSTNode
    local: str
    end: str
    imports: frozenset[cst.CSTNode]
    line: int
    of_rank_0: bool


def mentions(text: str, line: int = 1) -> Iterator[Remark]:
    """Yield the paths of other releases in a text whose first line has that number."""
    for number, content in enumerate(text.splitlines(), line):
        for path in _MENTION.findall(content):
            place = destination(path)
            if place.path and place.path != path:
                yield Remark(number, path, f"a text, left as it is; here it is {place.path}")
            elif not place.path and place.reason != UNKNOWN:
                yield Remark(number, path, f"a text, left as it is; {place.reason}")


class Reader(cst.CSTVisitor):
    """Collects what imports bind, where the code uses it, and what texts mention."""

    METADATA_DEPENDENCIES = (PositionProvider, ScopeProvider)

    def __init__(self) -> None:
        super().__init__()
        self.bindings: dict[cst.ImportAlias, Binding] = {}
        self.imports: dict[cst.CSTNode, list[Binding]] = {}
        self.uses: list[Use] = []
        self.remarks: list[Remark] = []
        self._of_rank_0 = 0

    def visit_If_body(self, node: cst.If) -> None:  # noqa: N802 - as libcst calls it
        """Note whether rank 0 is alone from here on."""
        self._of_rank_0 += _asks_for_rank_0(node.test)

    def leave_If_body(self, node: cst.If) -> None:  # noqa: N802
        """Note that it is no longer."""
        self._of_rank_0 -= _asks_for_rank_0(node.test)

    def visit_Import(self, node: cst.Import) -> bool:  # noqa: N802
        """Note the names of ``import a.b`` and ``import a.b as c``."""
        for alias in node.names:
            path, own = dotted(alias.name), alias.evaluated_alias
            if is_ours(path):
                local = own or path.partition(".")[0]
                self._bind(node, alias, Binding(path, local, self._line(alias), not own))
        return False

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:  # noqa: N802
        """Note the names of ``from a import b, c as d``."""
        module = module_of(node)
        if not is_ours(module):
            return False
        if isinstance(node.names, cst.ImportStar):
            if destination(module).path != module:
                text = "imports all names, left as it is; list those that are used"
                self.remarks.append(Remark(self._line(node), f"{module}.*", text))
            return False
        for alias in node.names:
            name, own = alias.evaluated_name, alias.evaluated_alias
            binding = Binding(f"{module}.{name}", own or name, self._line(alias))
            self._bind(node, alias, binding)
        return False

    def visit_Attribute(self, node: cst.Attribute) -> bool:  # noqa: N802
        """Note a dotted path, whose parts are then no paths of their own."""
        return not self._collect(node)

    def visit_Name(self, node: cst.Name) -> None:  # noqa: N802
        """Note a name."""
        self._collect(node)

    def visit_SimpleString(self, node: cst.SimpleString) -> None:  # noqa: N802
        """Note what a text mentions."""
        self.remarks += mentions(node.value, self._line(node))

    def visit_FormattedStringText(self, node: cst.FormattedStringText) -> None:  # noqa: N802
        """Note what a text mentions."""
        self.remarks += mentions(node.value, self._line(node))

    def _bind(self, statement: cst.CSTNode, alias: cst.ImportAlias, binding: Binding) -> None:
        self.bindings[alias] = binding
        self.imports.setdefault(statement, []).append(binding)

    def _collect(self, node: cst.Name | cst.Attribute) -> bool:
        """Note a dotted path if it comes from an import, and tell whether it does."""
        first: cst.CSTNode = node
        while isinstance(first, cst.Attribute):
            first = first.value
        scope = self.get_metadata(ScopeProvider, first, None)
        if not isinstance(first, cst.Name) or scope is None:
            return False
        assignments = scope[first.value]
        imports = frozenset(it.node for it in assignments if isinstance(it, ImportAssignment))
        if imports:
            end, line = dotted(node).removeprefix(first.value), self._line(node)
            alone = self._of_rank_0 > 0
            self.uses.append(Use(node, first.value, end, imports, line, alone))
        return bool(imports)

    def _line(self, node: cst.CSTNode) -> int:
        return int(self.get_metadata(PositionProvider, node).start.line)


def _asks_for_rank_0(test: cst.BaseExpression) -> bool:
    """Tell whether a condition holds in the first process alone."""
    if isinstance(test, cst.BooleanOperation) and isinstance(test.operator, cst.And):
        return _asks_for_rank_0(test.left) or _asks_for_rank_0(test.right)
    return matchers.matches(test, _OF_RANK_0)


def dotted(node: cst.CSTNode) -> str:
    """Return a dotted name as it stands in the text."""
    return get_full_name_for_node(node) or ""


def module_of(node: cst.ImportFrom) -> str:
    """Return what an import is from, empty if that is relative."""
    return dotted(node.module) if node.module and not node.relative else ""


def is_ours(path: str) -> bool:
    """Tell whether a path begins with the name of this project, or its former one."""
    return path.partition(".")[0] in (ROOT, FORMER_PACKAGE)
