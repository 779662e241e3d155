# SPDX-License-Identifier: Apache-2.0
"""The README's example runs as printed."""

import doctest
from pathlib import Path


def test_example():
    readme = Path(__file__).parents[1] / "README.md"
    result = doctest.testfile(str(readme), module_relative=False)
    assert result.attempted > 0
    assert result.failed == 0
