# SPDX-License-Identifier: Apache-2.0
"""A link tree: one folder of links in which all packages lie together, as pip would install them.

Pyright does not follow the namespace of editable installs, and import-linter wants one folder:
``python -m tools.link_tree .editor`` makes it, and links show every later edit.
"""

import shutil
import sys
from collections import Counter
from pathlib import Path

from tools.workspace import packages


def link(sources: list[Path], tree: Path) -> None:
    """Link what several folders hold into one new folder.

    Parameters
    ----------
    sources
        The ``src`` folder of each package.
    tree
        The folder to make, in place of one of that name.
    """
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    entries = [entry for source in sources if source.is_dir() for entry in source.iterdir()]
    shared = {name for name, count in Counter(entry.name for entry in entries).items() if count > 1}
    for name in shared:
        link([entry for entry in entries if entry.name == name], tree / name)
    for entry in entries:
        if entry.name not in {*shared, "__pycache__"}:
            (tree / entry.name).symlink_to(entry.resolve())


if __name__ == "__main__":
    link([package.folder / "src" for package in packages().values()], Path(sys.argv[1]))
