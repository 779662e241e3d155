# SPDX-License-Identifier: Apache-2.0
"""A process that is killed and started again by torchrun leaves no trace in the training."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.distributed
SCRIPT = Path(__file__).with_name("restarts.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def train(folder, parallel, *death):
    command = [*TORCHRUN, "--max-restarts", "1", str(SCRIPT), str(folder), parallel, *death]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return a function that trains once for each way, without a death."""
    folders = {}

    def trained(parallel):
        if parallel not in folders:
            folders[parallel] = train(tmp_path_factory.mktemp(parallel), parallel)
        return folders[parallel]

    return trained


def noted(folder, name):
    return [ast.literal_eval(line) for line in (folder / name).read_text().splitlines()]


@pytest.mark.parametrize(
    ("parallel", "rank", "step", "moment"),
    [
        ("data", 1, 4, "step"),
        ("data", 1, 4, "saving"),
        ("data", 0, 5, "saving"),
        ("sharded", 0, 4, "step"),
        ("sharded", 1, 5, "saving"),
        ("shards", 1, 4, "step"),
        ("shards", 0, 4, "saving"),
    ],
)
def test_a_process_that_dies(undisturbed, tmp_path, parallel, rank, step, moment):
    expected = undisturbed(parallel)
    train(tmp_path, parallel, str(rank), str(step), moment)
    for rank in range(2):
        assert noted(expected, f"starts.{rank}") == [0]
        assert noted(tmp_path, f"starts.{rank}") == [0, step]  # so many steps were whole
        seen = {number: rest for number, *rest in noted(tmp_path, f"seen.{rank}")}
        assert seen == {number: rest for number, *rest in noted(expected, f"seen.{rank}")}
        one, other = (torch.load(it / f"ends.{rank}.pt") for it in (tmp_path, expected))
        torch.testing.assert_close(one, other, rtol=0, atol=0)
