# SPDX-License-Identifier: Apache-2.0
"""What becomes of the imports in a source text, and of what uses them."""

from collections.abc import Iterable, Mapping, Sequence

import libcst as cst

from physicsnemo.cli.migration.reading import Binding, Reader, Remark, Use
from physicsnemo.core.install.destinations import Destination, destination

_TOGETHER = ("physicsnemo.utils.load_checkpoint", "physicsnemo.utils.save_checkpoint")


class Plan:
    """What is written in place of what.

    Attributes
    ----------
    bindings
        Of each imported name, with its target and the modules to import beside.
    paths
        What is written in place of uses.
    alone
        Functions that all processes call together here, where the code calls them in rank 0 alone.
    modules
        All that the text imports of this project.
    remarks
        What is left to the reader.
    """

    def __init__(self, found: Reader) -> None:
        self.bindings, self.remarks = found.bindings, list(found.remarks)
        self.paths: dict[cst.CSTNode, str] = {}
        self.alone: set[cst.CSTNode] = set()
        self.modules: set[str] = set()
        sources = {use: _sources(use, found.imports) for use in found.uses}
        for binding in self.bindings.values():
            binding.target = destination(binding.path)
        for use, bindings in sources.items():
            _choose(use, bindings)
        for use, bindings in sources.items():
            for bound in dict.fromkeys(it.bound for it in bindings):
                self._follow(use, bound, [it for it in bindings if it.bound == bound])
        for binding in self.bindings.values():
            if binding.target.path or not binding.beside:
                self._note(binding.target, binding.path, binding.line)

    def _follow(self, use: Use, bound: str, sources: Sequence[Binding]) -> None:
        """Decide whether a use stays as it is, and what must be imported for it."""
        path, is_whole = bound + use.end, any(it.is_whole for it in sources)
        if use.of_rank_0 and destination(path).path in _TOGETHER:
            self.alone.add(use.node)
        if not is_whole and not _leads_on(use, sources):
            return
        place = destination(path)
        if not place.scattered:
            self._note(place, path, use.line)
        if not place.path:
            return
        stays = _means(path if is_whole else _unchanged(use, sources), place)
        if not stays:
            self.paths[use.node] = place.path
        if not stays or (is_whole and any(_covers(it.path, place.module) for it in sources)):
            for source in _nearest(path, sources):
                source.beside.append(place.module)

    def _note(self, place: Destination, path: str, line: int) -> None:
        if place.module:
            self.modules.add(place.module)
        if place.reason:
            self.remarks.append(Remark(line, path, place.reason))


def modules_for(binding: Binding) -> list[str]:
    """Return the modules to import in place of one that is imported whole."""
    kept = "" if binding.target.scattered and binding.beside else binding.path
    first = binding.target.path or kept
    wanted = [it for it in dict.fromkeys([first, *binding.beside]) if it]
    return [it for it in wanted if not any(_covers(other, it) for other in wanted if other != it)]


def _sources(use: Use, imports: Mapping[cst.CSTNode, list[Binding]]) -> list[Binding]:
    """Return the imports that a use may come from, by their lines."""
    bindings = (it for statement in use.imports for it in imports.get(statement, ()))
    return sorted((it for it in bindings if it.local == use.local), key=lambda it: it.line)


def _choose(use: Use, sources: Iterable[Binding]) -> None:
    """Take a module whose names are in several for the one that the first use wants."""
    for source in sources:
        if source.target.scattered and not source.is_whole:
            led = destination(source.path + use.end)
            if led.path and led.path == f"{led.module}{use.end}":
                source.target = Destination(led.module)


def _leads_on(use: Use, sources: Iterable[Binding]) -> bool:
    """Tell whether a use reaches into a module; for objects, the import is all that changes."""
    targets = [it.target for it in sources]
    return bool(use.end) and any(it.scattered or (it.path and not it.name) for it in targets)


def _unchanged(use: Use, sources: Iterable[Binding]) -> str:
    """Return what a use means if only its import changes, empty if that has no place."""
    return next((it.target.path + use.end for it in sources if it.target.path), "")


def _means(path: str, place: Destination) -> bool:
    """Tell whether a path is one of this project, and leads to the same as another one."""
    other = destination(path) if path else Destination()
    return other.path == path and other[1:3] == place[1:3]


def _nearest(path: str, sources: Sequence[Binding]) -> list[Binding]:
    """Return the imports whose paths have most in common with one."""

    def common(binding: Binding) -> int:
        pairs = zip(f"{path}.", f"{binding.path}.", strict=False)
        return next((at for at, (one, other) in enumerate(pairs) if one != other), len(path))

    most = max(map(common, sources), default=0)
    return [it for it in sources if common(it) == most]


def _covers(imported: str, module: str) -> bool:
    """Tell whether importing one module imports another, too."""
    return f"{imported}.".startswith(f"{module}.")
