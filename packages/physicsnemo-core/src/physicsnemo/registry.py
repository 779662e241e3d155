# SPDX-License-Identifier: Apache-2.0
"""The models that are installed, found through entry points, without importing any of them."""

import difflib
import json
import threading
import warnings
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import importlib_metadata

from physicsnemo.core.errors import ModelNotFoundError, RegistryWarning

if TYPE_CHECKING:
    from physicsnemo.models.module import Module

GROUP = "physicsnemo.models"
FORMER_GROUP = "modulus.models"

__all__ = ["ModelRegistry"]


class ModelRegistry:
    """The models that installed packages register, and those registered by hand.

    All instances share one state. A package registers a model by an entry point in the group
    ``physicsnemo.models``, whose name is the class name; nothing is imported before a model is
    asked for. Where two distributions register one name, one of this project's wins, else the
    first in alphabetical order; ``factory("distribution:Name")`` reaches either.

    Examples
    --------
    >>> from physicsnemo.registry import ModelRegistry
    >>> isinstance(ModelRegistry().list_models(), list)
    True
    """

    def list_models(self) -> list[str]:
        """Return the names of all models, sorted, without importing any."""
        return sorted({*_state.entries(), *_state.registered})

    def factory(self, name: str) -> "type[Module]":
        """Return the class that is registered under a name, importing its package if need be.

        Parameters
        ----------
        name
            A name from :meth:`list_models`, or ``"distribution:Name"``.

        Raises
        ------
        ModelNotFoundError
            If no model has that name. A ``KeyError``; it names the package to install, if one of
            this project's ships such a model, and close matches.
        ImportError
            If the package that registers the model cannot be imported.
        TypeError
            If what is registered is not a subclass of :class:`physicsnemo.Module`.
        """
        registered = _state.registered.get(name)
        return registered if registered is not None else _find_entry(name).load()

    def register(self, model_class: "type[Module]", name: str | None = None) -> None:
        """Register a class for this process.

        Parameters
        ----------
        model_class
            A subclass of :class:`physicsnemo.Module`.
        name
            The name to register it under, by default the class name.

        Raises
        ------
        TypeError
            If ``model_class`` is not a class.
        ValueError
            If it is not a subclass of :class:`physicsnemo.Module`, or another class has the name.
        """
        from physicsnemo.models.module import Module

        if not isinstance(model_class, type):
            raise TypeError(f"expected a class to register, got {model_class!r}")
        if not issubclass(model_class, Module):
            raise ValueError(
                f"Only subclasses of physicsnemo.Module can be registered, got {model_class!r}; "
                f"physicsnemo.Module.from_torch converts a plain torch.nn.Module class"
            )
        name = model_class.__name__ if name is None else name
        if name in self.list_models() and (owner := self.factory(name)) is not model_class:
            raise ValueError(f"Name {name} already in use by {owner!r}")
        if _state.registered.setdefault(name, model_class) is not model_class:
            raise ValueError(f"Name {name} already in use by {_state.registered[name]!r}")

    def __clear_registry__(self) -> None:
        """Forget every model, installed ones included; for tests."""
        _state.registered, _state.found = {}, {}

    def __restore_registry__(self) -> None:
        """Forget the models registered by hand and look for installed ones again; for tests."""
        _state.registered, _state.found = {}, None


@dataclass(frozen=True)
class _Entry:
    """One entry point: kept as plain text, since two libraries define an ``EntryPoint`` class."""

    name: str
    value: str
    distribution: str
    version: str

    def load(self) -> "type[Module]":
        from physicsnemo.models.module import Module

        source = f"{self.distribution} {self.version} registers {self.name} as {self.value!r}"
        module_name, _, attribute = self.value.partition(":")
        try:
            loaded: Any = getattr(import_module(module_name), attribute)
        except (ImportError, AttributeError) as error:
            raise ImportError(f"{source}, which cannot be imported: {error}") from error
        if not (isinstance(loaded, type) and issubclass(loaded, Module)):
            raise TypeError(f"{source}, which is no subclass of physicsnemo.Module: {loaded!r}")
        return loaded


@dataclass
class _State:
    """What all registries share; ``found`` is None until entry points have been looked up."""

    registered: "dict[str, type[Module]]" = field(default_factory=dict)
    found: dict[str, list[_Entry]] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def entries(self) -> dict[str, list[_Entry]]:
        # Held while looking only, never while importing: an import may wait for another thread
        # whose module registers a class.
        with self.lock:
            if self.found is None:
                self.found = _discover()
            return self.found


_state = _State()


def _discover() -> dict[str, list[_Entry]]:
    """Return the entries of each name, the one that wins first."""
    found: dict[str, list[_Entry]] = {}
    for entry in sorted(_installed(GROUP), key=_precedence):
        found.setdefault(entry.name, []).append(entry)
    for entry in _installed(FORMER_GROUP):
        if entry.name not in found:
            warnings.warn(
                f"{entry.distribution} registers {entry.name} in the entry-point group "
                f"{FORMER_GROUP!r}; its authors should use {GROUP!r}",
                DeprecationWarning,
                stacklevel=2,
            )
            found[entry.name] = [entry]
    for name, entries in found.items():
        if len(entries) > 1:
            warnings.warn(
                f"the model {name} is registered by {', '.join(e.distribution for e in entries)}; "
                f"{name!r} means that of {entries[0].distribution}, reach another one as "
                f"factory('{entries[1].distribution}:{name}')",
                RegistryWarning,
                stacklevel=2,
            )
    return found


def _installed(group: str) -> list[_Entry]:
    return [
        _Entry(point.name, point.value, point.dist.name, point.dist.version)
        for point in importlib_metadata.entry_points(group=group)
        if point.dist is not None
    ]


def _precedence(entry: _Entry) -> tuple[bool, str]:
    return not entry.distribution.startswith("physicsnemo-"), entry.distribution


def _find_entry(name: str) -> _Entry:
    distribution, _, bare_name = name.rpartition(":")
    for entry in _state.entries().get(bare_name, []):
        if distribution in ("", entry.distribution):
            return entry
    raise ModelNotFoundError(_not_found_text(name))


def _not_found_text(name: str) -> str:
    text = f"No model is registered under the name {name}"
    if name in shipped_models():
        distribution = shipped_models()[name]["distribution"]
        return f"{text}: it is part of {distribution}, run 'pip install {distribution}'"
    known = ModelRegistry().list_models()
    by_lower_case = {model.lower(): model for model in known}
    matches = [by_lower_case[m] for m in difflib.get_close_matches(name.lower(), by_lower_case)]
    if matches:
        return f"{text}; did you mean {' or '.join(matches)}?"
    return f"{text}; there are {', '.join(known) or 'none, since no family is installed'}"


@cache
def shipped_models() -> dict[str, dict[str, str]]:
    """Return the distribution and module of every model of this project; for error texts."""
    text = Path(__file__).with_name("core").joinpath("families.json").read_text(encoding="utf-8")
    shipped: dict[str, dict[str, str]] = json.loads(text)
    return shipped
