# SPDX-License-Identifier: Apache-2.0
"""What commands take besides text: files, shapes and JSON, each read by a callback of click."""

import json
from typing import Any

import click


def _known_file(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    """Return a path or URL as it is, if its protocol is installed."""
    from physicsnemo.core.files import locate

    try:
        locate(value)
    except (ValueError, ImportError) as error:
        raise click.BadParameter(str(error)) from error
    return value


def read_shapes(
    ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> list[tuple[int, ...]]:
    """Return the sizes in texts like ``8,3``."""
    shapes = []
    for value in values:
        sizes = value.split(",")
        if not all(size.isdecimal() for size in sizes):
            raise click.BadParameter(f"expected sizes, as in 8,3, got {value!r}")
        shapes.append(tuple(map(int, sizes)))
    return shapes


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


file_argument = click.argument("file", callback=_known_file)
