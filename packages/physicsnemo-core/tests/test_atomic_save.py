# SPDX-License-Identifier: Apache-2.0
"""A save that fails at any point leaves the file that was there before."""

import builtins
import os
import subprocess
import sys
import textwrap

import pytest
import torch

from physicsnemo import Module
from physicsnemo.core.format import container


class Layers(Module):
    def __init__(self, depth):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(depth))


class Disk:
    """Counts writes, syncs and renames, and fails at the one whose number is given."""

    def __init__(self, monkeypatch, fail_at=None):
        self.count, self.fail_at = 0, fail_at
        monkeypatch.setattr(builtins, "open", self._opened(open))
        for name in ("fsync", "replace"):
            monkeypatch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, function):
        def counted(*args, **kwargs):
            self.count += 1
            if self.count == self.fail_at:
                raise OSError(28, "No space left on device")
            return function(*args, **kwargs)

        return counted

    def _opened(self, open_file):
        disk = self

        class Handle:
            def __init__(self, file):
                self._file = file
                self.write = disk._counted(file.write)

            def __enter__(self):
                return self

            def __exit__(self, *exception):
                self._file.close()

            def __getattr__(self, name):
                return getattr(self._file, name)

        def opened(file, mode="r", *args, **kwargs):
            handle = open_file(file, mode, *args, **kwargs)
            return Handle(handle) if "x" in mode else handle

        return opened


@pytest.fixture
def saved(tmp_path):
    Layers(1).save(tmp_path / "model.mdlus")
    return tmp_path / "model.mdlus"


def test_failure_at_every_write_sync_and_rename(saved, monkeypatch):
    before, model = saved.read_bytes(), Layers(3)
    with monkeypatch.context() as patch:
        disk = Disk(patch)
        model.save(saved)
    points = disk.count
    assert points > 40
    saved.write_bytes(before)
    survived = 0
    for point in range(1, points + 1):
        with monkeypatch.context() as patch:
            disk = Disk(patch, fail_at=point)
            try:
                model.save(saved)
            except OSError:
                survived += 1
        assert os.listdir(saved.parent) == ["model.mdlus"]
        # Only the sync of the folder comes after the new file is in place.
        expected = before if point < points else None
        assert expected is None or saved.read_bytes() == expected
    assert survived == points
    assert len(Module.from_checkpoint(saved).layers) == 3


@pytest.mark.parametrize("writes", [1, 10, 30])
def test_killed_process_leaves_the_old_file(saved, writes):
    before = saved.read_bytes()
    program = f"""
        import os, torch
        from physicsnemo.core.format import container

        count, header = 0, container._header
        save = torch.save

        class Killing:
            def __init__(self, file):
                self.file = file
            def write(self, data):
                global count
                count += 1
                if count == {writes}:
                    self.file.flush()
                    os._exit(9)
                return self.file.write(data)

        torch.save = lambda state, file: save(state, Killing(file))
        state = {{str(i): torch.ones(100) for i in range(9)}}
        container.write_checkpoint({str(saved)!r}, state, {{}}, {{}})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert done.returncode == 9
    assert saved.read_bytes() == before


def test_failed_upload_leaves_the_old_file(monkeypatch):
    import fsspec

    url = "memory://atomic/model.mdlus"
    Layers(1).save(url)
    filesystem = fsspec.filesystem("memory")
    before = filesystem.cat("/atomic/model.mdlus")

    def fail(*args):
        raise OSError("connection lost")

    monkeypatch.setattr(container, "_write_tar", fail)
    with pytest.raises(OSError, match="connection lost"):
        Layers(2).save(url)
    assert filesystem.cat("/atomic/model.mdlus") == before
