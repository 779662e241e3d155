# SPDX-License-Identifier: Apache-2.0
"""Captured training on two GPUs equals that of one process on the joint batches."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.two_gpus

STEPS, WARMUP = 60, 11
# Each place in an accumulation is recorded by itself.
REPLAYS = {"plain": 49, "clip": 49, "verified": 49} | dict.fromkeys(
    ("accumulation of 3", "accumulation of 3, clip"), STEPS - 3 * WARMUP
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """What two processes find, each on its GPU, by the name of the comparison."""
    results = tmp_path_factory.mktemp("ranks") / "results.json"
    program = Path(__file__).with_name("two_ranks.py")
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = subprocess.run(
        [sys.executable, *launch, program, "cuda", results],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout
    return json.loads(results.read_text())


@pytest.mark.parametrize("options", REPLAYS)
@pytest.mark.parametrize("way", ["data_parallel", "sharded"])
def test_training_is_replayed(way, options, found):
    result = found[f"{way}, {options}"]
    assert result["error"] <= 1e-4
    assert REPLAYS[options] <= result["replays"] <= STEPS - WARMUP


def test_a_wrapper_made_on_the_default_stream_trains_as_well(found):
    result = found["on_default_stream"]
    assert result["error"] <= 1e-4
    assert result["replays"] <= STEPS - WARMUP
