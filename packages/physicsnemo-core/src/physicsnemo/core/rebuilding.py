# SPDX-License-Identifier: Apache-2.0
"""A model built anew from the arguments in a checkpoint, without its weights."""

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from physicsnemo.core.arguments import NESTED, bind, nested_records
from physicsnemo.core.container import Checkpoint
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.resolution import Trusted, resolve

if TYPE_CHECKING:
    from physicsnemo.models.module import Module


def rebuild(
    checkpoint: Checkpoint, asked: "type[Module]", overrides: Mapping[str, Any], trusted: Trusted
) -> Any:
    """Build the model of a checkpoint, and those nested in it where they are needed.

    Each record is resolved to a class, its arguments are migrated from the file's version,
    overridden where the caller says so, and passed to the constructor.
    """
    from physicsnemo.models.module import Module

    records = {**dict(nested_records(checkpoint.arguments)), "": checkpoint.arguments}
    _check_paths(overrides, {_path(key) for key in records})
    models: dict[str, Module] = {}
    unfinished: set[str] = set()

    def build(key: str) -> Module:
        if key in unfinished:
            raise CheckpointError(f"{key} in {checkpoint.name} contains itself")
        if key not in models:
            unfinished.add(key)
            root = asked if key == "" else Module
            model_class = resolve(records[key], root, trusted, checkpoint.name)
            version = checkpoint.metadata.get(f"{key}.mdlus_file_version".removeprefix("."))
            arguments = dict(records[key]["__args__"])
            arguments = _migrate(model_class, version, arguments, checkpoint.name)
            _override(model_class, arguments, _at(overrides, _path(key)))
            models[key] = construct(model_class, _decode(arguments, records, build))
            unfinished.remove(key)
        return models[key]

    return build("")


def _decode(value: Any, records: Mapping[str, Any], build: "Callable[[str], Module]") -> Any:
    """Put models where their keys stand, at any depth."""
    if isinstance(value, str) and value.startswith(NESTED) and value in records:
        return build(value)
    if isinstance(value, list):
        return [_decode(item, records, build) for item in value]
    if isinstance(value, dict):
        return {key: _decode(item, records, build) for key, item in value.items()}
    return value


def construct(model_class: "type[Module]", arguments: Mapping[str, Any]) -> "Module":
    """Call a class with recorded arguments."""
    bound = bind(model_class, arguments)
    return model_class(*bound.args[1:], **bound.kwargs)


def _path(key: str) -> str:
    return key.removeprefix(NESTED + ".")


def _at(overrides: Mapping[str, Any], path: str) -> dict[str, Any]:
    split = {key: key.rpartition(".") for key in overrides}
    return {split[key][2]: value for key, value in overrides.items() if split[key][0] == path}


def _check_paths(overrides: Mapping[str, Any], paths: set[str]) -> None:
    for key in overrides:
        path, _, name = key.rpartition(".")
        if not name.isidentifier() or path not in paths:
            raise ValueError(
                f"cannot override {key!r}: expected an argument's name, or the path of a nested "
                f"model and a name, as in 'inner.dropout'"
            )


def _migrate(
    model_class: "type[Module]", version: str | None, arguments: dict[str, Any], source: str
) -> dict[str, Any]:
    current = model_class.__model_checkpoint_version__
    if version is None or version == current:
        return arguments
    supported = model_class.__supported_model_checkpoint_version__
    if version not in supported:
        readable = ", ".join([current, *supported])
        raise CheckpointError(
            f"Model checkpoint version {version} of {source} is not compatible with current "
            f"version {current} of {model_class.__name__}, which reads {readable}"
        )
    warnings.warn(supported[version], stacklevel=5)
    return model_class._backward_compat_arg_mapper(version, arguments)


def _override(
    model_class: "type[Module]", arguments: dict[str, Any], overrides: dict[str, Any]
) -> None:
    for key, value in overrides.items():
        if key not in model_class._overridable_args:
            allowed = ", ".join(sorted(model_class._overridable_args)) or "none"
            raise ValueError(
                f"Argument '{key}' cannot be overridden for {model_class.__name__}; "
                f"it allows {allowed}"
            )
        if key not in arguments:
            warnings.warn(f"New argument '{key}' added to those of the file", stacklevel=5)
        arguments[key] = value
