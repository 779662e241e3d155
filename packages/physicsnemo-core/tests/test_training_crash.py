# SPDX-License-Identifier: Apache-2.0
"""A training whose process is killed, or whose disk is full, while it saves."""

import builtins
import io
import os
import shutil
from contextlib import contextmanager

import pytest
import torch

from physicsnemo import Module
from physicsnemo.core.errors import CheckpointError
from physicsnemo.utils.checkpoint import load_checkpoint, save_checkpoint


class Net(Module):
    def __init__(self, value):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((64,), value))


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """Leave out what only a crash of the whole machine would need."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def save(folder, value, epoch, **options):
    """Save a step in which every file holds the value."""
    models = [Net(value), torch.nn.Linear(1, 1, bias=False)]
    torch.nn.init.constant_(models[1].weight, value)
    optimizer = torch.optim.SGD([p for model in models for p in model.parameters()], lr=value)
    save_checkpoint(folder, models, optimizer, epoch=epoch, metadata={"value": value}, **options)


def load(folder, epoch=None):
    """Return the epoch and the value, after checking that all files agree on it."""
    models, found = [Net(-1.0), torch.nn.Linear(1, 1, bias=False)], {}
    optimizer = torch.optim.SGD([p for model in models for p in model.parameters()], lr=1.0)
    epoch = load_checkpoint(folder, models, optimizer, epoch=epoch, metadata_dict=found)
    values = [*models[0].weight.unique().tolist(), models[1].weight.item()]
    assert {*values, optimizer.param_groups[0]["lr"]} == {found["value"]}
    return epoch, found["value"]


class Killed(BaseException):
    """What an operation meets that would come after the process was killed."""


class Mortality:
    """Lets a process die at one of its writes, syncs, renames and removals.

    From then on nothing reaches the disk, whatever the process does with the exception.
    """

    def __init__(self, point, monkeypatch):
        self.left = point
        for name in ("fsync", "replace", "remove", "unlink", "rmdir", "mkdir"):
            monkeypatch.setattr(os, name, self._mortal(getattr(os, name)))
        self._real_open = open
        monkeypatch.setattr(builtins, "open", self._open)

    @property
    def killed(self):
        return self.left <= 0

    def step(self):
        self.left -= 1
        if self.killed:
            raise Killed

    def _mortal(self, function):
        def mortal(*args, **kwargs):
            self.step()
            return function(*args, **kwargs)

        return mortal

    def _open(self, file, mode="r", **options):
        if mode.startswith("r"):
            return self._real_open(file, mode, **options)
        if self.killed:
            raise Killed
        mortality = self

        class Raw(io.FileIO):
            def write(self, data):
                half = 0 if mortality.killed else super().write(data[: len(data) // 2])
                mortality.step()
                return half + super().write(data[half:])

        binary = io.BufferedWriter(Raw(file, mode.strip("bt")), 512)
        try:
            self.step()
        except Killed:
            binary.close()
            raise
        return binary if "b" in mode else io.TextIOWrapper(binary, "utf-8")


def survives(point, function, monkeypatch):
    """Run a function that is killed at a point; tell whether it came to its end."""
    with monkeypatch.context() as patch:
        mortality = Mortality(point, patch)
        try:
            function()
        except Killed:
            assert mortality.killed
    return not mortality.killed


def kill_at_every_point(folder, function, check, monkeypatch):
    """Kill a function at each point, check what is left, undo it; return the number of points."""
    before = folder.with_name("before")
    shutil.copytree(folder, before)
    point = 1
    while not survives(point, function, monkeypatch):
        check()
        shutil.rmtree(folder)
        shutil.copytree(before, folder)
        point += 1
    return point - 1


@pytest.mark.parametrize("epoch", [1, 2], ids=["replacing it", "after it"])
def test_a_process_killed_anywhere_leaves_the_old_step_or_the_new_one(epoch, tmp_path, monkeypatch):
    folder, seen = tmp_path / "run", []
    save(folder, 1.0, 1)
    points = kill_at_every_point(
        folder, lambda: save(folder, 2.0, epoch), lambda: seen.append(load(folder)), monkeypatch
    )
    assert points > 40
    assert seen == sorted(seen)
    assert set(seen) == {(1, 1.0), (epoch, 2.0)}


def test_a_training_goes_on_after_any_accident_and_clears_up(tmp_path, monkeypatch):
    folder, best = tmp_path / "run", {"keep_best": ("value", "min")}
    for epoch in (1, 2):
        save(folder, float(epoch), epoch)

    def check():
        assert load(folder) in ((2, 2.0), (3, 3.0))
        save(folder, 4.0, 4, **best)
        assert load(folder) == (4, 4.0)
        assert load(folder, epoch=1) == (1, 1.0)
        assert len(os.listdir(folder)) == 8

    points = kill_at_every_point(folder, lambda: save(folder, 3.0, 3, **best), check, monkeypatch)
    assert points > 40


@contextmanager
def room_for(size):
    """Limit files to a size in bytes."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_the_step_before_and_no_rest(tmp_path):
    save(tmp_path, 1.0, 1)
    names = sorted(os.listdir(tmp_path))
    largest = max(path.stat().st_size for path in tmp_path.iterdir())
    sizes = range(0, largest, 97)
    for size in sizes:
        with room_for(size), pytest.raises(OSError, match="File too large"):
            save(tmp_path, 2.0, 2)
        assert sorted(os.listdir(tmp_path)) == names
        assert load(tmp_path) == (1, 1.0)
    assert len(sizes) > 100


def test_an_interrupted_upload_leaves_the_step_before(monkeypatch):
    import fsspec

    filesystem, url = fsspec.filesystem("memory"), "memory://interrupted"
    operations = ("put_file", "cp_file", "rm_file")
    points = 0

    class Failing:
        """Fails at one call, and at all that follow."""

        def __init__(self, left):
            self.left = left

        def wrap(self, function):
            def call(*args, **kwargs):
                self.left -= 1
                if self.left <= 0:
                    raise ConnectionError("lost")
                return function(*args, **kwargs)

            return call

    save(url, 1.0, 1)
    while True:
        with monkeypatch.context() as patch:
            failing = Failing(points + 1)
            for name in operations:
                patch.setattr(filesystem, name, failing.wrap(getattr(filesystem, name)))
            try:
                save(url, 2.0, 1)
                break
            except ConnectionError:
                points += 1
        assert load(url) in ((1, 1.0), (1, 2.0))
        save(url, 1.0, 1)
        assert not [name for name in filesystem.find("/interrupted") if ".saving" in name]
    assert points >= 12
    assert load(url) == (1, 2.0)


def test_a_failure_outside_of_the_disk_leaves_no_rest(tmp_path):
    save(tmp_path, 1.0, 1)
    names = sorted(os.listdir(tmp_path))
    with pytest.warns(UserWarning, match="will refuse this model"):
        net = Net(1.0 + 0j)  # no argument that a file can hold
    with pytest.raises(TypeError, match="complex"):
        save_checkpoint(tmp_path, net, epoch=2)
    assert sorted(os.listdir(tmp_path)) == names
    with pytest.raises(CheckpointError, match="lacks"):
        load(tmp_path, epoch=2)
