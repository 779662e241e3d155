# SPDX-License-Identifier: Apache-2.0
"""Sharded trainings on two GPUs: files, and recorded steps."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.two_gpus
LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def test_trainings_go_on(tmp_path):
    for name in ("plain", "low", "kept"):
        (tmp_path / name).mkdir()
    assert run("two_ranks.py", str(tmp_path)).count("PASS") == 6


def test_recorded_steps_are_those_of_eager_ones():
    assert run("recorded.py").count("PASS") == 10


def run(script, *arguments):
    """Run a script of this folder in two processes, and return what it prints."""
    command = [*LAUNCHER, str(Path(__file__).with_name(script)), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
