# SPDX-License-Identifier: Apache-2.0
"""A source text as planned, with its formatting and its comments."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import libcst as cst

from physicsnemo.cli.migration.planning import Plan, modules_for
from physicsnemo.cli.migration.reading import Binding, module_of

_LONG = 88  # columns; imports that do not fit stay in parentheses
_Statements = cst.BaseSmallStatement | cst.FlattenSentinel[cst.BaseSmallStatement]


class Writer(cst.CSTTransformer):
    """Writes what is planned for imports and for uses; all else stays as it is."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan = plan

    def leave_Import(self, original_node: cst.Import, updated_node: cst.Import) -> _Statements:  # noqa: N802 - as libcst calls it
        """Write ``import a.b`` or ``import a.b as c``."""
        names = [it for alias in original_node.names for it in self._imported(alias)]
        if len(names) == len(original_node.names):
            return updated_node.with_changes(names=names)
        return cst.FlattenSentinel([cst.Import([_alone(name)]) for name in names])

    def leave_ImportFrom(  # noqa: N802
        self, original_node: cst.ImportFrom, updated_node: cst.ImportFrom
    ) -> _Statements:
        """Write ``from a import b, c``, a statement for each module."""
        names = original_node.names
        if isinstance(names, cst.ImportStar) or not any(it in self._plan.bindings for it in names):
            return updated_node
        groups: dict[str, list[_Item]] = {}
        beside: list[str] = []
        for item in _items(original_node, names):
            binding = self._plan.bindings[item.alias]
            for module, alias in _taken(binding, item.alias, module_of(original_node)):
                groups.setdefault(module, []).append(item._replace(alias=alias))
            beside += [it for it in binding.beside if it not in beside]
        if len(groups) == 1 and not beside:
            return _from_one(updated_node, *groups.popitem())
        written = [_from_some(updated_node, module, items) for module, items in groups.items()]
        return cst.FlattenSentinel([*written, *(cst.Import([_module(it)]) for it in beside)])

    def leave_SimpleStatementLine(  # noqa: N802
        self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
    ) -> cst.BaseStatement | cst.FlattenSentinel[cst.BaseStatement]:
        """Give each statement that one import became a line."""
        body = updated_node.body
        if len(original_node.body) > 1 or len(body) == 1:
            return updated_node
        lines = [cst.SimpleStatementLine([statement]) for statement in body]
        lines[0] = lines[0].with_changes(leading_lines=updated_node.leading_lines)
        end = updated_node.trailing_whitespace
        lines[-1] = lines[-1].with_changes(trailing_whitespace=end)
        return cst.FlattenSentinel(lines)

    def leave_Attribute(  # noqa: N802
        self, original_node: cst.Attribute, updated_node: cst.Attribute
    ) -> cst.BaseExpression:
        """Write a use."""
        return self._used(original_node, updated_node)

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> cst.BaseExpression:  # noqa: N802
        """Write a use."""
        return self._used(original_node, updated_node)

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:  # noqa: N802
        """Say ``rank=0`` where that process is alone."""
        if original_node.func not in self._plan.alone or not updated_node.args:
            return updated_node
        if any(it.star or (it.keyword and it.keyword.value == "rank") for it in updated_node.args):
            return updated_node
        return updated_node.with_changes(args=_with_rank_0(updated_node.args))

    def _used(self, original: cst.CSTNode, updated: cst.Name | cst.Attribute) -> cst.BaseExpression:
        path = self._plan.paths.get(original)
        if path is None:
            return updated
        return _expression(path).with_changes(lpar=updated.lpar, rpar=updated.rpar)

    def _imported(self, alias: cst.ImportAlias) -> Iterator[cst.ImportAlias]:
        """Yield what takes the place of a module in ``import``."""
        binding = self._plan.bindings.get(alias)
        if binding is None:
            yield alias
        elif binding.is_whole:
            own, *others = modules_for(binding)
            yield alias if own == binding.path else alias.with_changes(name=_expression(own))
            yield from map(_module, others)
        else:
            path = binding.target.path
            if path or not binding.beside:
                same = path in ("", binding.path)
                yield alias if same else alias.with_changes(name=_expression(path))
            yield from map(_module, dict.fromkeys(binding.beside))


class _Item(NamedTuple):
    """A name in ``from a import b``, with the comments in the lines above and at its line's end."""

    alias: cst.ImportAlias
    above: Sequence[cst.EmptyLine]
    after: cst.Comment | None


