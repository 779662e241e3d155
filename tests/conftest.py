# SPDX-License-Identifier: Apache-2.0
"""Wheels for the tests that install packages: they are built once."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tools.environment import build_wheels
from tools.workspace import closure, packages

collect_ignore = ["data"]  # programs of users, of which some are wrong on purpose


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The wheels of core, nn, mlp and fno."""
    folders = {part.name: part.folder for part in closure("physicsnemo-fno", packages())}
    return build_wheels(folders, tmp_path_factory.mktemp("wheels"))
