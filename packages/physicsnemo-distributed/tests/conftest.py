# SPDX-License-Identifier: Apache-2.0
"""Two processes for the tests of this package."""

import runpy
from pathlib import Path

import pytest
import torch

Processes = runpy.run_path(str(Path(__file__).with_name("processes.py")))["Processes"]


@pytest.fixture(scope="session")
def processes():
    """Return two processes that run functions for tests, started at the first."""
    pair = Processes()
    yield pair
    pair.stop()


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Compute with one thread here too: sums of several are rounded in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
