# SPDX-License-Identifier: Apache-2.0
"""A training of several processes, saved to one folder."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch
import torch.distributed as dist

from physicsnemo.utils.checkpoint import load_checkpoint, save_checkpoint

if not dist.is_available():
    pytest.skip("PyTorch was built without torch.distributed", allow_module_level=True)

PROGRAM = """
import datetime, os, sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from physicsnemo.core.errors import CheckpointError
from physicsnemo.utils.checkpoint import load_checkpoint, save_checkpoint

folder, rank = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(1)
dist.init_process_group(
    "gloo",
    init_method=f"file://{folder}/meeting",
    rank=rank,
    world_size=2,
    timeout=datetime.timedelta(seconds=60),
)
model = torch.nn.Linear(2, 1)

def fill(value):
    torch.nn.init.constant_(model.weight, value)

def value():
    return model.weight.unique().item()

def run(name):
    return f"{folder}/{name}"

"""

SCENARIOS = """
# Each rank saves its own, and the next step follows the largest of any rank.
fill(rank)
save_checkpoint(run("own"), model)
if rank == 1:
    save_checkpoint(run("own"), model, epoch=4, rank=1)
dist.barrier()
save_checkpoint(run("own"), model)
fill(-1)
assert load_checkpoint(run("own"), model) == 5
assert value() == rank

# A step that only one of them has is not loaded.
if rank == 1:
    save_checkpoint(run("own"), model, epoch=6, rank=1)
dist.barrier()
assert load_checkpoint(run("own"), model) == 5
try:
    load_checkpoint(run("own"), model, epoch=6)
    raise AssertionError("a step of one rank was loaded")
except CheckpointError as error:
    lacking = ["Linear.0.6.pt", "a part of another rank"][rank]
    assert f"lacks {lacking}; complete steps: 0, 5" in str(error), error

# One saves for all, as data parallel training does; random numbers are the saver's only.
wrapped = DistributedDataParallel(model)
if rank == 0:
    fill(7)
    save_checkpoint(run("shared"), wrapped, epoch=2)
dist.barrier()
fill(-1)
torch.manual_seed(100 + rank)
before = torch.get_rng_state()
assert load_checkpoint(run("shared"), wrapped) == 2
assert value() == 7
assert torch.equal(torch.get_rng_state(), before) == (rank == 1)

# Both delete the same steps, whatever each holds for the best.
for epoch in range(3):
    losses = [[1, 2, 3], [3, 2, 1]][rank]
    save_checkpoint(run("kept"), epoch=epoch, metadata={"loss": losses[epoch]},
                    keep_best=("loss", "min"))
dist.barrier()
assert load_checkpoint(run("kept")) == 2
assert load_checkpoint(run("kept"), epoch=0) == 0
dist.barrier()
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where two processes have run the scenarios."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM + SCENARIOS), str(folder)]
    processes = [
        subprocess.Popen([*command, str(rank)], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    return folder


def steps(folder, rank):
    names = (name.split(".") for name in os.listdir(folder))
    return sorted(int(name[2]) for name in names if name[0] == "manifest" and name[1] == str(rank))


def test_ranks_have_files_of_their_own(folder):
    assert steps(folder / "own", 0) == [0, 5]
    assert steps(folder / "own", 1) == [0, 4, 5, 6]


@pytest.mark.parametrize("rank", [0, 1])
def test_files_of_a_rank_can_be_loaded_by_any_process(rank, folder):
    model = torch.nn.Linear(2, 1)
    assert load_checkpoint(folder / "own", model, epoch=5, rank=rank) == 5
    assert model.weight.unique().item() == rank


def test_one_process_takes_its_own_newest_step(folder):
    assert load_checkpoint(folder / "own") == 5
    assert load_checkpoint(folder / "own", rank=1) == 6


def test_ranks_agree_on_what_is_deleted(folder):
    assert steps(folder / "kept", 0) == steps(folder / "kept", 1) == [0, 2]


def test_a_run_of_one_process_needs_no_process_group(tmp_path):
    save_checkpoint(tmp_path, torch.nn.Linear(2, 1))
    assert steps(tmp_path, 0) == [0]
