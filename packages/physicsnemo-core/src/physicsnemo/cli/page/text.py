# SPDX-License-Identifier: Apache-2.0
"""What a file holds, as HTML in which a file's own texts are only text."""

from collections.abc import Iterable
from html import escape
from typing import Any

from physicsnemo.cli._facts import (
    TENSOR_COLUMNS,
    argument_rows,
    file_facts,
    model_facts,
    tensor_rows,
)
from physicsnemo.cli._output import printable
from physicsnemo.core import rebuild

_MOST_ROWS = 2_000


def facts_html(file: str) -> str:
    """Return what ``physicsnemo info`` tells of a file; nothing that it names is imported.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CheckpointError
        If it is damaged.
    """
    info, tensors, evidence = rebuild.inspect_in_full(file)
    facts = [*model_facts(info.model, evidence, info.metadata), *file_facts(info, tensors)]
    parts = [_facts(facts), _folded("Arguments", ("name", "value"), argument_rows(info.model))]
    for path, model in info.nested.items():
        title = f"Model in the argument {path}"
        rows = [*model_facts(model, evidence, info.metadata), *argument_rows(model)]
        parts.append(_folded(title, ("name", "value"), rows))
    parts.append(_folded("Tensors", TENSOR_COLUMNS, tensor_rows(tensors)))
    return "".join(parts)


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    rows = (
        f'<tr class="{"problem" if name == "problem" else "fact"}"><th>{as_html(name)}</th>'
        f"<td>{as_html(value)}</td></tr>"
        for name, value in facts
    )
    return f'<table class="facts">{"".join(rows)}</table>'


def _folded(title: str, columns: Iterable[str], rows: list[Any]) -> str:
    head = "".join(f"<th>{as_html(column)}</th>" for column in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{as_html(cell)}</td>' for cell in row)}</tr>"
        for row in rows[:_MOST_ROWS]
    )
    left_out = len(rows) - _MOST_ROWS
    more = f"<p>{left_out} more are left out; physicsnemo info lists all.</p>"
    return (
        f"<details><summary>{as_html(title)} ({len(rows)})</summary>"
        f'<div class="scroll"><table class="rows"><tr>{head}</tr>{body}</table></div>'
        f"{more if left_out > 0 else ''}</details>"
    )


def as_html(text: str) -> str:
    """Return a text of any origin, such that a page shows it as it is."""
    return escape(printable(text))
