# SPDX-License-Identifier: Apache-2.0
"""What data-parallel training has saved, each process its files, loads on any number of them."""

import runpy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from physicsnemo.utils import load_checkpoint, save_checkpoint

Processes = runpy.run_path(str(Path(__file__).with_name("processes.py")))["Processes"]


@pytest.fixture(scope="module")
def started():
    """Return a function that returns some number of processes, started at the first."""
    running = {}

    def processes(count):
        return running.setdefault(count, Processes(count, timeout=300.0))

    yield processes
    for each in running.values():
        each.stop()


def prepared():
    torch.manual_seed(dist.get_rank())  # to load something else than what is there
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).double()
    wrapper = DistributedDataParallel(model)
    return wrapper, torch.optim.AdamW(wrapper.parameters(), lr=0.1)


def train(folder, first, steps):
    """Go on from a folder, save each step, and return the newest state."""
    model, optimizer = prepared()
    if first:
        assert load_checkpoint(folder, model, optimizer) == first - 1
    for step in range(first, first + steps):
        torch.manual_seed(step)  # the same samples in each process
        model(torch.randn(8, 3, dtype=torch.float64)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        save_checkpoint(folder, model, optimizer, epoch=step)
    return model.module.state_dict()


def load(folder):
    """Return the newest step, its state and that of the optimizer, and what is drawn then."""
    model, optimizer = prepared()
    torch.manual_seed(100 + dist.get_rank())
    step = load_checkpoint(folder, model, optimizer)
    moments = [it["exp_avg"] for it in optimizer.state_dict()["state"].values()]
    return step, model.module.state_dict(), moments, torch.rand(1)


@pytest.mark.parametrize("savers", [1, 2, 3])
def test_loads_on_any_number_of_processes(started, tmp_path, savers):
    folder = str(tmp_path)
    saved = started(savers).run(train, folder, 0, 2)
    found = [it for loaders in (1, 2, 3) for it in started(loaders).run(load, folder)]
    _, _, moments, _ = found[0]
    for step, state, own, _ in found:
        assert step == 1
        for key, value in saved[0].items():
            assert torch.equal(state[key], value), key
        assert all(map(torch.equal, own, moments))
    # Random numbers go on in the processes that have saved theirs; the others keep their own.
    torch.manual_seed(102)
    assert torch.equal(found[-1][3], torch.rand(1)) == (savers < 3)


def test_files_of_more_processes_before_are_not_taken_for_newer_ones(started, tmp_path):
    folder = str(tmp_path)
    started(3).run(train, folder, 0, 2)
    for count in (2, 1, 2):  # the files of rank 2, and then of rank 1, are left behind
        steps = {2: 3, 1: 1}[count]
        newest = len(list(tmp_path.glob("manifest.0.*")))
        saved = started(count).run(train, folder, newest, steps)
    for step, state, _, _ in started(3).run(load, folder):
        assert step == 8
        for key, value in saved[0].items():
            assert torch.equal(state[key], value), key


def test_a_step_saved_again_by_fewer_processes_is_theirs(started, tmp_path):
    folder = str(tmp_path)
    started(3).run(train, folder, 0, 2)
    saved = started(2).run(other_step, folder)[0]
    for state in started(3).run(load_first, folder):
        for key, value in saved.items():
            assert torch.equal(state[key], value), key


def other_step(folder):
    """Save another step 0."""
    model, optimizer = prepared()
    torch.nn.init.constant_(model.module[0].weight, 7.0)
    torch.manual_seed(0)
    model(torch.randn(8, 3, dtype=torch.float64)).square().mean().backward()
    optimizer.step()
    save_checkpoint(folder, model, optimizer, epoch=0)
    return model.module.state_dict()


def load_first(folder):
    model, optimizer = prepared()
    assert load_checkpoint(folder, model, optimizer, epoch=0) == 0
    return model.module.state_dict()
