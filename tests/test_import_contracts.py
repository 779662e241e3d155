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


def plant(repository: Path, package: str, file: str, code: str) -> None:
    path = repository / "packages" / package / "src" / "physicsnemo" / file
    path.write_text(f"{path.read_text()}\n{code}\n")


def test_all_contracts_are_kept(repository: Path):
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
    plant(repository, package, file, f"import {module}")
    assert import_contracts.main(repository) == 1
    assert (
        f"{package} imports nothing of packages that it does not declare BROKEN"
        in capfd.readouterr().out
    )


LATE = "def late():\n    import {}"
FOR_TYPES = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {}"
UPWARD = "The layers of physicsnemo-core import only those below them BROKEN"
CIRCLE = "No modules within a room of physicsnemo-core import each other in a circle BROKEN"


@pytest.mark.parametrize(
    ("file", "code", "broken"),
    [
        ("core/format/files.py", "import physicsnemo.core.base", UPWARD),
        ("core/base.py", LATE.format("physicsnemo.models.module"), UPWARD),
        ("core/rebuild/build.py", FOR_TYPES.format("physicsnemo.models.module"), UPWARD),
        ("core/rebuild/weights.py", LATE.format("physicsnemo.core.rebuild.build"), CIRCLE),
        (
            "core/install/provenance.py",
            FOR_TYPES.format("torch"),
            "What is installed is read without PyTorch BROKEN",
        ),
    ],
)
def test_an_arrow_against_the_layers_of_core_breaks_a_contract(
    file: str, code: str, broken: str, repository: Path, capfd: pytest.CaptureFixture[str]
):
    plant(repository, "physicsnemo-core", file, code)
    assert import_contracts.main(repository) == 1
    assert broken in capfd.readouterr().out


def test_a_family_that_reaches_into_core_breaks_a_contract(
    repository: Path, capfd: pytest.CaptureFixture[str]
):
    plant(repository, "physicsnemo-mlp", "models/mlp/__init__.py", "import physicsnemo.core.base")
    assert import_contracts.main(repository) == 1
    assert "Nobody but physicsnemo-core imports physicsnemo.core BROKEN" in capfd.readouterr().out
