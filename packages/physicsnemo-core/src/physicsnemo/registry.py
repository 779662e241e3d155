# SPDX-License-Identifier: Apache-2.0
"""The models that are installed, found through entry points, without importing any of them."""

import os
import threading
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from physicsnemo.core.entries import Entry, discover
from physicsnemo.core.errors import ModelNotFoundError, shown_name

if TYPE_CHECKING:
    from physicsnemo.models.module import Module

__all__ = ["ModelDescription", "ModelRegistry"]


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

    def factory(self, name: str) -> type[Any]:
        """Return the class that is registered under a name, importing its package if need be.

        Parameters
        ----------
        name
            A name from :meth:`list_models`, or ``"distribution:Name"``.

        Returns
        -------
        A subclass of :class:`physicsnemo.Module`; which arguments it takes, its name alone tells no
        type checker.

        Raises
        ------
        ModelNotFoundError
            If no model has that name. A ``KeyError``; it names the package to install, if one of
            this project's ships such a model, and close matches.
        ImportError
            If the package that registers the model cannot be imported.
        TypeError
            If what is registered is not a subclass of :class:`physicsnemo.Module`.

        Warns
        -----
        RegistryWarning
            If that package requires other versions of this project's packages than are installed.
        """
        registered = _state.registered.get(name)
        return registered if registered is not None else _find_entry(name).load()

    def describe(self, name: str) -> "ModelDescription":
        """Tell where a model comes from and whether it loads, which imports its package.

        Parameters
        ----------
        name
            A name from :meth:`list_models`, or ``"distribution:Name"``.

        Raises
        ------
        ModelNotFoundError
            If no model has that name.
        """
        registered = _state.registered.get(name)
        if registered is not None:
            return _describe_class(name, registered)
        return _describe_entry(_find_entry(name))

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


class ModelDescription(NamedTuple):
    """What :meth:`ModelRegistry.describe` tells of a model.

    Parameters
    ----------
    name
        The name that it is registered under.
    distribution, version
        The installed distribution that it comes from, None for one that no distribution ships.
    path
        Where it is imported from, as ``module:class``.
    error
        Why it does not load, None if it does.
    """

    name: str
    distribution: str | None
    version: str | None
    path: str
    error: str | None = None


class _State:
    """What all registries share; ``found`` is None until entry points have been looked up."""

    def __init__(self) -> None:
        self.registered: dict[str, type[Module]] = {}
        self.found: dict[str, list[Entry]] | None = None
        self.lock = threading.Lock()

    def entries(self) -> dict[str, list[Entry]]:
        # Held while looking only, never while importing: an import may wait for another thread
        # whose module registers a class.
        with self.lock:
            if self.found is None:
                self.found = discover()
            return self.found

    def renew_lock(self) -> None:
        """Forget a lock whose thread is not there any more."""
        self.lock = threading.Lock()


_state = _State()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_state.renew_lock)


def installed_entries() -> list[Entry]:
    """Return all entry points by name, of one name the one that wins first."""
    return [entry for _, same_name in sorted(_state.entries().items()) for entry in same_name]


def entry_of(model_class: type) -> Entry | None:
    """Return the entry point that registers a class, None if there is none.

    Of several, that with the class's name: the others are names that it had.
    """
    entries = [entry for entry in installed_entries() if entry.registers(model_class)]
    return min(entries, key=lambda entry: entry.name != model_class.__name__, default=None)


def _describe_class(name: str, model_class: "type[Module]") -> ModelDescription:
    from physicsnemo.core.origins import Origin

    origin = Origin.of(model_class)
    path = f"{model_class.__module__}:{model_class.__qualname__}"
    return ModelDescription(name, origin.distribution, origin.version, path)


def _describe_entry(entry: Entry) -> ModelDescription:
    found = ModelDescription(entry.name, entry.distribution, entry.version, entry.value)
    try:
        entry.load()
    except (ImportError, TypeError) as error:
        return found._replace(error=str(error))
    return found


def _find_entry(name: str) -> Entry:
    distribution, _, bare_name = name.rpartition(":")
    for entry in _state.entries().get(bare_name, []):
        if distribution in ("", entry.distribution):
            return entry
    raise ModelNotFoundError(_not_found_text(name))


def _not_found_text(name: str) -> str:
    text = f"No model is registered under the name {shown_name(name)}"
    if name in shipped_models():
        distribution = shipped_models()[name]["distribution"]
        return f"{text}: it is part of {distribution}, run 'pip install {distribution}'"
    import difflib

    known = ModelRegistry().list_models()
    by_lower_case = {model.lower(): model for model in known}
    matches = [by_lower_case[m] for m in difflib.get_close_matches(name.lower(), by_lower_case)]
    if matches:
        return f"{text}; did you mean {' or '.join(matches)}?"
    return f"{text}; there are {', '.join(known) or 'none, since no family is installed'}"


@cache
def shipped_models() -> dict[str, dict[str, str]]:
    """Return the distribution and module of every model of this project; for error texts."""
    import json
    from importlib.resources import files

    text = files("physicsnemo.core").joinpath("families.json").read_text(encoding="utf-8")
    shipped: dict[str, dict[str, str]] = json.loads(text)
    return shipped
