# SPDX-License-Identifier: Apache-2.0
"""Examples of the weather models, for tests and benchmarks: those of every `cases_*.py` here."""

import runpy
from pathlib import Path

FILES = sorted(Path(__file__).parent.glob("cases_*.py"))
CASES = [case for file in FILES for case in runpy.run_path(str(file))["CASES"]]
