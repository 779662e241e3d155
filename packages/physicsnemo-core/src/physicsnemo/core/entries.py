# SPDX-License-Identifier: Apache-2.0
"""The entry points by which distributions register models; reading them imports nothing."""

import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from physicsnemo.core.errors import RegistryWarning
from physicsnemo.core.installed import entry_points, identity

if TYPE_CHECKING:
    from physicsnemo.models.module import Module

GROUP = "physicsnemo.models"
FORMER_GROUP = "modulus.models"


class Entry:
    """One entry point: kept as plain text, since two libraries define an ``EntryPoint`` class."""

    def __init__(self, name: str, value: str, source: Any, leftover: bool = False) -> None:
        self.name, self.value, self._source, self.leftover = name, value, source, leftover

    # Read on demand, since parsing metadata costs more than finding all entry points.
    @property
    def distribution(self) -> str:
        """Name of the distribution that it comes from."""
        return identity(self._source)[0]

    @property
    def version(self) -> str:
        """Version of that distribution."""
        return identity(self._source)[1]

    def load(self) -> "type[Module]":
        """Import the class, and warn if its distribution does not fit the installed versions.

        Raises
        ------
        ImportError
            If that fails, for whatever reason; the text names the distribution, and what it
            requires in vain.
        TypeError
            If it is not a subclass of :class:`physicsnemo.Module`.
        """
        from physicsnemo.core.requirements import unmet_requirements
        from physicsnemo.models.module import Module

        source = f"{self.distribution} {self.version} registers {self.name} as {self.value!r}"
        module, attribute = self._split()
        misfits = unmet_requirements(self._source)
        try:
            loaded: Any = getattr(import_module(module), attribute)
        except Exception as error:  # the module's code can fail in any way
            text = "; ".join([_reason(error, module), *misfits])
            raise ImportError(f"{source}, {text}") from error
        if not (isinstance(loaded, type) and issubclass(loaded, Module)):
            raise TypeError(f"{source}, which is no subclass of physicsnemo.Module: {loaded!r}")
        for misfit in misfits:
            warnings.warn(misfit, RegistryWarning, stacklevel=3)
        return loaded

    def registers(self, model_class: type) -> bool:
        """Tell whether this is the entry point of a class, without importing anything."""
        module, attribute = self._split()
        return getattr(sys.modules.get(module), "__dict__", {}).get(attribute) is model_class

    def _split(self) -> tuple[str, str]:
        module, _, attribute = self.value.partition(":")
        return module, attribute


def discover() -> dict[str, list[Entry]]:
    """Return the entries of each name, the one that wins first."""
    current, former = _installed()
    found = {name: _in_order(name, entries) for name, entries in current.items()}
    for name in former.keys() - current.keys():
        found[name] = former[name][:1]
        warnings.warn(
            f"{found[name][0].distribution} registers {name} in the entry-point group "
            f"{FORMER_GROUP!r}; its authors should use {GROUP!r}",
            DeprecationWarning,
            stacklevel=2,
        )
    return found


def _installed() -> tuple[dict[str, list[Entry]], dict[str, list[Entry]]]:
    """Return the entries of both groups by name, read in one pass over what is installed."""
    found: dict[str, dict[str, list[Entry]]] = {GROUP: {}, FORMER_GROUP: {}}
    for point in entry_points(found, RegistryWarning):
        entry = Entry(point.name, point.value, point.source, point.leftover)
        found[point.group].setdefault(point.name, []).append(entry)
    return found[GROUP], found[FORMER_GROUP]


def _in_order(name: str, entries: list[Entry]) -> list[Entry]:
    """Return the entry of each distribution, and warn if there are several."""
    entries = [entry for entry in entries if not entry.leftover] or entries
    if len(entries) == 1:
        return entries
    # A distribution can be found twice on the path, and Python takes the first.
    by_distribution: dict[str, Entry] = {}
    for entry in entries:
        by_distribution.setdefault(entry.distribution, entry)
    ordered = sorted(by_distribution.values(), key=_precedence)
    if len(ordered) > 1:
        warnings.warn(
            f"the model {name} is registered by {', '.join(e.distribution for e in ordered)}; "
            f"{name!r} means that of {ordered[0].distribution}, reach another one as "
            f"factory('{ordered[1].distribution}:{name}')",
            RegistryWarning,
            stacklevel=2,
        )
    return ordered


def _precedence(entry: Entry) -> tuple[bool, str]:
    return not entry.distribution.startswith("physicsnemo-"), entry.distribution


def _reason(error: Exception, module: str) -> str:
    if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
        return f"but there is no module {error.name!r}: {error}"
    if isinstance(error, (ImportError, AttributeError)):
        return f"which cannot be imported: {error}"
    return f"which cannot be imported: {type(error).__name__}: {error}"
