# SPDX-License-Identifier: Apache-2.0
"""Drawings of architectures as SVG: boxes from left to right, arrows, skips and repeated parts.

Colours are classes, which the site's style sheet gives a light and a dark form.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap

WIDTH, HEIGHT, GAP, STEP = 128, 74, 20, 98
MARGIN = 12
LINE = 16
TITLE, NOTE = 13, 17  # characters in a line
ABOVE = 46  # room for arcs, frames' labels and what comes in from above


@dataclass(frozen=True)
class Box:
    """A part of an architecture.

    Attributes
    ----------
    title, note
        What it is, and what happens in it, a short line each.
    kind
        ``data``, ``layer`` or ``core``, the layer that makes the architecture.
    level
        How far down it stands: coarser grids stand lower.
    """

    title: str
    note: str = ""
    kind: str = "layer"
    level: int = 0


@dataclass(frozen=True)
class Figure:
    """An architecture.

    Attributes
    ----------
    title
        What a reader who does not see it is told.
    boxes
        Its parts, from left to right, each with an arrow to the next.
    repeats
        Parts that are repeated: the first box, the last, and how often.
    skips
        What goes past others: from a box to a box, with a label.
    inputs
        What else comes in: to which box, and what it is; from below where something goes past
        above, else from above.
    """

    title: str
    boxes: Sequence[Box]
    repeats: Sequence[tuple[int, int, str]] = ()
    skips: Sequence[tuple[int, int, str]] = ()
    inputs: Sequence[tuple[int, str]] = ()


def draw(figure: Figure) -> str:
    """Return a figure as an element of SVG, in one line."""
    width = MARGIN * 2 + len(figure.boxes) * (WIDTH + GAP) - GAP
    deepest = max(box.level for box in figure.boxes)
    height = ABOVE + deepest * STEP + HEIGHT + (40 if figure.repeats or figure.inputs else MARGIN)
    parts = [
        *(_frame(figure, *repeat) for repeat in figure.repeats),
        *(_arrow(figure, index) for index in range(len(figure.boxes) - 1)),
        *(_skip(figure, *skip) for skip in figure.skips),
        *(_input(figure, *given) for given in figure.inputs),
        *(_box(figure, index) for index in range(len(figure.boxes))),
    ]
    return (
        f'<svg class="architecture" viewBox="0 0 {width} {height}" width="{width}" role="img" '
        f'xmlns="http://www.w3.org/2000/svg" aria-label="{escape(figure.title)}">'
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path class="head" d="M0,0 L8,4 L0,8 z"/></marker></defs>'
        f"{''.join(parts)}</svg>"
    )


def _corner(figure: Figure, index: int) -> tuple[int, int]:
    x = MARGIN + index * (WIDTH + GAP)
    return x, ABOVE + figure.boxes[index].level * STEP


def _box(figure: Figure, index: int) -> str:
    box, (x, y) = figure.boxes[index], _corner(figure, index)
    radius = HEIGHT // 2 if box.kind == "data" else 6
    shape = f'<rect class="{box.kind}" x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}"'
    lines = [*(("title", it) for it in wrap(box.title, TITLE)), *(("note", it) for it in note(box))]
    first = y + (HEIGHT - LINE * len(lines)) // 2 + 13
    middle = x + WIDTH // 2
    texts = (_text(middle, first + LINE * row, it, kind) for row, (kind, it) in enumerate(lines))
    return f'{shape} rx="{radius}"/>{"".join(texts)}'


def note(box: Box) -> list[str]:
    """Return the lines of a box's note."""
    return wrap(box.note, NOTE, break_long_words=False)


def _text(x: int, y: int, text: str, kind: str, anchor: str = "middle") -> str:
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def _path(path: str) -> str:
    return f'<path class="flow" d="{path}" marker-end="url(#head)"/>'


def _arrow(figure: Figure, index: int) -> str:
    (x, y), (right, below) = _corner(figure, index), _corner(figure, index + 1)
    middle, start = y + HEIGHT // 2, x + WIDTH
    if y == below:
        return _path(f"M{start},{middle} H{right}")
    bend = start + GAP // 2
    return _path(f"M{start},{middle} H{bend} V{below + HEIGHT // 2} H{right}")


def _skip(figure: Figure, first: int, last: int, label: str) -> str:
    """Draw an arc above what it passes, or a straight line where that is all lower."""
    (x, y), (right, _) = _corner(figure, first), _corner(figure, last)
    if all(box.level > figure.boxes[first].level for box in figure.boxes[first + 1 : last]):
        line = _path(f"M{x + WIDTH},{y + HEIGHT // 2} H{right}")
        return line + _text((x + WIDTH + right) // 2, y + HEIGHT // 2 - 6, label, "note")
    start, end, top = x + WIDTH // 2, right + WIDTH // 2, y - 22
    line = _path(f"M{start},{y} V{top} H{end} V{y}")
    return line + _text((start + end) // 2, top - 6, label, "note")


def _input(figure: Figure, index: int, label: str) -> str:
    x, y = _corner(figure, index)
    middle, end = x + WIDTH // 2, y + HEIGHT
    if figure.skips:
        return _path(f"M{middle},{end + 20} V{end}") + _text(middle, end + 34, label, "note")
    return _text(middle, y - 26, label, "note") + _path(f"M{middle},{y - 20} V{y}")


def _frame(figure: Figure, first: int, last: int, label: str) -> str:
    corners = [_corner(figure, index) for index in range(first, last + 1)]
    x, y = corners[0][0] - 9, min(y for _, y in corners) - 9
    width = corners[-1][0] + WIDTH + 9 - x
    height = max(y for _, y in corners) + HEIGHT + 9 - y
    frame = f'<rect class="repeat" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>'
    return frame + _text(x + width - 2, y + height + 14, label, "note", "end")
