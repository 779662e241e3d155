# SPDX-License-Identifier: Apache-2.0
"""Where a dotted path leads that code for another release uses: ``physicsnemo migrate`` asks.

What the table of paths knows needs no import. Other paths are as they were if this project has
them, for which their modules are imported, if they are installed.
"""

from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

from physicsnemo.core.install.aliases import (
    ROOT,
    Place,
    current_module,
    is_former,
    is_here,
    is_moved,
    name_around,
    names,
    without_former_package,
)
from physicsnemo.core.install.entry_points import owners

UNKNOWN = "this project has nothing of that path"


class Destination(NamedTuple):
    """Where a path leads here.

    Parameters
    ----------
    module
        The module to import, empty if there is none.
    name
        What to take from it, empty for the module itself.
    rest
        Attributes of that, which the path names too.
    reason
        Why there is none, or what else there is to say.
    scattered
        Whether the path is that of a module whose names are in several modules here.
    """

    module: str = ""
    name: str = ""
    rest: str = ""
    reason: str = ""
    scattered: bool = False

    @property
    def path(self) -> str:
        """The path here, empty if there is none."""
        return ".".join(part for part in (self.module, self.name, self.rest) if part)


@cache
def destination(path: str) -> Destination:
    """Return where a path below ``physicsnemo`` or ``modulus`` leads here.

    Parameters
    ----------
    path
        Of a module, of what it has, or of an attribute of that.

    Examples
    --------
    >>> destination("modulus.models.layers.activations.Stan").path
    'physicsnemo.nn.activations.Stan'
    >>> destination("physicsnemo.StaticData").reason
    'this project has nothing of that path'
    """
    path = without_former_package(path)
    parts = path.split(".")
    splits = [
        (".".join(parts[:count]), parts[count], ".".join(parts[count + 1 :]))
        for count in range(len(parts) - 1, 0, -1)
    ]
    for module, name, rest in splits:
        if place := names(module).get(name):
            return _of(module, place, name, rest)
        if is_here(module, name):
            return Destination(module, name, rest)
    if is_here(path):
        return Destination(path)
    if is_moved(path):
        return Destination(current_module(path))
    here = _as_it_is(path)
    if here is not None and not here.reason:
        return here
    for module, name, rest in splits:
        if place := name_around(module, name):
            return _of(module, place, name, rest)
    moved = current_module(path)
    if is_former(path) and (here or not _as_it_is(moved)):
        return Destination(reason="its names are in several modules here", scattered=True)
    return here or (destination(moved) if moved != path else Destination(reason=UNKNOWN))


def owner(module: str) -> str:
    """Return the distribution that ships a module."""
    parts = module.split(".")
    if parts[0] != ROOT:
        return parts[0]
    packages = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((owners()[name] for name in packages if name in owners()), f"{ROOT}-core")


def _of(module: str, place: Place, name: str, rest: str) -> Destination:
    if place.stays(module, name):
        return Destination(module, name, rest)
    if place.module:
        return Destination(place.module, place.name, rest)
    instead = f"; use {place.row.instead.replace(':', '.')}" if place.row.instead else ""
    return Destination(reason=place.row.reason + instead)


def _as_it_is(path: str) -> Destination | None:
    """Return a path that this project has, or may have in a package that is not installed."""
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        name = ".".join(parts[:count])
        try:
            module = import_module(name)
        except ImportError:
            if name in owners():
                return Destination(name, *_divided(parts[count:]), _unchecked(owners()[name]))
            continue
        if not _is_of_this_project(module) or not _has(module, parts[count:]):
            return None
        return Destination(name, *_divided(parts[count:]))
    return None


def _divided(attributes: list[str]) -> tuple[str, str]:
    return (attributes[0], ".".join(attributes[1:])) if attributes else ("", "")


def _unchecked(distribution: str) -> str:
    return f"not checked, since {distribution} is not installed"


def _is_of_this_project(module: ModuleType) -> bool:
    """Tell a module from one that the paths of other releases have made up."""
    return getattr(module, "__file__", None) is not None or bool(list(module.__path__))


def _has(value: Any, attributes: list[str]) -> bool:
    for name in attributes:
        if not hasattr(value, name):
            return False
        value = getattr(value, name)
    return True
