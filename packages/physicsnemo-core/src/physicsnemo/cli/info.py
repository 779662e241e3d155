# SPDX-License-Identifier: Apache-2.0
"""``physicsnemo info``: what a file holds."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
from rich.filesize import decimal

from physicsnemo.cli._output import brief, json_option, print_facts, print_json, print_table
from physicsnemo.cli._parameters import file_argument
from physicsnemo.core import rebuild

if TYPE_CHECKING:
    from physicsnemo.core.rebuild.inspection import CheckpointInfo, ModelInfo, TensorInfo
    from physicsnemo.core.releases import ReleaseEvidence

Fact = tuple[str, str]


@click.command("info")
@file_argument
@json_option
def show_info(file: str, as_json: bool) -> None:
    """Tell what a .mdlus FILE holds.

    FILE is a path, or a URL that fsspec knows. Nothing that it names is imported or executed, so it
    may be anybody's, and its packages need not be installed. The numbers in its tensors are not
    read.
    """
    info, tensors, evidence = rebuild.inspect_in_full(file)
    if as_json:
        print_json(_content(file, info, tensors))
        return
    facts = [*_model_facts(info.model, evidence), *_file_facts(info, tensors)]
    print_facts([("file", file), *facts])
    _print_arguments("Arguments", info.model)
    for path, model in info.nested.items():
        click.echo()
        print_facts([("argument", path), *_model_facts(model, evidence)])
        _print_arguments(f"Arguments of {path}", model)
    rows = [[it.name, str(it.shape), it.dtype, decimal(it.bytes), _tie(it)] for it in tensors]
    print_table("Tensors", ("name", "shape", "type", "size", ""), rows)


def _content(file: str, info: "CheckpointInfo", tensors: "list[TensorInfo]") -> dict[str, Any]:
    return {
        "file": file,
        "model": _model_content(info.model),
        "nested": {path: _model_content(model) for path, model in info.nested.items()},
        "metadata": info.metadata,
        "problems": info.problems,
        "example": info.has_example,
        "elements": _elements(tensors),
        "tensors": [vars(tensor) for tensor in tensors],
    }


def _model_content(model: "ModelInfo") -> dict[str, Any]:
    return {**vars(model), "origin": vars(model.origin)}


def _model_facts(model: "ModelInfo", evidence: "ReleaseEvidence") -> Iterator[Fact]:
    yield "class", f"{model.module}.{model.name}"
    yield "comes from", _release(model.origin.distribution, model.origin.version)
    yield "file version", _text(model.file_version)
    yield "numerics", _numerics(model, evidence)


def _numerics(model: "ModelInfo", evidence: "ReleaseEvidence") -> str:
    """Return whose numerics a model has, where its class leaves a choice, and why."""
    if "numerics" in model.arguments:
        return f"{_text(model.arguments['numerics'])}, which the file states"
    told = f"those of nvidia-physicsnemo {evidence.release}, {evidence.reason}"
    return (
        told if evidence.is_claimed else f"{told}; its class may know of a later one when it loads"
    )


def _file_facts(info: "CheckpointInfo", tensors: "list[TensorInfo]") -> Iterator[Fact]:
    yield "library version", _text(info.physicsnemo_version)
    for fact, key in (("written by", "written_by"), ("git commit", "git_hash")):
        if info.metadata.get(key) is not None:
            yield fact, _text(info.metadata[key])
    size = decimal(sum(tensor.bytes for tensor in tensors if tensor.same_as is None))
    yield "parameters", f"{_elements(tensors):,} with buffers, {size} in {len(tensors)} tensors"
    if info.has_example:
        yield "example", "inputs and outputs, which physicsnemo verify compares"
    for problem in info.problems:
        yield "problem", problem


def _print_arguments(title: str, model: "ModelInfo") -> None:
    rows = [(name, brief(value)) for name, value in model.arguments.items()]
    print_table(title, ("name", "value"), rows)


def _elements(tensors: "list[TensorInfo]") -> int:
    return sum(tensor.elements for tensor in tensors if tensor.same_as is None)


def _tie(tensor: "TensorInfo") -> str:
    return f"same as {tensor.same_as}" if tensor.same_as else ""


def _release(distribution: str | None, version: str | None) -> str:
    return f"{distribution} {version or ''}" if distribution else "not recorded"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "not recorded" if value is None else brief(value)
