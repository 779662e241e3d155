# SPDX-License-Identifier: Apache-2.0
"""``physicsnemo migrate``: the import paths of this project in place of another release's."""

import os
import sys
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING

import click

from physicsnemo.cli._output import complain, printable
from physicsnemo.core.format.atomic import atomic_write
from physicsnemo.core.install.destinations import owner

if TYPE_CHECKING:
    from physicsnemo.cli.migration import Remark

_SOURCES, _TEXTS = (".py", ".pyi"), (".yaml", ".yml")


@click.command("migrate")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--write", is_flag=True, help="Change the files; else only show what would change.")
def migrate_sources(path: Path, write: bool) -> None:
    """Rewrite imports of nvidia-physicsnemo 1.x and 2.x in PATH to the paths here.

    PATH is a Python file or a folder of them; hidden folders and virtual environments in it are
    left out. Prints what changes as a diff. What has no equivalent is left as it is, and listed
    with the reason and what to use instead, as is what texts and YAML files mention. Exits with
    status 1 if anything is listed.
    """
    try:
        from physicsnemo.cli import migration
    except ModuleNotFoundError as error:
        raise ImportError(
            f"this needs {error.name}; run pip install 'physicsnemo-core[migrate]'"
        ) from error
    changed = total = left = 0
    modules: set[str] = set()
    for file in _files(path):
        old = file.read_bytes()
        if file.suffix in _TEXTS:
            _list(file, remarks := [*migration.mentions(old.decode(errors="replace"))])
            left += len(remarks)
            continue
        total += 1
        try:
            new, own, remarks = migration.migrated(old)
        except SyntaxError as error:
            complain(f"{file} is left as it is: {error}")
            left += 1
            continue
        modules |= own
        left += len(remarks)
        _list(file, remarks)
        if new != old:
            changed += 1
            _show(file, old, new)
            if write:
                with atomic_write(file) as stream:
                    stream.write(new)
    _conclude(changed, total, left, write, modules)
    sys.exit(1 if left else 0)


def _files(path: Path) -> Iterator[Path]:
    """Yield the files to read, in the order of their names."""
    if path.is_file():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(
            it for it in folders if it[0] != "." and not Path(folder, it, "pyvenv.cfg").exists()
        )
        yield from (Path(folder, it) for it in sorted(names) if it.endswith(_SOURCES + _TEXTS))


def _show(file: Path, old: bytes, new: bytes) -> None:
    name = printable(str(file))
    before, after = (it.decode(errors="replace").splitlines(keepends=True) for it in (old, new))
    for line in unified_diff(before, after, name, name):
        click.echo(line, nl=False)
        if not line.endswith("\n"):
            click.echo("\n\\ No newline at end of file")


def _list(file: Path, remarks: "list[Remark]") -> None:
    for line, path, text in remarks:
        click.echo(f"{file}:{line}: {printable(path)}: {text}", err=True)


def _conclude(changed: int, total: int, left: int, write: bool, modules: set[str]) -> None:
    did = "changed" if write else "would change"
    click.echo(f"{changed} of {total} files {did}; places left to you: {left}", err=True)
    if modules:
        packages = sorted({owner(it) for it in modules})
        click.echo(f"what they import is in {', '.join(packages)}", err=True)
