# SPDX-License-Identifier: Apache-2.0
"""What commands take besides text: files, shapes and JSON, each read by a callback of click."""

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from glob import escape
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from physicsnemo.registry import ModelRegistry

if TYPE_CHECKING:
    from physicsnemo.core.rebuild.example import Inputs


def _known_file(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    """Return a path or URL as it is, if its protocol is installed."""
    # Late, since importing fsspec takes longer than listing models.
    from physicsnemo.core.format.files import locate

    try:
        locate(value)
    except (ValueError, ImportError) as error:
        raise click.BadParameter(str(error)) from error
    return value


def complete_models(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of installed models that begin as what is typed, for shells."""
    return ModelRegistry().list_models(f"{escape(incomplete)}*")


class RandomInput(NamedTuple):
    """An input of random numbers: normal ones, or whole ones from 0 to below a bound."""

    name: str | None
    shape: tuple[int, ...]
    below: int | None


def read_inputs(
    ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> list[RandomInput]:
    """Return what texts like ``8,3`` or ``labels=8:10`` describe: name, sizes and bound."""
    return described_inputs(values)


def described_inputs(texts: Iterable[str]) -> list[RandomInput]:
    """Return what texts describe, as :func:`read_inputs`.

    Raises
    ------
    click.BadParameter
        If one describes nothing, or only some give a name.
    """
    inputs = [_read_input(text) for text in texts]
    if len({it.name is None for it in inputs}) > 1:
        raise click.BadParameter("name all inputs, as in x=8,3, or none")
    return inputs


def draw_inputs(inputs: list[RandomInput]) -> "Inputs":
    """Return such inputs, the same numbers each time."""
    import torch

    generator = torch.Generator().manual_seed(0)
    values = [
        torch.randn(it.shape, generator=generator)
        if it.below is None
        else torch.randint(it.below, it.shape, generator=generator)
        for it in inputs
    ]
    names = [it.name for it in inputs if it.name is not None]
    return dict(zip(names, values, strict=True)) if names else tuple(values)


def _read_input(text: str) -> RandomInput:
    found = re.fullmatch(r"(?:(\w+)=)?(\d+(?:,\d+)*)(?::([1-9]\d*))?", text, re.ASCII)
    if found is None or (found[1] and not found[1].isidentifier()):
        raise click.BadParameter(f"expected sizes, as in 8,3 or x=8,3 or 8:10, got {text!r}")
    return RandomInput(
        found[1], tuple(map(int, found[2].split(","))), int(found[3]) if found[3] else None
    )


def read_object(
    ctx: click.Context, parameter: click.Parameter, value: str | None
) -> dict[str, Any] | None:
    """Return the dictionary in a text like ``{"size": 3}``."""
    if value is None:
        return None
    try:
        content = json.loads(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise click.BadParameter(f'expected an object, as in {{"size": 3}}, got {value!r}')
    return content


def import_trusted(names: Sequence[str]) -> list[ModuleType]:
    """Import the modules that ``--trust`` names, from the working directory too."""
    if names:
        sys.path.append(os.getcwd())  # where scripts that define models lie
    return [import_module(name) for name in names]


inputs_option = click.option(
    "--input",
    "inputs",
    metavar="[NAME=]SHAPE[:BELOW]",
    multiple=True,
    callback=read_inputs,
    help="An input of this shape, such as 8,3, with random numbers, or of 8,3:10 with whole ones "
    "from 0 to 9. Give one for each, and a NAME, as in x=8,3, to all or none.",
)
trust_option = click.option(
    "--trust",
    "modules",
    metavar="MODULE",
    multiple=True,
    help="Import this module, and look the class up there too; may be given again.",
)
file_argument = click.argument("file", callback=_known_file)
