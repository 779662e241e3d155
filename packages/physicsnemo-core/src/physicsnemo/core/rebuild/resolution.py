# SPDX-License-Identifier: Apache-2.0
"""Resolution: the class that a record in a file names.

Nothing is imported because a file names it: a class comes from those that are already imported,
from the registry, or from what the caller trusts by an explicit argument.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from physicsnemo import hooks
from physicsnemo.core.base import ModelBase, bind
from physicsnemo.core.errors import CheckpointError, ModelNotFoundError, PluginError, shown_name
from physicsnemo.core.format.records import Record
from physicsnemo.core.install.aliases import current_name, without_former_package
from physicsnemo.core.install.entry_points import installed_entries, unlisted_classes
from physicsnemo.core.install.provenance import (
    Origin,
    definition,
    is_recorded_as,
    recorded_as,
    torch_class_of,
)
from physicsnemo.core.rebuild.redefinitions import newest_of_each
from physicsnemo.registry import ModelRegistry

CONVERTED_MODULE = "physicsnemo.models.module"
CONVERTED_SUFFIX = "PhysicsNeMoModel"
_LONGEST = 200  # characters of a class's path that a text repeats as something to import

Trusted = Iterable[ModuleType | type[ModelBase]]


def resolve(
    record: Record,
    expected: type[ModelBase],
    trusted: Trusted = (),
    source: str = "the checkpoint",
    origin: Origin = Origin(),  # noqa: B008  # frozen
) -> type[ModelBase]:
    """Return the class that a record names.

    It is the first of these that fits:

    1. a class that is already imported, with the same module and name, its own or those under which
       files record it;
    2. the model that the file's package registers under the name in the file, if it is that class;
    3. a class from ``trusted`` with the same name;
    4. ``expected`` or a subclass of it, by name, unless it is ``Module``;
    5. the model that is registered under that name, if its package is the file's and the arguments
       fit it;
    6. a class as in 1, by the present module and name, where another release calls it otherwise;
    7. the model as in 5, by the present name;
    8. the class that an installed package names for that path, though no registry lists it;
    9. the class that a plugin names.

    Classes made by ``Module.from_torch`` all have one module, so the origin tells them apart: for
    them, 2 comes before 1, which then is a class made of the PyTorch class that the origin names.
    Of several that fit equally well, ``trusted`` or ``expected`` decides; none is guessed.

    Parameters
    ----------
    record
        Record of a model, see :mod:`physicsnemo.core.format.records`.
    expected
        The class that ``from_checkpoint`` was called on; the result is a subclass of it.
    trusted
        Modules and classes that the caller vouches for.
    source
        The file's name, for error texts.
    origin
        What the file says of where the class came from.

    Raises
    ------
    CheckpointError
        If no class fits, or several. The text names the candidates and what to do.
    PluginError
        If a plugin fails to resolve the class, or answers with something else.
    """
    module, name = without_former_package(record["__module__"]), record["__name__"]
    what = f"{source} holds a {_describe_record(module, name, origin)}"
    wanted = _Wanted(
        module, name, record["__args__"], expected, tuple(_classes_of(trusted)), origin
    )
    try:
        found = next(filter(None, _candidates(wanted, record["__module__"])), [])
    except (ImportError, TypeError) as error:  # of what is registered
        raise CheckpointError(f"{what}, which cannot be loaded: {error}") from error
    if not found:
        raise CheckpointError(f"{what}, {_explain(wanted)}")
    if len(found) > 1:
        raise CheckpointError(
            f"{what}, which may be {' or '.join(map(_describe, found))}: pass the one that is "
            f"meant as from_checkpoint(..., trusted=[...]), or call from_checkpoint on it; "
            f"Module.from_torch(..., name=...) keeps classes apart"
        )
    if not issubclass(found[0], expected):
        raise CheckpointError(
            f"{source} holds a {_describe(found[0])}, which is no {expected.__name__}"
            f"{_made_of(expected)}; load it with {found[0].__name__}.from_checkpoint or "
            f"physicsnemo.Module.from_checkpoint"
        )
    return found[0]


@dataclass(frozen=True)
class _Wanted:
    """A class as a record names it, and who asks."""

    module: str
    name: str
    arguments: dict[str, Any]
    expected: type[ModelBase]
    trusted: tuple[type[ModelBase], ...]
    origin: Origin

    @property
    def is_converted(self) -> bool:
        return current_name(self.module, self.name)[0] == CONVERTED_MODULE


def _candidates(wanted: _Wanted, recorded_module: str) -> Iterator[list[type[ModelBase]]]:
    """Yield classes by falling precedence, each looked for only when the ones before it fail.

    Where several fit equally well, they come together. The order is that of :func:`resolve`.
    """
    current_module, current = current_name(wanted.module, wanted.name)
    if wanted.is_converted:
        yield _of_origin(wanted)
        yield _distinct(_converted(wanted), wanted)
    else:
        yield _distinct(_imported(wanted.module, wanted.name), wanted)
        yield _of_origin(wanted)
    yield _distinct([c for c in wanted.trusted if _is_called(c, wanted.name)], wanted)
    if not _is_any(wanted.expected):
        named = [c for c in _family_tree(wanted.expected) if _is_called(c, wanted.name)]
        yield _distinct(named, wanted)
    for registered_as in _spellings(wanted):
        yield _registered(registered_as, wanted.module, wanted)
    # The registry has just imported packages, so what was not there before may be now.
    yield _distinct(_imported(current_module, current), wanted)
    yield _registered(current, current_module, wanted)
    yield _unlisted(current_module, current)
    yield _from_plugins(recorded_module, wanted.name)


def _is_any(expected: type[ModelBase]) -> bool:
    """Tell whether a class stands for all models, as ``Module`` does, and names none."""
    return expected is ModelBase or ModelBase in expected.__bases__


def _imported(module: str, name: str) -> list[type[ModelBase]]:
    if module == CONVERTED_MODULE:  # where a class has another name
        return []
    return [c for c in _family_tree(ModelBase) if is_recorded_as(c, module, name)]


def _converted(wanted: _Wanted) -> list[type[ModelBase]]:
    """Find classes made by ``Module.from_torch`` that are the one in the file, or may be."""
    converted = [c for c in _family_tree(ModelBase) if torch_class_of(c) is not None]
    named = [c for c in converted if c.__name__ == wanted.name]
    return [
        found
        for found in named or [c for c in converted if _is_called(c, wanted.name)]
        if wanted.origin.defined_as in (None, definition(found))
    ]


def _is_called(model_class: type[ModelBase], name: str) -> bool:
    """Tell whether files may name a class so; those of converted ones by more than one rule."""
    torch_class = torch_class_of(model_class)
    names = [model_class.__name__, recorded_as(model_class)[1]]
    if torch_class is not None:
        names += [torch_class.__name__, torch_class.__name__ + CONVERTED_SUFFIX]
    return name in names


def _spellings(wanted: _Wanted) -> list[str]:
    """Return the names under which a class may be registered; newer files leave a suffix out."""
    bare = wanted.name.removesuffix(CONVERTED_SUFFIX)
    others = [bare + CONVERTED_SUFFIX, bare] if wanted.is_converted else []
    return list(dict.fromkeys([wanted.name, *others]))


def _distinct(classes: list[type[ModelBase]], wanted: _Wanted) -> list[type[ModelBase]]:
    """Return those of several classes of one name among which nothing decides."""
    if len(classes) > 1:
        for is_right in (
            lambda c: definition(c) == wanted.origin.defined_as,
            lambda c: (
                wanted.origin.registered_name is not None
                and Origin.of(c).registered_name == wanted.origin.registered_name
            ),
            lambda c: c in wanted.trusted,
            lambda c: issubclass(c, wanted.expected),
        ):
            classes = list(filter(is_right, classes)) or classes
    # A function that defines a class anew leaves the former one until it is garbage-collected, so
    # local classes of one path count as one definition, of which the newest is taken. Converted
    # ones are told apart by the PyTorch class that they were made of.
    places = ["" if _is_local(c) and not wanted.is_converted else definition(c) for c in classes]
    sources: dict[type, type[ModelBase]] = {torch_class_of(c) or c: c for c in classes}
    newest = newest_of_each([torch_class_of(c) or c for c in classes], places)
    return [sources[source] for source in newest]


def _is_local(model_class: type[ModelBase]) -> bool:
    return "<locals>" in definition(model_class)


def _of_origin(wanted: _Wanted) -> list[type[ModelBase]]:
    """Return what the file's package registers under the name in the file, if it is that class."""
    origin = wanted.origin
    if origin.registered_name is None:
        return []
    try:
        found = ModelRegistry().factory(origin.registry_name)
    except ModelNotFoundError:
        return []
    if wanted.is_converted:
        is_right = torch_class_of(found) is not None and _is_called(found, wanted.name)
    else:
        # Arguments of a former version need not fit before the class has translated them.
        translates = bool(found.__supported_model_checkpoint_version__)
        is_right = _shares_package(found, wanted.module) and (
            translates or _misfit(found, wanted.arguments) is None
        )
    return [found] if is_right else []


