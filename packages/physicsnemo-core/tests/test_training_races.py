# SPDX-License-Identifier: Apache-2.0
"""Steps that are replaced, removed or written by others while they are loaded or saved."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import physicsnemo.utils.checkpoint
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.training import steps as steps_module
from physicsnemo.core.training.folder import Folder
from physicsnemo.utils.checkpoint import load_checkpoint, save_checkpoint


def save(folder, value, epoch=0, **options):
    """Save a step in which every file holds the value."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, value)
    optimizer = torch.optim.SGD(model.parameters(), lr=value)
    save_checkpoint(folder, model, optimizer, epoch=epoch, metadata={"value": value}, **options)


def load(folder, epoch=None):
    """Return the step and the value, after checking that all files agree on it."""
    model, found = torch.nn.Linear(1, 1, bias=False), {}
    optimizer = torch.optim.SGD(model.parameters(), lr=9.0)
    epoch = load_checkpoint(folder, model, optimizer, epoch=epoch, metadata_dict=found)
    assert {model.weight.item(), optimizer.param_groups[0]["lr"]} == {found["value"]}
    return epoch, found["value"]


def meanwhile(monkeypatch, owner, name, call, action):
    """Let something happen right before a call of a function, the one of that number."""
    original, calls = getattr(owner, name), []

    def interrupted(*args, **options):
        calls.append(None)
        if len(calls) == call:
            action()
        return original(*args, **options)

    monkeypatch.setattr(owner, name, interrupted)


URLS = ("memory://races", "file")


@pytest.fixture(params=URLS)
def run(request, tmp_path):
    """The URL of a folder of a training."""
    if request.param == "file":
        return str(tmp_path / "run")
    return f"{request.param}/{tmp_path.name}"


@pytest.mark.parametrize("call", range(1, 9))
def test_a_step_replaced_while_it_is_opened_is_of_one_save(call, run, monkeypatch):
    save(run, 1.0)
    meanwhile(monkeypatch, Folder, "open", call, lambda: save(run, 2.0))
    assert load(run) in ((0, 1.0), (0, 2.0))


@pytest.mark.parametrize("call", range(1, 4))
def test_a_step_replaced_while_it_is_checked_is_of_one_save(call, run, monkeypatch):
    save(run, 1.0)
    with monkeypatch.context() as patch:
        meanwhile(patch, physicsnemo.utils.checkpoint, "read_data", call, lambda: save(run, 2.0))
        assert load(run) == (0, 1.0)  # from the files that were opened
    assert load(run) == (0, 2.0 if call == 1 else 1.0)


@pytest.mark.parametrize("call", range(1, 9))
def test_a_step_removed_while_it_is_opened_gives_way_to_the_newest(call, run, monkeypatch):
    save(run, 1.0)
    meanwhile(monkeypatch, Folder, "open", call, lambda: save(run, 2.0, epoch=1, keep_last=1))
    assert load(run) in ((0, 1.0), (1, 2.0))


def test_a_step_that_was_asked_for_and_is_removed_is_an_error(run, monkeypatch):
    save(run, 1.0)
    meanwhile(monkeypatch, Folder, "open", 1, lambda: save(run, 2.0, epoch=1, keep_last=1))
    with pytest.raises(CheckpointError, match="step 0 .* lacks"):
        load(run, epoch=0)