def _items(statement: cst.ImportFrom, names: Sequence[cst.ImportAlias]) -> Iterator[_Item]:
    """Yield the names of an import with the comments around each."""
    gaps = [statement.lpar.whitespace_after if statement.lpar else None]
    gaps += [getattr(alias.comma, "whitespace_after", None) for alias in names]
    if statement.rpar and not isinstance(names[-1].comma, cst.Comma):
        gaps[-1] = statement.rpar.whitespace_before
    for alias, before, behind in zip(names, gaps, gaps[1:], strict=False):
        yield _Item(alias, getattr(before, "empty_lines", ()), _comment(behind))


def _comment(gap: cst.BaseParenthesizableWhitespace | None) -> cst.Comment | None:
    return gap.first_line.comment if isinstance(gap, cst.ParenthesizedWhitespace) else None


def _taken(
    binding: Binding, alias: cst.ImportAlias, module: str
) -> Iterator[tuple[str, cst.ImportAlias]]:
    """Yield the module to import from and the name in it, none if all uses have full paths."""
    place = binding.target
    if not place.path:
        if not binding.beside:
            yield module, alias
        return
    source, _, name = place.path.rpartition(".")
    if name != alias.evaluated_name:
        changed = alias.with_changes(name=cst.Name(name), asname=None)
        alias = changed if name == binding.local else _named(changed, binding.local)
    yield source, alias


def _named(alias: cst.ImportAlias, name: str) -> cst.ImportAlias:
    return alias.with_changes(asname=cst.AsName(cst.Name(name)))


def _from_one(statement: cst.ImportFrom, module: str, items: Sequence[_Item]) -> cst.ImportFrom:
    """Return an import of one module, laid out as it was."""
    changed = statement.with_changes(names=[item.alias for item in items])
    if module_of(statement) == module:
        return changed
    return changed.with_changes(module=_expression(module))


def _from_some(statement: cst.ImportFrom, module: str, items: Sequence[_Item]) -> cst.ImportFrom:
    """Return an import of some of the names: in one line, or in parentheses if it was in such."""
    bare = [_alone(item.alias) for item in items]
    flat = cst.ImportFrom(_expression(module), bare)
    noted = any(item.above or item.after for item in items)
    if not noted and (not statement.lpar or len(cst.Module([]).code_for_node(flat)) <= _LONG):
        return flat
    ends = [*(item.above for item in items[1:]), ()]
    commas = [
        cst.Comma(whitespace_after=_break(item.after, above, "" if item is items[-1] else "    "))
        for item, above in zip(items, ends, strict=True)
    ]
    return flat.with_changes(
        lpar=cst.LeftParen(whitespace_after=_break(None, items[0].above, "    ")),
        names=[it.with_changes(comma=comma) for it, comma in zip(bare, commas, strict=True)],
        rpar=cst.RightParen(),
    )


def _break(
    comment: cst.Comment | None, above: Sequence[cst.EmptyLine], indent: str
) -> cst.ParenthesizedWhitespace:
    """Return the end of a line and the start of the next, with comment lines between."""
    space = cst.SimpleWhitespace("  " if comment else "")
    return cst.ParenthesizedWhitespace(
        cst.TrailingWhitespace(space, comment),
        above,
        indent=True,
        last_line=cst.SimpleWhitespace(indent),
    )


def _with_rank_0(arguments: Sequence[cst.Arg]) -> list[cst.Arg]:
    """Return the arguments of a call and one more, laid out as the last one is."""
    *others, last = arguments
    gap = others[-1].comma if others else cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
    none = cst.SimpleWhitespace("")
    equal = cst.AssignEqual(whitespace_before=none, whitespace_after=none)
    rank = cst.Arg(cst.Integer("0"), cst.Name("rank"), equal, comma=last.comma)
    rank = rank.with_changes(whitespace_after_arg=last.whitespace_after_arg)
    return [*others, last.with_changes(comma=gap, whitespace_after_arg=none), rank]


def _alone(alias: cst.ImportAlias) -> cst.ImportAlias:
    return alias.with_changes(comma=cst.MaybeSentinel.DEFAULT)


def _module(path: str) -> cst.ImportAlias:
    return cst.ImportAlias(_expression(path))


def _expression(path: str) -> cst.Name | cst.Attribute:
    first, *others = map(cst.Name, path.split("."))
    found: cst.Name | cst.Attribute = first
    for name in others:
        found = cst.Attribute(found, name)
    return found
