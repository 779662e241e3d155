# SPDX-License-Identifier: Apache-2.0
"""What a file holds, as names and texts for people."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.filesize import decimal

from physicsnemo.cli._output import Fact, brief

if TYPE_CHECKING:
    from physicsnemo.core.rebuild.inspection import CheckpointInfo, ModelInfo, TensorInfo
    from physicsnemo.core.releases import ReleaseEvidence

TENSOR_COLUMNS = ("name", "shape", "type", "size", "")


def model_facts(
    model: "ModelInfo", evidence: "ReleaseEvidence", metadata: Mapping[str, Any]
) -> Iterator[Fact]:
    """Yield class, origin, version and numerics of a model in a file with such metadata."""
    yield "class", f"{model.module}.{model.name}"
    yield "comes from", _release(model.origin.distribution, model.origin.version)
    yield "file version", _text(model.file_version)
    yield "numerics", _numerics(model, evidence, metadata)


def _numerics(model: "ModelInfo", evidence: "ReleaseEvidence", metadata: Mapping[str, Any]) -> str:
    """Return whose numerics a model has, where its class leaves a choice, and why."""
    if "numerics" in model.arguments:
        return f"{_text(model.arguments['numerics'])}, which the file states"
    from physicsnemo.core.rebuild.contents import WRITER  # needs PyTorch, which help does not

    if str(metadata.get("written_by")).startswith(WRITER):
        # Saving leaves the argument out where the release that the file claims implies it.
        release = f"nvidia-physicsnemo {evidence.release}"
        return f"the only ones of its class; if it has several, those of {release}"
    told = f"those of nvidia-physicsnemo {evidence.release}, {evidence.reason}"
    return (
        told if evidence.is_claimed else f"{told}; its class may know of a later one when it loads"
    )


def file_facts(info: "CheckpointInfo", tensors: "list[TensorInfo]") -> Iterator[Fact]:
    """Yield what wrote a file, how large its weights are, and what stands against loading it."""
    yield "library version", _text(info.physicsnemo_version)
    for fact, key in (("written by", "written_by"), ("git commit", "git_hash")):
        if info.metadata.get(key) is not None:
            yield fact, _text(info.metadata[key])
    size = decimal(sum(tensor.bytes for tensor in tensors if tensor.same_as is None))
    yield "parameters", f"{elements(tensors):,} with buffers, {size} in {len(tensors)} tensors"
    if info.has_example:
        yield "example", "inputs and outputs, which physicsnemo verify compares"
    for problem in info.problems:
        yield "problem", problem


def argument_rows(model: "ModelInfo") -> list[tuple[str, str]]:
    """Return names and values of a model's constructor arguments."""
    return [(name, brief(value)) for name, value in model.arguments.items()]


def tensor_rows(tensors: "list[TensorInfo]") -> list[list[str]]:
    """Return a row for each tensor, with the columns of ``TENSOR_COLUMNS``."""
    return [[it.name, str(it.shape), it.dtype, decimal(it.bytes), _tie(it)] for it in tensors]


def elements(tensors: "list[TensorInfo]") -> int:
    """Return how many numbers tensors hold, each that has several names once."""
    return sum(tensor.elements for tensor in tensors if tensor.same_as is None)


def _tie(tensor: "TensorInfo") -> str:
    return f"same as {tensor.same_as}" if tensor.same_as else ""


def _release(distribution: str | None, version: str | None) -> str:
    return f"{distribution} {version or ''}" if distribution else "not recorded"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "not recorded" if value is None else brief(value)
