# SPDX-License-Identifier: Apache-2.0
"""How commands print: tables for people, JSON for programs, nothing that controls a terminal."""

import json
import math
import reprlib
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

Fact = tuple[str, str]
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")

_WIDTH = 17  # of the columns of what is printed as it comes
_WITHOUT_TERMINAL = 10_000  # columns: whoever reads a pipe wants whole lines
_STYLES = {
    "passed": "green",
    "failed": "bold red",
    "excepted": "yellow",
    "unproven": "yellow",
}
_brief = reprlib.Repr()
_brief.maxlevel, _brief.maxstring, _brief.maxother = 4, 120, 120
_brief.maxlist = _brief.maxdict = 12


def printable(text: str) -> str:
    """Return a text from a file as one line that no terminal takes for a command."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def brief(value: Any) -> str:
    """Return a JSON value as Python writes it, shortened where it is long."""
    return _brief.repr(value)


def complain(text: str) -> None:
    """Print a warning to standard error."""
    click.echo(f"Warning: {printable(text)}", err=True)


def print_json(content: Any) -> None:
    """Print what JSON can hold, and numbers that it cannot, such as NaN, as their names."""
    try:
        click.echo(json.dumps(_named(content), indent=2, allow_nan=False))
    except RecursionError:
        raise click.ClickException("what the file holds is nested too deeply to print") from None


def _named(content: Any) -> Any:
    """Return the content with texts in place of what is no number in JSON, as in ``"Infinity"``."""
    if isinstance(content, dict):
        return {key: _named(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_named(value) for value in content]
    infinite = isinstance(content, float) and not math.isfinite(content)
    return json.dumps(content) if infinite else content


def print_facts(facts: Iterable[Fact]) -> None:
    """Print names and values in two columns."""
    from rich.table import Table

    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    _print(table, facts)


def print_table(
    title: str, columns: Iterable[str], rows: Iterable[Iterable[str]], whole: int = 0
) -> None:
    """Print rows of text below the names of their columns, and a title above if there is one.

    The first columns, as many as ``whole``, are not broken where the terminal is narrow.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    if title:
        click.secho(f"\n{printable(title)}", bold=True)
    table = Table(*columns, box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, column in enumerate(table.columns):
        column.overflow, column.no_wrap = "fold", number < whole
    _print(table, rows)


def print_as_they_come(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows of text as a table, each when it is there; the last cell may be long."""
    click.secho(f"\n{printable(title)}", bold=True)
    click.echo(_line(columns))
    click.echo("─" * 4 * _WIDTH)
    for row in rows:
        click.echo(_line([printable(cell) for cell in row]))


def _line(cells: Sequence[str]) -> str:
    *cells, last = cells
    return "".join([*map(_padded, cells), last]).rstrip()


def _padded(cell: str) -> str:
    style, text = _STYLES.get(cell, "").split(), f"{cell:{_WIDTH}}  "
    return click.style(text, fg=style[-1], bold="bold" in style) if style else text


def _print(table: "Table", rows: Iterable[Iterable[str]]) -> None:
    from rich.console import Console
    from rich.text import Text

    for row in rows:
        # Text is taken as it is, where a string would be searched for markup.
        table.add_row(*(Text(printable(cell), style=_STYLES.get(cell, "")) for cell in row))
    Console(width=None if sys.stdout.isatty() else _WITHOUT_TERMINAL).print(table)
