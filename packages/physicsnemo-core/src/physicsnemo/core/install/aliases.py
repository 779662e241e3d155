# SPDX-License-Identifier: Apache-2.0
"""Aliases: where names of other releases of the reference implementation are here.

All of it follows from the one table in ``paths``; nothing is imported to look something up.
"""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from physicsnemo.core.install.paths import MODULES, TABLE, Row

ROOT = "physicsnemo"
FORMER_PACKAGE = "modulus"
_SHARED = {ROOT, *(f"{ROOT}.{name}" for name in ("core", "metrics", "models", "utils"))}


class Place(NamedTuple):
    """Where a name of another release is here, if its row of the table says so."""

    name: str
    row: Row

    @property
    def module(self) -> str:
        """The module to import it from, empty if it is not here."""
        return absolute(self.row.here.split()[0]) if self.row.here else ""

    def stays(self, module: str, former: str) -> bool:
        """Tell whether a module has it here too, by the name that it has in other releases."""
        return former == self.name and module in map(absolute, self.row.here.split())


def current_name(module: str, name: str) -> tuple[str, str]:
    """Return the module and name here of a class that a file of some release names.

    What the table of paths does not know stays as it is. Nothing is imported.

    Parameters
    ----------
    module, name
        As the file has them.

    Examples
    --------
    >>> current_name("physicsnemo.models.diffusion_unets.unet", "CorrDiffRegressionUNet")
    ('physicsnemo.models.diffusion.unet', 'UNet')
    >>> current_name("modulus.models.fno.fno", "FNO")
    ('physicsnemo.models.fno.fno', 'FNO')
    """
    module = without_former_package(module)
    for known in _parents(module):
        place = places(known).get(name)
        # What a package has may be defined anywhere in it, but that of a shared one is its own.
        if place and place.module and (known == module or known not in _SHARED):
            return place.module, place.name
    return current_module(module), name


def current_module(module: str) -> str:
    """Return where a module of another release is here as a whole, itself if it has not moved."""
    modules = _modules()
    for known in _parents(module):
        if known in modules:
            return modules[known] + module.removeprefix(known)
    return module


def is_moved(module: str) -> bool:
    """Tell whether the table has a module of another release elsewhere here, as a whole."""
    return module in _modules()


def without_former_package(module: str) -> str:
    """Return a module's path by the present name of the reference implementation."""
    package, dot, rest = module.partition(".")
    return f"{ROOT}{dot}{rest}" if package == FORMER_PACKAGE else module


def names(module: str) -> dict[str, Place]:
    """Return where the names are that other releases have in a module, as far as is known."""
    return _names().get(module, {})


def is_here(module: str, name: str = "") -> bool:
    """Tell whether the table has a module of this project, and a name in it if that is given."""
    return module in _here() and (not name or name in _here()[module])


def name_around(module: str, name: str) -> Place | None:
    """Return where a name is that some package of a family around a module is known to have."""
    around = (names(known).get(name) for known in _parents(module) if known not in _SHARED)
    return next((place for place in around if place), None)


def places(module: str) -> dict[str, Place]:
    """Return where the names are that other releases have in a module, and this project has not."""
    return _places().get(module, {})


def is_former(module: str) -> bool:
    """Tell whether other releases have a module, or packages that hold one."""
    return module in _former()


def renames(row: Row) -> Iterator[tuple[str, str]]:
    """Yield each name of a row and what it is called here."""
    for text in row.names.split():
        former, _, present = text.partition(":")
        yield former, present or former


def absolute(relative: str) -> str:
    """Return a module's path, as the table shortens it, in full."""
    return f"{ROOT}{relative}".rstrip(".") if relative.startswith(".") else relative


def _parents(module: str) -> Iterator[str]:
    """Yield a module and the packages around it, the deepest that the table may know first."""
    parts = module.split(".", _depth())[: _depth()]
    for count in range(len(parts), 0, -1):
        yield ".".join(parts[:count])


@cache
def _names() -> dict[str, dict[str, Place]]:
    found: dict[str, dict[str, Place]] = {}
    for rows in TABLE.values():
        for row in rows:
            for module in map(absolute, (*row.of_1.split(), *row.of_2.split())):
                known = found.setdefault(module, {})
                known.update({former: Place(present, row) for former, present in renames(row)})
    return found


@cache
def _here() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for rows in TABLE.values():
        for row in rows:
            for module in map(absolute, row.here.split()):
                found.setdefault(module, set()).update(present for _, present in renames(row))
    return found


@cache
def _places() -> dict[str, dict[str, Place]]:
    return {
        module: {name: place for name, place in known.items() if not place.stays(module, name)}
        for module, known in _names().items()
    }


@cache
def _modules() -> dict[str, str]:
    return {absolute(former): absolute(present) for former, present in MODULES.items()}


@cache
def _former() -> frozenset[str]:
    known = (*_places(), *_modules())
    return frozenset(
        ".".join(parts[:count])
        for parts in (module.split(".") for module in known)
        for count in range(2, len(parts) + 1)
    )


@cache
def _depth() -> int:
    """How many names the deepest module of the table has."""
    return max(module.count(".") for module in _former()) + 1