@pytest.mark.parametrize("name", ["checkpoint.0.0.pt", "Linear.0.0.pt"])
def test_a_file_written_to_while_it_is_read_is_an_error(name, tmp_path, monkeypatch):
    save(tmp_path, 1.0)

    def write():
        with open(tmp_path / name, "r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"x")
        os.utime(tmp_path / name, (1, 1))

    meanwhile(monkeypatch, physicsnemo.utils.checkpoint, "read_data", 1, write)
    model = torch.nn.Linear(1, 1, bias=False)
    before = model.weight.item()
    with pytest.raises(CheckpointError, match=f"{name} of step 0 .* is torn or was changed"):
        load_checkpoint(tmp_path, model)
    assert model.weight.item() == before


def test_a_step_that_another_process_saves_meanwhile_is_kept(run, monkeypatch):
    save(run, 1.0)
    name = "write_data"
    meanwhile(monkeypatch, physicsnemo.utils.checkpoint, name, 1, lambda: save(run, 2.0))
    with pytest.raises(CheckpointError, match="another process has saved step 0 as rank 0 to .*"):
        save(run, 3.0)
    assert load(run) == (0, 2.0)
    save(run, 4.0)
    assert load(run) == (0, 4.0)


def test_files_of_a_process_at_work_are_left_alone(run, monkeypatch):
    name = "write_data"
    meanwhile(monkeypatch, physicsnemo.utils.checkpoint, name, 1, lambda: save(run, 1.0, epoch=1))
    save(run, 2.0, epoch=2)
    assert load(run) == (2, 2.0)
    assert load(run, epoch=1) == (1, 1.0)
    assert {name.split(".")[0] for name in Folder(run).names()} == {
        "Linear",
        "checkpoint",
        "manifest",
    }


def test_files_of_a_dead_process_are_cleared(tmp_path):
    save(tmp_path, 1.0)
    leftover = tmp_path / f".saving.0.{'a' * 32}"
    leftover.mkdir()
    (leftover / "Linear.0.1.pt").write_bytes(b"half")
    (tmp_path / f".saving.0.{'a' * 32}.lock").touch()
    save(tmp_path, 2.0, epoch=1)
    assert not list(tmp_path.glob(".saving*"))


@pytest.mark.parametrize("days", [0, 2])
def test_files_elsewhere_are_cleared_when_they_are_old(days, monkeypatch):
    import datetime

    import fsspec

    run, token, filesystem = f"memory://old/{days}", "b" * 32, fsspec.filesystem("memory")
    save(run, 1.0)
    leftover = f"/old/{days}/.saving.0.{token}/Linear.0.1.pt"
    filesystem.pipe_file(leftover, b"half")
    filesystem.store[leftover].modified -= datetime.timedelta(days=days)
    save(run, 2.0, epoch=1)
    assert filesystem.exists(leftover) == (days == 0)


PROGRAM = """
import sys, time
from pathlib import Path
import torch
from physicsnemo.core.errors import CheckpointError
from test_training_races import load, save

role, folder, number = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
Path(folder, f"ready.{role}.{number}").touch()
while len(list(folder.glob("ready.*"))) < 4:
    time.sleep(0.01)
saved = refused = loaded = 0
if role == "write":
    for turn in range(24):
        try:
            save(folder / "run", number + turn / 64, epoch=turn // 4, keep_last=2)
            saved += 1
        except CheckpointError as error:
            assert "another process has saved step" in str(error), error
            refused += 1
    Path(folder, f"done.{number}").touch()
else:
    while not (folder / "run").exists() or not list((folder / "run").glob("manifest*")):
        time.sleep(0.001)
    while len(list(folder.glob("done.*"))) < 2:
        load(folder / "run")
        loaded += 1
print(saved, refused, loaded)
"""


def test_two_trainings_in_one_folder_and_two_who_load(tmp_path):
    tests = Path(__file__).parent
    roles = [("write", 1), ("write", 2), ("read", 1), ("read", 2)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, role, str(tmp_path), str(number)],
            env={**os.environ, "PYTHONPATH": str(tests), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for role, number in roles
    ]
    results = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, results
    counts = [tuple(map(int, out.split())) for out, _ in results]
    print(counts)
    assert all(saved + refused == 24 for saved, refused, _ in counts[:2])
    assert all(loaded for _, _, loaded in counts[2:])
    names = os.listdir(tmp_path / "run")
    assert not [name for name in names if name.startswith(".saving")]
    for epoch in {int(name.split(".")[2]) for name in names if name.startswith("manifest")}:
        assert load(tmp_path / "run", epoch=epoch)[0] == epoch


def test_a_lock_is_of_one_process_at_a_time_and_dies_with_it(tmp_path):
    from physicsnemo.core.training.lock import is_held, locked

    path = tmp_path / "lock"
    assert is_held(path) is False
    with locked(path):
        assert is_held(path)
    assert not path.exists()
    path.touch()  # what a process that was killed leaves
    assert is_held(path) is False
    with locked(path):
        assert is_held(path)
    assert steps_module._MOVE_LOCK == ".saving.lock"