def _family_tree(root: type[ModelBase]) -> Iterator[type[ModelBase]]:
    """Yield a class and all its living subclasses, the oldest first."""
    yield root
    for child in root.__subclasses__():
        if not _is_stand_in(child):
            yield from _family_tree(child)


def _is_stand_in(model_class: type[ModelBase]) -> bool:
    """Tell whether a class passes for its base, as the one that ``torch.export`` leaves behind."""
    bases = ((base.__module__, base.__qualname__) for base in model_class.__mro__[1:])
    return (model_class.__module__, model_class.__qualname__) in bases


def _classes_of(trusted: Trusted) -> Iterator[type[ModelBase]]:
    for item in trusted:
        for value in vars(item).values() if isinstance(item, ModuleType) else [item]:
            if isinstance(value, type) and issubclass(value, ModelBase):
                yield value


def _registered(name: str, module: str, wanted: _Wanted) -> list[type[ModelBase]]:
    """Return the models that are registered under a name, of whatever package, and may be it."""
    found: list[type[ModelBase]] = []
    failures: list[Exception] = []
    for path in _registry_names(name):
        try:
            found.append(ModelRegistry().factory(path))
        except (ImportError, TypeError) as error:
            failures.append(error)
    fitting = [c for c in found if _may_be(c, module, wanted)]
    if failures and not fitting:
        raise failures[0]
    return _distinct(list(dict.fromkeys(fitting)), wanted)


