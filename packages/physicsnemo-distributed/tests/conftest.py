# SPDX-License-Identifier: Apache-2.0
"""Two processes for the tests of this package."""

import runpy
from pathlib import Path

import pytest

Processes = runpy.run_path(str(Path(__file__).with_name("processes.py")))["Processes"]


@pytest.fixture(scope="session")
def processes():
    """Return two processes that run functions for tests, started at the first."""
    pair = Processes()
    yield pair
    pair.stop()
