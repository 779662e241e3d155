# SPDX-License-Identifier: Apache-2.0
"""Check with import-linter which module may import which.

Packages import only those of this repository that they declare, which follows from
``packages/*/pyproject.toml``, so a new package needs no new rule. Within core, each layer imports
only those below it. Imports within functions and for type checkers alone count too.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.link_tree import link
from tools.workspace import ROOT, Package, closure, packages

HEAD = """
[importlinter]
root_package = physicsnemo
include_external_packages = true

[importlinter:contract:layers]
name = The layers of physicsnemo-core import only those below them
type = layers
layers =
    physicsnemo.cli
    physicsnemo.testing
    physicsnemo.utils.checkpoint
    physicsnemo.core.training
    physicsnemo.utils.capture
    physicsnemo.core.capture
    physicsnemo.core.adaptation
    physicsnemo.models.module
    physicsnemo.core.rebuild
    physicsnemo.hooks | physicsnemo.registry
    physicsnemo.core.base
    physicsnemo.core.install
    physicsnemo.core.format
    physicsnemo.models.history
    physicsnemo.core.releases
    physicsnemo.core.history | physicsnemo.models.meta
    physicsnemo.core.lazy | physicsnemo.core.pytree
    physicsnemo.core.errors

[importlinter:contract:rooms]
name = No modules within a room of physicsnemo-core import each other in a circle
type = acyclic_siblings
ancestors =
    physicsnemo.core.adaptation
    physicsnemo.core.format
    physicsnemo.core.install
    physicsnemo.core.rebuild
    physicsnemo.core.capture
    physicsnemo.core.training

[importlinter:contract:install]
name = What is installed is read without PyTorch
type = forbidden
source_modules = physicsnemo.core.install
forbidden_modules = torch
"""
CORE = "physicsnemo-core"
PRIVATE = """
[importlinter:contract:private]
name = Nobody but physicsnemo-core imports physicsnemo.core
type = protected
as_packages = false
protected_modules =
    physicsnemo.core
    physicsnemo.core.**
allowed_importers = {own}
"""
CONTRACT = """
[importlinter:contract:{name}]
name = {name} imports nothing of packages that it does not declare
type = forbidden
as_packages = false
allow_indirect_imports = true
source_modules = {sources}
forbidden_modules = {forbidden}
"""


def main(root: Path = ROOT) -> int:
    """Check a repository, and return import-linter's exit status."""
    workspace = packages(root)
    with TemporaryDirectory() as folder:
        link([package.folder / "src" for package in workspace.values()], Path(folder) / "src")
        config = Path(folder) / "importlinter.ini"
        config.write_text(contracts(workspace), encoding="utf-8")
        lint = ("-c", "from importlinter.cli import lint_imports_command as lint; lint()")
        return subprocess.run(
            [sys.executable, *lint, "--config", config, "--no-cache", "--no-logo"],
            env=os.environ | {"PYTHONPATH": str(Path(folder) / "src")},
        ).returncode


def contracts(workspace: Mapping[str, Package]) -> str:
    """Return import-linter's configuration; one contract is of each package that holds code."""
    text = HEAD + PRIVATE.format(own=_lines(workspace[CORE].modules))
    for name, package in workspace.items():
        declared = {part.name for part in closure(name, workspace)}
        others = (other for other in workspace.values() if other.name not in declared)
        forbidden = [module for other in others for module in other.modules]
        if package.modules and forbidden:
            text += CONTRACT.format(
                name=name, sources=_lines(package.modules), forbidden=_lines(forbidden)
            )
    return text


def _lines(modules: Iterable[str]) -> str:
    return "".join(f"\n    {module}" for module in modules)


if __name__ == "__main__":
    sys.exit(main())
