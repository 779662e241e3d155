# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint says of itself, without its weights and without importing anything it names."""

from dataclasses import dataclass
from typing import Any

from physicsnemo.core.arguments import NESTED, Record, nested_records
from physicsnemo.core.container import Url, open_checkpoint
from physicsnemo.core.origins import Origin, metadata_key

__all__ = ["CheckpointInfo", "ModelInfo", "inspect_checkpoint"]


@dataclass(frozen=True)
class ModelInfo:
    """One model of a checkpoint.

    Attributes
    ----------
    name, module
        The class and where it was defined.
    arguments
        Constructor arguments as JSON has them; a nested model stands as
        ``__physicsnemo.Module__.<path>``.
    file_version
        The version of the class's files, None if the file does not tell.
    origin
        The distribution that the class came from.
    """

    name: str
    module: str
    arguments: dict[str, Any]
    file_version: str | None
    origin: Origin


@dataclass(frozen=True)
class CheckpointInfo:
    """What :func:`inspect_checkpoint` found.

    Attributes
    ----------
    model
        The outermost model.
    nested
        The models among its arguments, by path, as in ``"inner.decoder"``.
    metadata
        All of ``metadata.json``.
    """

    model: ModelInfo
    nested: dict[str, ModelInfo]
    metadata: dict[str, Any]

    @property
    def physicsnemo_version(self) -> str | None:
        """The release that the file claims to be written by."""
        return self.metadata.get("physicsnemo_version")

    @property
    def problems(self) -> list[str]:
        """The distributions that are missing or of another version, one text for each."""
        origins = (part.origin for part in (self.model, *self.nested.values()))
        return sorted({problem for origin in origins if (problem := origin.problem())})


def inspect_checkpoint(file_name: Url) -> CheckpointInfo:
    """Read the arguments and metadata of a ``.mdlus`` file.

    Nothing that the file names is imported, so a file whose plugins are missing can be inspected.

    Parameters
    ----------
    file_name
        A path or any URL that fsspec knows.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CheckpointError
        If it is damaged.

    Examples
    --------
    >>> from physicsnemo import Module, inspect_checkpoint
    >>> class Tiny(Module):
    ...     def __init__(self, size):
    ...         super().__init__()
    >>> Tiny(3).save("memory://tiny.mdlus")
    >>> found = inspect_checkpoint("memory://tiny.mdlus")
    >>> found.model.name, found.model.arguments
    ('Tiny', {'size': 3})
    """
    with open_checkpoint(file_name) as checkpoint:
        arguments, metadata = checkpoint.arguments, checkpoint.metadata
    nested = {
        key.removeprefix(NESTED + "."): _model_info(record, metadata, key)
        for key, record in nested_records(arguments)
    }
    return CheckpointInfo(_model_info(arguments, metadata, ""), nested, metadata)


def _model_info(record: Record, metadata: dict[str, Any], key: str) -> ModelInfo:
    return ModelInfo(
        record["__name__"],
        record["__module__"],
        record["__args__"],
        metadata.get(metadata_key(key, "mdlus_file_version")),
        Origin.read(metadata, key),
    )
