# SPDX-License-Identifier: Apache-2.0
"""Make notebooks of the examples as the site does, and run them at small settings.

``python -m tools.notebooks`` runs all, ``python -m tools.notebooks quickstart`` one.
"""

import argparse
import json
import runpy
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from sphinx_gallery.gen_gallery import DEFAULT_GALLERY_CONF
from sphinx_gallery.notebook import jupyter_notebook
from sphinx_gallery.py_source_parser import split_code_and_text_blocks

from tools.workspace import ROOT

EXAMPLES = {path.stem: path for path in sorted((ROOT / "docs/examples").glob("*.py"))}
_TIMEOUT = 900  # seconds for a cell
_NO_OPTIONS = "sys.argv[1:] = []"


def main(arguments: list[str] | None = None) -> None:
    """Run the notebooks that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*EXAMPLES, []], help="by default all")
    parser.add_argument("--epochs", type=int, default=3, help="passes through training sets")
    options = parser.parse_args(arguments)
    for name in options.names or EXAMPLES:
        start = time.monotonic()
        run(notebook(EXAMPLES[name]), ["--epochs", str(options.epochs)])
        print(f"{name}: all cells ran, in {time.monotonic() - start:.0f} s", flush=True)


def notebook(path: Path) -> nbformat.NotebookNode:
    """Return the notebook that the site offers of an example."""
    configured = runpy.run_path(str(ROOT / "docs/conf.py"))["sphinx_gallery_conf"]
    _, blocks = split_code_and_text_blocks(str(path))
    made = jupyter_notebook(blocks, DEFAULT_GALLERY_CONF | configured, path.parent)
    return nbformat.reads(json.dumps(made), as_version=4)


def run(made: nbformat.NotebookNode, options: list[str]) -> None:
    """Run a notebook as Jupyter does, in a folder that is empty, with options in its first cell.

    Raises
    ------
    CellExecutionError
        If a cell fails.
    ValueError
        If the first cell does not set the options.
    """
    first = made.cells[0]
    if _NO_OPTIONS not in first.source:
        raise ValueError(f"expected a first cell with {_NO_OPTIONS!r}, got {first.source!r}")
    first.source = first.source.replace(_NO_OPTIONS, f"sys.argv[1:] = {options}")
    with TemporaryDirectory() as folder:
        client = NotebookClient(
            made, timeout=_TIMEOUT, kernel_name="python3", resources={"metadata": {"path": folder}}
        )
        client.execute()


if __name__ == "__main__":
    main()
