# SPDX-License-Identifier: Apache-2.0
"""The example cases of all packages."""

import runpy

from physicsnemo.testing import Case
from tools.workspace import packages


def all_cases() -> list[Case]:
    """Return the cases of every package's ``tests/cases.py``."""
    files = (package.folder / "tests" / "cases.py" for package in packages().values())
    return [case for file in files if file.exists() for case in runpy.run_path(str(file))["CASES"]]
