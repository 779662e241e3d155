# SPDX-License-Identifier: Apache-2.0
"""Write where each name of nvidia-physicsnemo is here into docs/coming_from.md.

``python -m tools.path_table`` writes the tables, ``--check`` fails if they are not current.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from physicsnemo.core.install.aliases import absolute, renames
from physicsnemo.core.install.destinations import owner
from physicsnemo.core.install.paths import MODULES, TABLE, Row

PAGE = Path("docs/coming_from.md")
BEGIN = "<!-- paths: written by python -m tools.path_table -->"
END = "<!-- end of paths -->"
HEAD = "| name | in 1.2 | in 2.2 | here | |\n|---|---|---|---|---|"


def tables() -> str:
    """Return a table for each topic, a row for names of the same paths."""
    parts: list[str] = []
    for topic, rows in TABLE.items():
        parts += [f"### {topic}", "\n".join([HEAD, *map(line, rows)])]
    return "\n\n".join([*parts, "### Modules", "\n".join(modules())])


def line(row: Row) -> str:
    """Return the line of a row."""
    names = (
        f"`{former}`" if former == present or not row.here else f"`{former}` → `{present}`"
        for former, present in renames(row)
    )
    cells = (", ".join(names), _module(row.of_1), _module(row.of_2), _place(row), status(row))
    return f"| {' | '.join(cells)} |"


def status(row: Row) -> str:
    """Return how a row's names are here: same, moved, replaced or absent, and why."""
    if not row.here:
        text = "replaced" if row.instead else "absent"
        return f"{text}: {row.reason}"
    stays = {*row.here.split()} & {*row.of_1.split(), *row.of_2.split()}
    return ("same" if stays else "moved") + (f": {row.reason}" if row.reason else "")


def modules() -> Iterator[str]:
    """Yield the lines of the table of whole modules."""
    yield "| module | here |\n|---|---|"
    for former, present in MODULES.items():
        yield f"| `{absolute(former)}` | `{absolute(present)}` |"


def with_tables(text: str) -> str:
    """Return a page with the tables between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def _module(modules: str) -> str:
    return f"`{absolute(modules.split()[0])}`" if modules else "-"


def _place(row: Row) -> str:
    if row.here:
        module = absolute(row.here.split()[0])
        return f"`{module}` ({owner(module)})"
    return f"`{row.instead.replace(':', '.')}`" if row.instead else "-"


def main() -> int:
    """Write the tables, or check them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail if not current")
    check = parser.parse_args().check
    text = PAGE.read_text(encoding="utf-8")
    if with_tables(text) != text:
        if check:
            print(f"{PAGE} is not current: run python -m tools.path_table")
            return 1
        PAGE.write_text(with_tables(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
