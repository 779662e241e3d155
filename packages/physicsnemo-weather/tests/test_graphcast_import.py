# SPDX-License-Identifier: Apache-2.0
"""Who compiles nothing does not wait for PyTorch's compiler, nor need a folder to write to."""

import subprocess
import sys

CODE = """
import importlib, sys, tempfile, torch
before = {name for name in sys.modules if name.startswith(("torch._dynamo", "torch._inductor"))}
tempfile.tempdir = "/proc/nowhere"
importlib.import_module(sys.argv[1])
after = {name for name in sys.modules if name.startswith(("torch._dynamo", "torch._inductor"))}
sys.exit(" ".join(sorted(after - before)[:5]) or 0)
"""


def test_importing_does_not_import_the_compiler():
    command = [sys.executable, "-c", CODE, "physicsnemo.models.graphcast"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
