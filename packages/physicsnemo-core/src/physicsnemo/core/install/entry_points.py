# SPDX-License-Identifier: Apache-2.0
"""The entry points by which distributions register models; reading them imports no model.

They are looked up once a process, and again after :func:`forget`.
"""

import json
import os
import sys
import threading
import warnings
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Any, NamedTuple

from physicsnemo.core.errors import RegistryWarning
from physicsnemo.core.install.distributions import (
    entry_points,
    field_of,
    identity,
    unmet_requirements,
)

GROUP = "physicsnemo.models"
FORMER_GROUP = "modulus.models"
CLASSES = "physicsnemo.classes"
"""Of classes that files may hold and that no registry lists, by the paths in files."""


class ModelEntryPoint:
    """An entry point of a model; its class is imported by :meth:`load`, not before.

    Attributes
    ----------
    name, value
        The name that the model is registered under, and its ``module:class``.
    leftover
        Whether its distribution is what a broken install left.
    """

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

    @property
    def summary(self) -> str:
        """What the model is, in a line; of another project's, what its distribution is."""
        own = shipped_models().get(self.name, {})
        if own.get("distribution") == self.distribution:
            return own["summary"]
        return field_of(self._source, "Summary")

    @property
    def tasks(self) -> list[str]:
        """The keywords of its distribution, in small letters."""
        words = field_of(self._source, "Keywords").lower().split(",")
        return sorted({word.strip() for word in words} - {""})

    def load(self) -> Any:
        """Import what it names, and warn if its distribution does not fit the installed versions.

        Raises
        ------
        ImportError
            If that fails, for whatever reason; the text names the distribution, and what it
            requires in vain.
        """
        module, attribute = self._split()
        misfits = unmet_requirements(self._source)
        try:
            loaded = getattr(import_module(module), attribute)
        except Exception as error:  # the module's code can fail in any way
            text = "; ".join([_reason(error, module), *misfits])
            raise ImportError(f"{self}, {text}") from error
        for misfit in misfits:
            warnings.warn(misfit, RegistryWarning, stacklevel=4)
        return loaded

    def __str__(self) -> str:
        """Say who registers what."""
        return f"{self.distribution} {self.version} registers {self.name} as {self.value!r}"

    def registers(self, model_class: type) -> bool:
        """Tell whether this is the entry point of a class, without importing anything."""
        module, attribute = self._split()
        return getattr(sys.modules.get(module), "__dict__", {}).get(attribute) is model_class

    def _split(self) -> tuple[str, str]:
        module, _, attribute = self.value.partition(":")
        return module, attribute


class _Entries(NamedTuple):
    """The entry points of models by name, the one that wins first, and of other classes by path."""

    models: dict[str, list[ModelEntryPoint]]
    classes: dict[str, ModelEntryPoint]


class _Found:
    """What has been looked up, None before.

    The lock is held while looking only, never while importing: an import may wait for another
    thread whose module registers a class.
    """

    def __init__(self) -> None:
        self.entries: _Entries | None = None
        self.lock = threading.Lock()

    def renew_lock(self) -> None:
        """Take a new lock in a forked process, where the thread that held the old one is gone."""
        self.lock = threading.Lock()


_found = _Found()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_found.renew_lock)


def installed_models() -> dict[str, list[ModelEntryPoint]]:
    """Return the entry points of each model's name, the one that wins first."""
    return _entries().models


def unlisted_classes() -> dict[str, ModelEntryPoint]:
    """Return the entry point of each class of the group ``CLASSES``, by its path in files."""
    return _entries().classes


def _entries() -> _Entries:
    with _found.lock:
        if _found.entries is None:
            _found.entries = _discover()
        return _found.entries


def forget(all_models: bool = False) -> None:
    """Look for entry points again at the next call, or find none from now on; for tests."""
    _found.entries = _Entries({}, {}) if all_models else None


def installed_entries() -> list[ModelEntryPoint]:
    """Return all entry points by name, of one name the one that wins first."""
    return [entry for _, same_name in sorted(installed_models().items()) for entry in same_name]


