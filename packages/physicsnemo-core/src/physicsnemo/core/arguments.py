# SPDX-License-Identifier: Apache-2.0
"""The constructor arguments of a model: recorded when it is built, written as JSON, bound again.

A record is ``{"__name__": ..., "__module__": ..., "__args__": {...}}``. In a file, an argument
that is itself a model stands as the text ``__physicsnemo.Module__.<path>``, and the record of
that model stands beside the outer one under the same text.
"""

import inspect
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.own import record_of
from physicsnemo.core.values import Path, Types, recorded, write

if TYPE_CHECKING:
    from physicsnemo.models.module import Module

Record = dict[str, Any]
NESTED = "__physicsnemo.Module__"


def record(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Record:
    """Return what ``cls(*args, **kwargs)`` was called with, and defaults that a file can hold.

    Containers are copied, so that a constructor that changes its arguments does not change the
    record. Arguments that do not fit the signature are left for the constructor to report.

    Warns
    -----
    UserWarning
        If something was passed that no file can hold.
    """
    signature = inspect.signature(cls.__init__)  # type: ignore[misc]  # a class, not an instance
    try:
        bound = signature.bind_partial(None, *args, **kwargs)
    except TypeError:
        bound = signature.bind_partial(None)
    arguments: dict[str, Any] = {}
    for parameter in list(signature.parameters.values())[1:]:
        if parameter.name in bound.arguments:
            passed = _flat(parameter, recorded(bound.arguments[parameter.name]), signature)
            for problem in filter(None, (_problem(cls, *item) for item in passed.items())):
                warnings.warn(f"{problem}; save() will refuse this model", stacklevel=3)
            arguments.update(passed)
        elif parameter.default is not parameter.empty:
            default = recorded(parameter.default)
            if _problem(cls, parameter.name, default) is None:
                arguments[parameter.name] = default
    return {"__name__": cls.__name__, "__module__": cls.__module__, "__args__": arguments}


def _flat(parameter: inspect.Parameter, value: Any, signature: inspect.Signature) -> dict[str, Any]:
    """Return what was passed for a parameter, by the names that it has in a record."""
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return {parameter.name: list(value)}
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        # A name may be that of a parameter which cannot be passed by name.
        clashes = value.keys() & (signature.parameters.keys() - {parameter.name})
        return {_together(parameter): value} if clashes else dict(value)
    return {parameter.name: value}


def _together(parameter: inspect.Parameter) -> str:
    return f"**{parameter.name}"


def _problem(cls: type, name: str, value: Any) -> str | None:
    """Say why an argument cannot be stored, if it cannot."""
    try:
        write(value, (name,), cls.__name__, {}, lambda model, path: "")
    except TypeError as error:
        return str(error)
    return None


def bind(cls: type, arguments: Mapping[str, Any]) -> inspect.BoundArguments:
    """Sort recorded arguments into positional and keyword ones for ``cls``.

    Raises
    ------
    TypeError
        If they do not fit the signature.
    """
    signature = inspect.signature(cls.__init__)  # type: ignore[misc]
    positional: list[Any] = []
    keywords = dict(arguments)
    names = list(signature.parameters.values())[1:]
    variadic = [p.name for p in names if p.kind is inspect.Parameter.VAR_POSITIONAL]
    by_position = bool(variadic and keywords.get(variadic[0]))
    together = [keywords.pop(_together(parameter), {}) for parameter in names[-1:]]
    for parameter in names:
        if parameter.name not in keywords:
            continue
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            positional.extend(keywords.pop(parameter.name))
        elif parameter.kind is inspect.Parameter.POSITIONAL_ONLY or (
            by_position and parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ):
            positional.append(keywords.pop(parameter.name))
    return signature.bind(None, *positional, **keywords, **dict(*together))


class Encoded(NamedTuple):
    """A model's arguments as files hold them.

    Parameters
    ----------
    arguments
        The record, and beside it those of the models nested in it.
    models
        The nested models by their keys.
    types
        For each model, by its key, what JSON does not tell of its arguments' types.
    """

    arguments: Record
    models: "dict[str, Module]"
    types: dict[str, Types]


def encode(model: "Module") -> Encoded:
    """Return a model's record as JSON can hold it, and what belongs to it.

    Raises
    ------
    TypeError
        If an argument is neither a JSON value nor a model; it is named by its path.
    """
    encoder = _Encoder()
    encoded = encoder.record(model, "", ())
    return Encoded({**encoded, **encoder.records}, encoder.models, encoder.types)


class _Encoder:
    """One walk through a record; collects nested models and their records, outer before inner."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.models: dict[str, Module] = {}
        self.types: dict[str, Types] = {}

    def record(self, model: "Module", key: str, path: Path) -> Record:
        own, types = record_of(model), self.types.setdefault(key, {})
        arguments = {
            name: write(
                value,
                (name,),
                own["__name__"],
                types,
                lambda m, below: self.nested(m, path + below),
            )
            for name, value in own["__args__"].items()
        }
        return {**own, "__args__": arguments}

    def nested(self, model: "Module", path: Path) -> str:
        for key, known in self.models.items():
            if known is model:
                return key
        key = f"{NESTED}.{'.'.join(path)}"
        self.models[key] = model
        self.records[key] = {}
        self.records[key] = self.record(model, key, path)
        return key


def nested_records(arguments: Record) -> Iterator[tuple[str, Record]]:
    """Yield the records that stand beside the outer one, each with its key."""
    for key, value in arguments.items():
        if key.startswith(NESTED + "."):
            yield key, value


def check_records(arguments: Record, source: str) -> None:
    """Check that a file's outer record and those of nested models have their parts.

    Raises
    ------
    CheckpointError
        If one is not an object with ``__name__``, ``__module__`` and ``__args__``.
    """
    for key, part in [("the top level", arguments), *nested_records(arguments)]:
        if not (
            isinstance(part, dict)
            and isinstance(part.get("__name__"), str)
            and isinstance(part.get("__module__"), str)
            and isinstance(part.get("__args__"), dict)
        ):
            raise CheckpointError(
                f"{source}: {key} must hold the texts __name__ and __module__ and the object "
                f"__args__"
            )
