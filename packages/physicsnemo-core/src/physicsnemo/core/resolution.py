# SPDX-License-Identifier: Apache-2.0
"""Which class a checkpoint means.

Nothing is imported because a file names it: a class comes from those that are already imported,
from the registry, or from what the caller trusts by an explicit argument.
"""

from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from physicsnemo.core.arguments import Record, bind
from physicsnemo.core.errors import CheckpointError, ModelNotFoundError
from physicsnemo.registry import ModelRegistry

if TYPE_CHECKING:
    from physicsnemo.models.module import Module

FORMER_PACKAGE = "modulus"
CONVERTED_MODULE = "physicsnemo.models.module"
CONVERTED_SUFFIX = "PhysicsNeMoModel"

Trusted = Iterable["ModuleType | type[Module]"]


def resolve(
    record: Record, asked: "type[Module]", trusted: Trusted = (), source: str = "the checkpoint"
) -> "type[Module]":
    """Return the class that a record names.

    The first of these that fits: a class that is already imported, with the same module and name;
    a class from ``trusted`` with the same name; ``asked`` or a subclass of it, by name; the
    registered model of that name, if its package is the file's and the arguments fit it.

    Parameters
    ----------
    record
        Record of a model, see :mod:`physicsnemo.core.arguments`.
    asked
        The class that ``from_checkpoint`` was called on; the result is a subclass of it.
    trusted
        Modules and classes that the caller vouches for.
    source
        The file's name, for error texts.

    Raises
    ------
    CheckpointError
        If no class fits. The text names the candidates and what to do.
    """
    from physicsnemo.models.module import Module

    name, module = record["__name__"], _current(record["__module__"])
    for found in (
        _newest(c for c in _family_tree(Module) if (c.__module__, c.__name__) == (module, name)),
        _newest(c for c in _classes_of(trusted) if c.__name__ == name),
        _converted(name) if module == CONVERTED_MODULE else None,
        _newest(c for c in _family_tree(asked) if c.__name__ == name and asked is not Module),
        _registered(name, module, record["__args__"]),
    ):
        if found is not None:
            return _as_asked(found, asked, source)
    raise CheckpointError(f"{source} holds a {module}.{name}, {_explain(name, module, record)}")


def _current(module: str) -> str:
    package, dot, rest = module.partition(".")
    return f"physicsnemo{dot}{rest}" if package == FORMER_PACKAGE else module


def _family_tree(root: "type[Module]") -> "Iterator[type[Module]]":
    """Yield a class and all its living subclasses, the oldest first."""
    yield root
    for child in root.__subclasses__():
        yield from _family_tree(child)


def _newest(classes: "Iterable[type[Module]]") -> "type[Module] | None":
    # A class statement that runs again, as a notebook's cell does, leaves the former class alive.
    return next(reversed(list(classes)), None)


def _classes_of(trusted: Trusted) -> "Iterator[type[Module]]":
    from physicsnemo.models.module import Module

    for item in trusted:
        for value in vars(item).values() if isinstance(item, ModuleType) else [item]:
            if isinstance(value, type) and issubclass(value, Module):
                yield value


def _converted(name: str) -> "type[Module] | None":
    """Find a class made by ``Module.from_torch``, whose name newer files write without suffix."""
    from physicsnemo.models.module import Module

    names = (name, name + CONVERTED_SUFFIX)
    converted = (c for c in Module.__subclasses__() if c.__module__ == CONVERTED_MODULE)
    return _newest(c for c in converted if c.__name__ in names)


def _registered(name: str, module: str, arguments: dict[str, Any]) -> "type[Module] | None":
    try:
        found = ModelRegistry().factory(name)
    except ModelNotFoundError:
        return None
    if found.__module__.partition(".")[0] != module.partition(".")[0]:
        return None
    return found if _misfit(found, arguments) is None else None


def _misfit(candidate: "type[Module]", arguments: dict[str, Any]) -> str | None:
    try:
        bind(candidate, arguments)
    except TypeError as error:
        return str(error)
    return None


def _as_asked(found: "type[Module]", asked: "type[Module]", source: str) -> "type[Module]":
    if issubclass(found, asked):
        return found
    raise CheckpointError(
        f"{source} holds a {found.__module__}.{found.__name__}, which is no {asked.__name__}; "
        f"load it with {found.__name__}.from_checkpoint or physicsnemo.Module.from_checkpoint"
    )


def _explain(name: str, module: str, record: Record) -> str:
    try:
        candidate = ModelRegistry().factory(name)
    except ModelNotFoundError as error:
        return (
            f"which is neither imported nor registered: import {module} first, or pass its class "
            f"as from_checkpoint(..., trusted=[{name}]). {error}"
        )
    misfit = _misfit(candidate, record["__args__"]) or "which is in another package"
    return (
        f"and the registered model of that name, {candidate.__module__}.{candidate.__name__}, is "
        f"another one ({misfit}): import {module} first, or pass the class as "
        f"from_checkpoint(..., trusted=[...])"
    )
