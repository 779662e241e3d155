# SPDX-License-Identifier: Apache-2.0
"""Tables in pages of Markdown, between markers, that programs write anew.

A region begins with ``<!-- begin: NAME -->`` and ends with ``<!-- end: NAME -->``.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

REGION = re.compile(r"(<!-- begin: (\w+) -->\n).*?(<!-- end: \2 -->)", re.DOTALL)


def rewritten(text: str, sections: Mapping[str, Callable[[], str]]) -> str:
    """Return a page whose regions hold what the sections of their names return."""
    return REGION.sub(lambda it: it[1] + sections[it[2]]() + it[3], text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown, whose first column is text; nothing if there are no rows."""
    lines = [f"| {' | '.join(row)} |\n" for row in rows]
    marks = f"|---|{'---:|' * (len(head) - 1)}\n"
    return "".join(["\n", f"| {' | '.join(head)} |\n", marks, *lines]) if lines else ""
