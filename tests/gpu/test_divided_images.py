# SPDX-License-Identifier: Apache-2.0
"""Images divided over two GPUs, by the kernels of group normalization."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.two_gpus
LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def test_divided_images_are_normalized_as_whole_ones():
    command = [*LAUNCHER, str(Path(__file__).with_name("divided_images.py"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASS") == 4
