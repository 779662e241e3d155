# SPDX-License-Identifier: Apache-2.0
"""Sharded trainings on two GPUs save, load and go on as they were."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.two_gpus
SCRIPT = Path(__file__).with_name("two_ranks.py")


def test_trainings_go_on(tmp_path):
    for name in ("plain", "low", "kept"):
        (tmp_path / name).mkdir()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, "--nproc-per-node", "2", str(SCRIPT), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASS") == 6