def entry_of(model_class: type) -> ModelEntryPoint | None:
    """Return the entry point that registers a class, None if there is none.

    Of several, that with the class's name: the others are names that it had.
    """
    entries = [entry for entry in installed_entries() if entry.registers(model_class)]
    return min(entries, key=lambda entry: entry.name != model_class.__name__, default=None)


def unlisted_entry_of(model_class: type) -> ModelEntryPoint | None:
    """Return the entry point of the group ``CLASSES`` that names a class, None without one."""
    entries = unlisted_classes().values()
    return next((entry for entry in entries if entry.registers(model_class)), None)


@cache
def shipped_models() -> dict[str, dict[str, str]]:
    """Return the distribution and module of every model of this project; for error texts."""
    shipped: dict[str, dict[str, str]] = _read("families.json")
    return shipped


@cache
def owners() -> dict[str, str]:
    """Return the distribution that ships each package of this project; for error texts."""
    shipped: dict[str, str] = _read("owners.json")
    return shipped


def _read(name: str) -> Any:
    text = files("physicsnemo.core.install").joinpath(name).read_text(encoding="utf-8")
    return json.loads(text)


def _discover() -> _Entries:
    """Return all entries, read in one pass over what is installed."""
    groups: dict[str, dict[str, list[ModelEntryPoint]]] = {GROUP: {}, FORMER_GROUP: {}, CLASSES: {}}
    for point in entry_points(groups, RegistryWarning):
        entry = ModelEntryPoint(point.name, point.value, point.source, point.leftover)
        groups[point.group].setdefault(point.name, []).append(entry)
    classes = {path: _class(path, entries) for path, entries in groups[CLASSES].items()}
    return _Entries(_models(groups[GROUP], groups[FORMER_GROUP]), classes)


def _models(
    current: dict[str, list[ModelEntryPoint]], former: dict[str, list[ModelEntryPoint]]
) -> dict[str, list[ModelEntryPoint]]:
    """Return the entries of each model's name, the one that wins first."""
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


def _class(path: str, entries: list[ModelEntryPoint]) -> ModelEntryPoint:
    """Return the entry of a class that files name by its path, and warn if there are several."""
    first, *others = _by_distribution(entries)
    if others:
        warnings.warn(
            f"the class {path} is named by {', '.join(e.distribution for e in (first, *others))}; "
            f"files get that of {first.distribution}: uninstall all but one",
            RegistryWarning,
            stacklevel=2,
        )
    return first


def _in_order(name: str, entries: list[ModelEntryPoint]) -> list[ModelEntryPoint]:
    """Return the entry of each distribution, and warn if there are several."""
    ordered = _by_distribution(entries)
    if len(ordered) > 1:
        warnings.warn(
            f"the model {name} is registered by {', '.join(e.distribution for e in ordered)}; "
            f"{name!r} means that of {ordered[0].distribution}, reach another one as "
            f"factory('{ordered[1].distribution}:{name}')",
            RegistryWarning,
            stacklevel=2,
        )
    return ordered


def _by_distribution(entries: list[ModelEntryPoint]) -> list[ModelEntryPoint]:
    """Return the entry of each distribution, the one that wins first."""
    found: dict[str, ModelEntryPoint] = {}
    for entry in [entry for entry in entries if not entry.leftover] or entries:
        # A distribution can be found twice on the path, and Python takes the first.
        found.setdefault(entry.distribution, entry)
    return sorted(found.values(), key=_precedence)


def _precedence(entry: ModelEntryPoint) -> tuple[bool, str]:
    return not entry.distribution.startswith("physicsnemo-"), entry.distribution


def _reason(error: Exception, module: str) -> str:
    if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
        return f"but there is no module {error.name!r}: {error}"
    if isinstance(error, (ImportError, AttributeError)):
        return f"which cannot be imported: {error}"
    return f"which cannot be imported: {type(error).__name__}: {error}"
