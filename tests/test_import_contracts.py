# SPDX-License-Identifier: Apache-2.0
"""The import-linter contracts that the lint session checks."""

import shutil
from pathlib import Path

import pytest

from tools import import_contracts
from tools.workspace import ROOT


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of the packages, to plant imports in."""
    for source in ROOT.glob("packages/*/src"):
        shutil.copytree(source, tmp_path / source.relative_to(ROOT))
        pyproject = source.with_name("pyproject.toml")
        shutil.copy(pyproject, tmp_path / pyproject.relative_to(ROOT))
    return tmp_path


def test_packages_keep_to_what_they_declare(repository: Path):
    assert import_contracts.main(repository) == 0


@pytest.mark.parametrize(
    ("package", "file", "module"),
    [
        ("physicsnemo-core", "registry.py", "physicsnemo.models.mlp"),
        ("physicsnemo-core", "models/__init__.py", "physicsnemo.nn"),
        ("physicsnemo-nn", "nn/__init__.py", "physicsnemo.models.mlp"),
        ("physicsnemo-mlp", "models/mlp/__init__.py", "physicsnemo.models.fno"),
    ],
)
def test_an_undeclared_arrow_breaks_a_contract(
    package: str, file: str, module: str, repository: Path, capfd: pytest.CaptureFixture[str]
):
    path = repository / "packages" / package / "src" / "physicsnemo" / file
    path.write_text(f"{path.read_text()}\nimport {module}\n")
    assert import_contracts.main(repository) == 1
    assert (
        f"{package} imports nothing of packages that it does not declare BROKEN"
        in capfd.readouterr().out
    )