def _registry_names(name: str) -> list[str]:
    """Return what the registry takes to reach each model that is registered under a name."""
    entries = [entry for entry in installed_entries() if entry.name == name]
    by_hand = [name] if name in ModelRegistry().list_models() and not entries else []
    return by_hand + [f"{entry.distribution}:{entry.name}" for entry in entries]


def _may_be(candidate: type[ModelBase], module: str, wanted: _Wanted) -> bool:
    """Tell whether a registered class is of the file's package and takes the arguments."""
    if wanted.is_converted and (
        torch_class_of(candidate) is None
        or wanted.origin.defined_as not in (None, definition(candidate))
    ):
        return False
    return _shares_package(candidate, module) and _misfit(candidate, wanted.arguments) is None


def _shares_package(candidate: type[ModelBase], module: str) -> bool:
    return candidate.__module__.partition(".")[0] == module.partition(".")[0]


def _misfit(candidate: type[ModelBase], arguments: dict[str, Any]) -> str | None:
    try:
        bind(candidate, arguments)
    except TypeError as error:
        return str(error)
    return None


def _unlisted(module: str, name: str) -> list[type[ModelBase]]:
    entry = unlisted_classes().get(f"{module}.{name}")
    if entry is None:
        return []
    found = entry.load()
    if not (isinstance(found, type) and issubclass(found, ModelBase)):
        raise TypeError(f"{entry}, which is no subclass of physicsnemo.Module: {found!r}")
    return [found]


def _from_plugins(module: str, name: str) -> list[type[ModelBase]]:
    for plugin, answer in hooks.call("resolve_class", module=module, name=name):
        if not (isinstance(answer, type) and issubclass(answer, ModelBase)):
            raise PluginError(
                f"{plugin}: resolve_class must return a subclass of physicsnemo.Module for "
                f"{shown_name(f'{module}.{name}')}, got {answer!r}"
            )
        return [answer]
    return []


def _describe(model_class: type[ModelBase]) -> str:
    return f"{'.'.join(recorded_as(model_class))}{_made_of(model_class)}"


def _made_of(model_class: type[ModelBase]) -> str:
    """Return what tells classes apart that ``Module.from_torch`` made."""
    if torch_class_of(model_class) is None:
        return ""
    return f" (made of {definition(model_class).replace(':', '.')})"


def _describe_record(module: str, name: str, origin: Origin) -> str:
    made_of = ""
    if origin.defined_as is not None and current_name(module, name)[0] == CONVERTED_MODULE:
        made_of = f" (made of {shown_name(origin.defined_as.replace(':', '.'))})"
    return f"{shown_name(f'{module}.{name}')}{made_of}"


def _explain(wanted: _Wanted) -> str:
    name = wanted.name
    module, current = current_name(wanted.module, name)
    problem = wanted.origin.problem()
    if problem and wanted.origin.installed_version() is None:
        return problem
    suffix = f" ({problem})" if problem else ""
    if wanted.is_converted and wanted.origin.defined_as is not None:
        module = wanted.origin.defined_as.partition(":")[0]
    try:
        candidate = ModelRegistry().factory(current)
    except ModelNotFoundError as error:
        return f"which is neither imported nor registered: {_way(module, name)}. {error}{suffix}"
    misfit = _misfit(candidate, wanted.arguments) or "which is in another package"
    return (
        f"and the registered model of that name, {_describe(candidate)}, is another one "
        f"({misfit}): {_way(module, name)}{suffix}"
    )


def _way(module: str, name: str) -> str:
    """Say how the reader, who knows the class, makes it known; a file's text is no code to run."""
    if len(module) + len(name) > _LONGEST or not all(map(str.isidentifier, module.split("."))):
        return "import its module first, or pass its class as from_checkpoint(..., trusted=[...])"
    known_as = name if name.isidentifier() else "..."
    return f"import {module} first, or pass its class as from_checkpoint(..., trusted=[{known_as}])"
