# SPDX-License-Identifier: Apache-2.0
"""Write which releases' files each model reads into README.md and docs/checkpoints.md.

``python -m tools.release_table`` writes the tables, ``--check`` fails if they are not current.
The stored files in ``packages/*/tests/reference`` say whose outputs the tests compare.
"""

import argparse
import inspect
import json
import sys
from collections import defaultdict
from pathlib import Path

from physicsnemo import inspect_checkpoint
from physicsnemo.core.history import order
from physicsnemo.nn.numerics import RELEASES
from physicsnemo.registry import ModelRegistry

PAGES = (Path("README.md"), Path("docs/checkpoints.md"))
BEGIN = "<!-- files by release: written by python -m tools.release_table -->"
END = "<!-- end of files by release -->"


def compared() -> dict[str, set[str]]:
    """Return the releases of the stored files of each model, whose outputs tests compare."""
    found: dict[str, set[str]] = defaultdict(set)
    for case in sorted(Path().glob("packages/*/tests/reference*/*/case.json")):
        name = json.loads(case.read_text(encoding="utf-8")).get("class", "")
        file = case.with_name("reference.mdlus")
        if file.exists():
            found[name].add(_release(file))
    return dict(found)


def table() -> str:
    """Return the table: a row a model, a column a release."""
    stored = compared()
    lines = [f"| model | {' | '.join(RELEASES)} |", f"|---|{'---|' * len(RELEASES)}"]
    for name in ModelRegistry().list_models():
        if name not in stored:
            continue
        marks = ("same numbers" if r in stored[name] else _by_spec(name) for r in RELEASES)
        lines.append(f"| `{name}` | {' | '.join(marks)} |")
    return "\n".join(lines)


def with_table(text: str) -> str:
    """Return a page with the table between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def _by_spec(name: str) -> str:
    parameters = inspect.signature(ModelRegistry().factory(name).__init__).parameters
    return "by keys" if "numerics" in parameters else "as in 1.2"


def _release(file: Path) -> str:
    version = inspect_checkpoint(file).physicsnemo_version
    return max((r for r in RELEASES if order(r) <= order(version)), key=order, default=RELEASES[0])


def main() -> int:
    """Write the tables, or check them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail if not current")
    check = parser.parse_args().check
    pages = [page for page in PAGES if BEGIN in page.read_text(encoding="utf-8")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        if with_table(text) != text:
            if check:
                print(f"{page} is not current: run python -m tools.release_table")
                return 1
            page.write_text(with_table(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
