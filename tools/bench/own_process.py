# SPDX-License-Identifier: Apache-2.0
"""Measurements in a process of their own, which alone answers for its memory."""

import json
import resource
import subprocess
import sys
from typing import Any

_SCALE = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, to bytes


def peak_bytes() -> int:
    """Return the most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _SCALE


def printed_by(module: str, *arguments: str) -> Any:
    """Run a module as a program, and return what it prints as JSON."""
    command = [sys.executable, "-m", module, *arguments]
    return json.loads(subprocess.check_output(command, text=True))
