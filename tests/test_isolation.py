# SPDX-License-Identifier: Apache-2.0
"""The isolation check finds a family that uses what it does not declare."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from tools.environment import CommandError, Environment, build_wheels
from tools.isolation import check
from tools.workspace import Package, closure, packages

*OTHERS, MLP = closure("physicsnemo-mlp", packages())


@pytest.fixture
def copy(tmp_path: Path) -> Package:
    """A copy of mlp, to plant imports in, with one short test."""
    shutil.copytree(MLP.folder, tmp_path / MLP.name, ignore=shutil.ignore_patterns("test_*.py"))
    (tmp_path / MLP.name / "tests" / "test_nothing.py").write_text("def test_nothing(): ...\n")
    return Package.read(tmp_path / MLP.name)


def check_alone(copy: Package, wheels: Mapping[str, Path], folder: Path) -> None:
    """Build and check a package, with borrowed dependencies."""
    own_wheel = build_wheels({copy.name: copy.folder}, folder)
    environment = Environment.create(folder / "environment")
    check([*OTHERS, copy], {**wheels, **own_wheel}, environment, borrow=True)


def test_a_family_works_with_what_it_declares(
    copy: Package, wheels: Mapping[str, Path], tmp_path: Path
):
    check_alone(copy, wheels, tmp_path)


@pytest.mark.parametrize("module", ["s3fs", "physicsnemo.models.fno"])
def test_a_planted_import_fails(
    module: str, copy: Package, wheels: Mapping[str, Path], tmp_path: Path
):
    planted = copy.folder / "src" / "physicsnemo" / "models" / "mlp" / "_planted.py"
    planted.write_text(f"import {module}\n")
    with pytest.raises(CommandError, match=f"No module named '{module}'"):
        check_alone(copy, wheels, tmp_path)
