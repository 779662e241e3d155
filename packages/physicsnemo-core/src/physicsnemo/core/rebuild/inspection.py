# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint says of itself, without its weights and without importing anything it names."""

import math
from dataclasses import dataclass
from typing import Any

import torch

from physicsnemo.core.format.container import Checkpoint, open_records
from physicsnemo.core.format.files import Url
from physicsnemo.core.format.records import NESTED, Record, metadata_key, nested_records
from physicsnemo.core.format.storable import strided_parts
from physicsnemo.core.install.provenance import Origin
from physicsnemo.core.releases import ReleaseEvidence, release_of

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
    has_example
        Whether the file holds inputs of the model, and its outputs for them.
    """

    model: ModelInfo
    nested: dict[str, ModelInfo]
    metadata: dict[str, Any]
    has_example: bool = False

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
    Of a remote file only the ends are read, where the server allows that.

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
    with open_records(file_name) as checkpoint:
        return inspect_open(checkpoint)


def inspect_in_full(file_name: Url) -> "tuple[CheckpointInfo, list[TensorInfo], ReleaseEvidence]":
    """Return what :func:`inspect_checkpoint` does, the tensors, and which release the file is like.

    Takes and raises what :func:`inspect_checkpoint` does.
    """
    with open_records(file_name) as checkpoint:
        info, tensors = inspect_open(checkpoint), inspect_tensors(checkpoint)
        keys = [tensor.name for tensor in tensors]
        is_nested = bool(info.nested)
        return info, tensors, release_of(info.metadata, keys, checkpoint.is_zip, is_nested)


def inspect_open(checkpoint: Checkpoint) -> CheckpointInfo:
    """Return what an open checkpoint says of itself."""
    arguments, metadata = checkpoint.arguments, checkpoint.metadata
    nested = {
        key.removeprefix(NESTED + "."): _model_info(record, metadata, key)
        for key, record in nested_records(arguments)
    }
    model = _model_info(arguments, metadata, "")
    return CheckpointInfo(model, nested, metadata, checkpoint.has_example)


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a checkpoint.

    Attributes
    ----------
    name
        Its key in the state dict.
    shape
        Its shape.
    dtype
        The type of its numbers, as in ``"float32"``.
    bytes
        The size of its numbers.
    same_as
        The name of an earlier tensor with the very same memory, as tied weights have it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    same_as: str | None = None

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def inspect_tensors(checkpoint: Checkpoint) -> list[TensorInfo]:
    """Describe the tensors of an open checkpoint, whose numbers are not read.

    Extra state of modules is left out.

    Raises
    ------
    CheckpointError
        If ``model.pt`` is damaged.
    """
    seen: dict[Any, str] = {}
    outline = checkpoint.outline().items()
    return [_tensor_info(name, it, seen) for name, it in outline if isinstance(it, torch.Tensor)]


def _tensor_info(name: str, tensor: torch.Tensor, seen: dict[Any, str]) -> TensorInfo:
    first = seen.setdefault(_place(tensor), name) if tensor.numel() else name
    return TensorInfo(
        name,
        tuple(tensor.shape),
        str(tensor.dtype).removeprefix("torch."),
        sum(part.nbytes for part in strided_parts(tensor)),
        first if first != name else None,
    )


def _place(tensor: torch.Tensor) -> Any:
    """Return what two tensors have in common if they are the same numbers in memory."""
    return tuple(
        (part.untyped_storage(), part.dtype, part.storage_offset(), part.shape, part.stride())
        for part in strided_parts(tensor)
    )


def _model_info(record: Record, metadata: dict[str, Any], key: str) -> ModelInfo:
    return ModelInfo(
        record["__name__"],
        record["__module__"],
        record["__args__"],
        metadata.get(metadata_key(key, "mdlus_file_version")),
        Origin.read(metadata, key),
    )
