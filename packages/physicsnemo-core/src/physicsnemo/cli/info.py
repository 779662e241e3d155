# SPDX-License-Identifier: Apache-2.0
"""``physicsnemo info``: what a file holds."""

from typing import TYPE_CHECKING, Any

import click

from physicsnemo.cli._facts import (
    TENSOR_COLUMNS,
    argument_rows,
    elements,
    file_facts,
    model_facts,
    tensor_rows,
)
from physicsnemo.cli._output import json_option, print_facts, print_json, print_table
from physicsnemo.cli._parameters import file_argument
from physicsnemo.core import rebuild

if TYPE_CHECKING:
    from physicsnemo.core.rebuild.inspection import CheckpointInfo, ModelInfo, TensorInfo


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
    facts = [*model_facts(info.model, evidence, info.metadata), *file_facts(info, tensors)]
    print_facts([("file", file), *facts])
    _print_arguments("Arguments", info.model)
    for path, model in info.nested.items():
        click.echo()
        print_facts([("argument", path), *model_facts(model, evidence, info.metadata)])
        _print_arguments(f"Arguments of {path}", model)
    print_table("Tensors", TENSOR_COLUMNS, tensor_rows(tensors))


def _content(file: str, info: "CheckpointInfo", tensors: "list[TensorInfo]") -> dict[str, Any]:
    return {
        "file": file,
        "model": _model_content(info.model),
        "nested": {path: _model_content(model) for path, model in info.nested.items()},
        "metadata": info.metadata,
        "problems": info.problems,
        "example": info.has_example,
        "elements": elements(tensors),
        "tensors": [vars(tensor) for tensor in tensors],
    }


def _model_content(model: "ModelInfo") -> dict[str, Any]:
    return {**vars(model), "origin": vars(model.origin)}


def _print_arguments(title: str, model: "ModelInfo") -> None:
    print_table(title, ("name", "value"), argument_rows(model))
