# SPDX-License-Identifier: Apache-2.0
"""The models have whatever is expected of models, and their metadata claims what it did."""

import runpy
from pathlib import Path

from physicsnemo.testing import conformance_test

CASES = runpy.run_path(str(Path(__file__).with_name("cases.py")))["CASES"]

test_conformance = conformance_test(CASES)
