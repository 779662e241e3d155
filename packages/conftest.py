# SPDX-License-Identifier: Apache-2.0
"""What holds for the tests of every package, with all packages and in ``isolation``.

It needs nothing but PyTorch and pytest, which every package's tests have.
"""

from contextlib import suppress
from importlib import import_module

import pytest
import torch

collect_ignore = ["physicsnemo-core/src/physicsnemo/cli/page/web"]  # it needs the extra show

# Pytest loads a package that it collects by its file, without the names that other releases have
# in it; unless it has been imported, as users do.
with suppress(ModuleNotFoundError):  # where it is not installed
    import_module("physicsnemo.diffusion")


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Let a test draw the same random numbers whichever tests ran before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _scratch_folder(request: pytest.FixtureRequest) -> None:
    """Let the examples of READMEs and docstrings leave their files in a folder of their own."""
    if isinstance(request.node, pytest.DoctestItem):
        folder = request.getfixturevalue("tmp_path")
        request.getfixturevalue("monkeypatch").chdir(folder)
