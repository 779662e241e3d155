# SPDX-License-Identifier: Apache-2.0
"""Which class a checkpoint means.

Nothing is imported because a file names it: a class comes from those that are already imported,
from the registry, or from what the caller trusts by an explicit argument.
"""

from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from physicsnemo.core.aliases import current_name, without_former_package
from physicsnemo.core.arguments import Record, bind
from physicsnemo.core.errors import CheckpointError, ModelNotFoundError, PluginError
from physicsnemo.core.hooks import ask
from physicsnemo.core.origins import Origin
from physicsnemo.registry import ModelRegistry

if TYPE_CHECKING:
    from physicsnemo.models.module import Module

CONVERTED_MODULE = "physicsnemo.models.module"
CONVERTED_SUFFIX = "PhysicsNeMoModel"

Trusted = Iterable["ModuleType | type[Module]"]


def resolve(
    record: Record,
    asked: "type[Module]",
    trusted: Trusted = (),
    source: str = "the checkpoint",
    origin: Origin = Origin(),  # noqa: B008  # frozen
) -> "type[Module]":
    """Return the class that a record names.

    The first of these that fits: a class that is already imported, with the same module and name;
    a class from ``trusted`` with the same name; ``asked`` or a subclass of it, by name; the model
    that is registered under that name, or under the one that the file's origin has, if its package
    is the file's and the arguments fit it; the same under the class's name in this project, where
    another release calls it otherwise; the class that a plugin names.

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
    origin
        The distribution that the file was saved by.

    Raises
    ------
    CheckpointError
        If no class fits. The text names the candidates and what to do.
    PluginError
        If a plugin fails to resolve the class, or answers with something else.
    """
    module, name = without_former_package(record["__module__"]), record["__name__"]
    what = f"{source} holds a {module}.{name}"
    try:
        candidates = _candidates(module, name, record, asked, trusted, origin)
        found = next((candidate for candidate in candidates if candidate is not None), None)
    except (ImportError, TypeError) as error:  # of what is registered
        raise CheckpointError(f"{what}, which cannot be loaded: {error}") from error
    if found is None:
        raise CheckpointError(f"{what}, {_explain(module, name, record, origin)}")
    if not issubclass(found, asked):
        raise CheckpointError(
            f"{source} holds a {found.__module__}.{found.__name__}, which is no {asked.__name__}; "
            f"load it with {found.__name__}.from_checkpoint or physicsnemo.Module.from_checkpoint"
        )
    return found


def _candidates(
    module: str,
    name: str,
    record: Record,
    asked: "type[Module]",
    trusted: Trusted,
    origin: Origin,
) -> "Iterator[type[Module] | None]":
    """Yield classes by falling precedence, each looked for only when the ones before it fail."""
    from physicsnemo.models.module import Module

    arguments = record["__args__"]
    current_module, current = current_name(module, name)
    yield _imported(module, name)
    yield _newest(c for c in _classes_of(trusted) if c.__name__ == name)
    if current_module == CONVERTED_MODULE:
        yield _converted(name)
    yield _newest(c for c in _family_tree(asked) if c.__name__ == name and asked is not Module)
    yield _registered(name, module, arguments)
    if origin.registered_name is not None:
        yield _registered(origin.registry_name, module, arguments)
    yield _imported(current_module, current)  # which the registry may have done just now
    yield _registered(current, current_module, arguments)
    yield _from_plugins(record["__module__"], name)


def _imported(module: str, name: str) -> "type[Module] | None":
    from physicsnemo.models.module import Module

    found = (c for c in _family_tree(Module) if (c.__module__, c.__name__) == (module, name))
    return _newest(found)


def _family_tree(root: "type[Module]") -> "Iterator[type[Module]]":
    """Yield a class and all its living subclasses, the oldest first."""
    yield root
    for child in root.__subclasses__():
        if not _is_stand_in(child):
            yield from _family_tree(child)


def _is_stand_in(model_class: "type[Module]") -> bool:
    """Tell whether a class passes for its base, as the one that ``torch.export`` leaves behind."""
    bases = ((base.__module__, base.__qualname__) for base in model_class.__mro__[1:])
    return (model_class.__module__, model_class.__qualname__) in bases


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


def _from_plugins(module: str, name: str) -> "type[Module] | None":
    from physicsnemo.models.module import Module

    for plugin, answer in ask("resolve_class", module=module, name=name):
        if not (isinstance(answer, type) and issubclass(answer, Module)):
            raise PluginError(
                f"{plugin}: resolve_class must return a subclass of physicsnemo.Module for "
                f"{module}.{name}, got {answer!r}"
            )
        return answer
    return None


def _explain(module: str, name: str, record: Record, origin: Origin) -> str:
    problem = origin.problem()
    if problem and origin.installed_version() is None:
        return problem
    suffix = f" ({problem})" if problem else ""
    _, current = current_name(module, name)
    try:
        candidate = ModelRegistry().factory(current)
    except ModelNotFoundError as error:
        return (
            f"which is neither imported nor registered: import {module} first, or pass its class "
            f"as from_checkpoint(..., trusted=[{name}]). {error}{suffix}"
        )
    misfit = _misfit(candidate, record["__args__"]) or "which is in another package"
    return (
        f"and the registered model of that name, {candidate.__module__}.{candidate.__name__}, is "
        f"another one ({misfit}): import {module} first, or pass the class as "
        f"from_checkpoint(..., trusted=[...]){suffix}"
    )
