# SPDX-License-Identifier: Apache-2.0
"""Migration: the arguments in a file, translated to those of the class as it is now."""

import warnings
from collections.abc import Mapping
from typing import Any

from physicsnemo import hooks
from physicsnemo.core.base import ModelBase
from physicsnemo.core.errors import CheckpointError, PluginError
from physicsnemo.core.format.records import metadata_key
from physicsnemo.core.history import Argument
from physicsnemo.core.rebuild.defaults import implied_values, is_foreign


def migrate(
    model_class: type[ModelBase],
    arguments: dict[str, Any],
    metadata: Mapping[str, Any],
    release: str,
    key: str,
    source: str,
) -> dict[str, Any]:
    """Translate the arguments of a file's version, and fill in the defaults that the file implies.

    Parameters
    ----------
    model_class
        The class that will be built.
    arguments
        The arguments in the file.
    metadata
        The file's metadata.
    release
        The release of the reference implementation that the file is like.
    key
        Under which key the model stands in the file, empty for the outermost.
    source
        The file's name, for error texts.

    Raises
    ------
    CheckpointError
        If the class cannot read the version, or its migration fails.
    PluginError
        If a plugin fails to migrate.
    """
    version = metadata.get(metadata_key(key, "mdlus_file_version"))
    migrated = _migrate_by_plugins(model_class, version, arguments)
    if migrated is None:
        migrated = _migrate_by_class(model_class, version, arguments, source)
    migrated = _without_foreign(model_class, migrated, source)
    return {**implied_values(model_class, release), **migrated}


def _without_foreign(
    model_class: type[ModelBase], arguments: dict[str, Any], source: str
) -> dict[str, Any]:
    """Leave out arguments that only the reference implementation has, and that change nothing."""
    foreign = {
        it.name: it
        for it in model_class._argument_history
        if isinstance(it, Argument) and is_foreign(model_class, it)
    }
    for name in foreign.keys() & arguments.keys():
        known = (foreign[name].default, *foreign[name].ignored)
        if arguments[name] not in known:
            raise CheckpointError(
                f"{source} holds a {model_class.__name__} with {name}={arguments[name]!r}, which "
                f"is not known here; expected one of {', '.join(map(repr, known))}"
            )
    return {name: value for name, value in arguments.items() if name not in foreign}


def _migrate_by_plugins(
    model_class: type[ModelBase], version: Any, arguments: dict[str, Any]
) -> dict[str, Any] | None:
    answers = hooks.call(
        "migrate_arguments", model_class=model_class, version=version, arguments=dict(arguments)
    )
    for plugin, answer in answers:
        if not isinstance(answer, dict):
            raise PluginError(
                f"{plugin}: migrate_arguments must return a dictionary, got {answer!r}"
            )
        return answer
    return None


def _migrate_by_class(
    model_class: type[ModelBase], version: Any, arguments: dict[str, Any], source: str
) -> dict[str, Any]:
    current = model_class.__model_checkpoint_version__
    if version is None or version == current:
        return arguments
    supported = model_class.__supported_model_checkpoint_version__
    if not isinstance(version, str) or version not in supported:
        readable = ", ".join([current, *supported])
        raise CheckpointError(
            f"Model checkpoint version {version} of {source} is not compatible with current "
            f"version {current} of {model_class.__name__}, which reads {readable}"
        )
    warnings.warn(supported[version], stacklevel=6)
    try:
        return model_class._backward_compat_arg_mapper(version, dict(arguments))
    except Exception as error:  # whatever the class makes of arguments that it does not expect
        raise CheckpointError(
            f"the arguments of {model_class.__name__} in {source} cannot be migrated from version "
            f"{version} to {current}: {type(error).__name__}: {error}"
        ) from error
