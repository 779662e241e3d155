# SPDX-License-Identifier: Apache-2.0
"""The constructor arguments of a model: recorded when it is built, written as JSON, bound again.

A record is ``{"__name__": ..., "__module__": ..., "__args__": {...}}``. In a file, an argument
that is itself a model stands as the text ``__physicsnemo.Module__.<path>``, and the record of
that model stands beside the outer one under the same text.
"""

import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from physicsnemo.core.errors import CheckpointError

if TYPE_CHECKING:
    from physicsnemo.models.module import Module

Record = dict[str, Any]
NESTED = "__physicsnemo.Module__"


def record(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Record:
    """Return what ``cls(*args, **kwargs)`` was called with, defaults included.

    Containers are copied, so that a constructor that changes its arguments does not change the
    record. Arguments that do not fit the signature are left for the constructor to report.
    """
    signature = inspect.signature(cls.__init__)  # type: ignore[misc]  # a class, not an instance
    try:
        bound = signature.bind_partial(None, *args, **kwargs)
    except TypeError:
        bound = signature.bind_partial(None)
    bound.apply_defaults()
    arguments: dict[str, Any] = {}
    for parameter in list(signature.parameters.values())[1:]:
        if parameter.name not in bound.arguments:
            continue
        value = _copy_containers(bound.arguments[parameter.name])
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            arguments.update(value)
        else:
            arguments[parameter.name] = value
    return {"__name__": cls.__name__, "__module__": cls.__module__, "__args__": arguments}


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
    for parameter in names:
        if parameter.name not in keywords:
            continue
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            positional.extend(keywords.pop(parameter.name))
        elif parameter.kind is inspect.Parameter.POSITIONAL_ONLY or (
            by_position and parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ):
            positional.append(keywords.pop(parameter.name))
    return signature.bind(None, *positional, **keywords)


def encode(model: "Module") -> tuple[Record, dict[str, "Module"]]:
    """Return a model's record as JSON can hold it, and the models nested in it by their keys.

    Raises
    ------
    TypeError
        If an argument is neither a JSON value nor a model; it is named by its path.
    """
    encoder = _Encoder()
    encoded = encoder.record(model, path="")
    return {**encoded, **encoder.records}, encoder.models


class _Encoder:
    """One walk through a record; collects nested models and their records, outer before inner."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.models: dict[str, Module] = {}

    def record(self, model: "Module", path: str) -> Record:
        own = model._args
        arguments = {
            name: self.value(value, f"{path}.{name}", own["__name__"])
            for name, value in own["__args__"].items()
        }
        return {**own, "__args__": arguments}

    def value(self, value: Any, path: str, owner: str) -> Any:
        from physicsnemo.models.module import Module

        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, (list, tuple)):
            return [self.value(item, f"{path}.{i}", owner) for i, item in enumerate(value)]
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return {key: self.value(item, f"{path}.{key}", owner) for key, item in value.items()}
        if isinstance(value, Module):
            return self.nested(value, path)
        raise TypeError(
            f"the argument {path[1:]!r} of {owner} is a {type(value).__module__}."
            f"{type(value).__qualname__}, which is not JSON serializable and cannot be stored in "
            f"a checkpoint: {_advice(value)}"
        )

    def nested(self, model: "Module", path: str) -> str:
        for key, known in self.models.items():
            if known is model:
                return key
        key = NESTED + path
        self.models[key] = model
        self.records[key] = {}
        self.records[key] = self.record(model, path)
        return key


def _advice(value: Any) -> str:
    import torch

    if isinstance(value, torch.nn.Module):
        return "convert its class with physicsnemo.Module.from_torch, or pass a name instead"
    if isinstance(value, dict):
        return "its keys must be text"
    return "pass numbers, text, lists, dictionaries or physicsnemo models"


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


def _copy_containers(value: Any) -> Any:
    if type(value) in (list, tuple):
        return type(value)(_copy_containers(item) for item in value)
    if type(value) is dict:
        return {key: _copy_containers(item) for key, item in value.items()}
    return value
