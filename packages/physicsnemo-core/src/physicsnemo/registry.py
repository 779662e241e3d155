# SPDX-License-Identifier: Apache-2.0
"""The models that are installed, found through entry points, without importing any of them."""

from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

from physicsnemo.core.errors import ModelNotFoundError, shown_name
from physicsnemo.core.install import entry_points
from physicsnemo.core.install.aliases import current_name
from physicsnemo.core.install.entry_points import (
    ModelEntryPoint,
    installed_models,
    shipped_models,
)
from physicsnemo.core.install.provenance import Origin

if TYPE_CHECKING:
    from physicsnemo.core.base import ModelBase

__all__ = ["ModelDescription", "ModelRegistry", "current_name"]


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

    def list_models(self, pattern: str = "*") -> list[str]:
        """Return the names of all models, sorted, without importing any.

        Parameters
        ----------
        pattern
            Of which the names must be: ``*`` stands for any letters, ``?`` for one, and capitals
            do not count, so ``"*fno"`` finds ``FNO`` and ``SFNO``.
        """
        names = sorted({*installed_models(), *_registered})
        return [name for name in names if fnmatchcase(name.lower(), pattern.lower())]

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
        registered = _registered.get(name)
        return registered if registered is not None else _load(_find_entry(name))

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
        registered = _registered.get(name)
        if registered is not None:
            return _describe_class(name, registered)
        return _describe_entry(_find_entry(name))

    def register(self, model_class: "type[ModelBase]", name: str | None = None) -> None:
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
        if not isinstance(model_class, type):
            raise TypeError(f"expected a class to register, got {model_class!r}")
        if not _is_model_class(model_class):
            raise ValueError(
                f"Only subclasses of physicsnemo.Module can be registered, got {model_class!r}; "
                f"physicsnemo.Module.from_torch converts a plain torch.nn.Module class"
            )
        name = model_class.__name__ if name is None else name
        if name in self.list_models() and (owner := self.factory(name)) is not model_class:
            raise ValueError(f"Name {name} already in use by {owner!r}")
        if _registered.setdefault(name, model_class) is not model_class:
            raise ValueError(f"Name {name} already in use by {_registered[name]!r}")

    def __repr__(self) -> str:
        """Return how many models there are, and their names."""
        names = self.list_models()
        return f"ModelRegistry({len(names)} models: {', '.join(names) or 'no family is installed'})"

    def __clear_registry__(self) -> None:
        """Forget every model, installed ones included; for tests."""
        _registered.clear()
        entry_points.forget(all_models=True)

    def __restore_registry__(self) -> None:
        """Forget the models registered by hand and look for installed ones again; for tests."""
        _registered.clear()
        entry_points.forget()


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


_registered: dict[str, type[Any]] = {}  # by hand


def _describe_class(name: str, model_class: "type[ModelBase]") -> ModelDescription:
    origin = Origin.of(model_class)
    path = f"{model_class.__module__}:{model_class.__qualname__}"
    return ModelDescription(name, origin.distribution, origin.version, path)


def _describe_entry(entry: ModelEntryPoint) -> ModelDescription:
    found = ModelDescription(entry.name, entry.distribution, entry.version, entry.value)
    try:
        _load(entry)
    except (ImportError, TypeError) as error:
        return found._replace(error=str(error))
    return found


def _load(entry: ModelEntryPoint) -> type[Any]:
    loaded = entry.load()
    if not _is_model_class(loaded):
        raise TypeError(f"{entry}, which is no subclass of physicsnemo.Module: {loaded!r}")
    return loaded  # type: ignore[no-any-return]


def _is_model_class(value: Any) -> bool:
    # Late, since it imports PyTorch, and listing models does not.
    from physicsnemo.core.base import ModelBase

    return isinstance(value, type) and issubclass(value, ModelBase)


def _find_entry(name: str) -> ModelEntryPoint:
    distribution, _, bare_name = name.rpartition(":")
    for entry in installed_models().get(bare_name, []):
        if distribution in ("", entry.distribution):
            return entry
    raise ModelNotFoundError(_not_found_text(name))


def _not_found_text(name: str) -> str:
    text = f"No model is registered under the name {shown_name(name)}"
    if name in shipped_models():
        distribution = shipped_models()[name]["distribution"]
        return f"{text}: it is part of {distribution}, run 'pip install {distribution}'"
    known = ModelRegistry().list_models()
    by_lower_case = {model.lower(): model for model in known}
    matches = [by_lower_case[m] for m in get_close_matches(name.lower(), by_lower_case)]
    if matches:
        return f"{text}; did you mean {' or '.join(matches)}?"
    return f"{text}; there are {', '.join(known) or 'none, since no family is installed'}"
