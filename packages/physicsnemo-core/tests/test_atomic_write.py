# SPDX-License-Identifier: Apache-2.0
"""Saving on file systems and under names of every kind, and what killed processes leave."""

import errno
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time

import pytest

from physicsnemo import Module
from physicsnemo.core.format import atomic as module
from physicsnemo.core.format.atomic import atomic_write


def write(path, content=b"new"):
    with atomic_write(path) as file:
        file.write(content)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_folders_that_cannot_be_synced(code, tmp_path, monkeypatch, affine):
    fsync = os.fsync

    def refuse_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    affine(2).save(tmp_path / "model.mdlus")
    assert os.listdir(tmp_path) == ["model.mdlus"]
    Module.from_checkpoint(tmp_path / "model.mdlus")


def test_a_disk_that_fails_to_sync_is_an_error(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        write(tmp_path / "file")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("length", [217, 218, 249, 255])
def test_names_as_long_as_the_file_system_takes(length, tmp_path, affine):
    path = tmp_path / ("x" * (length - 6) + ".mdlus")
    affine(2).save(path)
    affine(3).save(path)
    assert Module.from_checkpoint(path).scale.shape == (3,)
    assert os.listdir(tmp_path) == [path.name]


def test_names_that_are_too_long_are_refused_before_anything_is_written(tmp_path, affine):
    with pytest.raises(OSError, match="File name too long"):
        affine(2).save(tmp_path / ("x" * 250 + ".mdlus"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_folders_that_take_no_files(code, tmp_path, monkeypatch, affine):
    affine(2).save(tmp_path / "model.mdlus")
    before = (tmp_path / "model.mdlus").read_bytes()

    def refuse(path, mode):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(module, "open", refuse, raising=False)
    with pytest.raises(
        OSError, match=r"cannot write .*model\.mdlus: its folder takes no new file"
    ) as e:
        affine(3).save(tmp_path / "model.mdlus")
    assert e.value.errno == code
    assert (tmp_path / "model.mdlus").read_bytes() == before
    assert os.listdir(tmp_path) == ["model.mdlus"]


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_not_replaced(make, tmp_path, affine):
    make(tmp_path / "model.mdlus")
    with pytest.raises(FileExistsError, match="what is there is no file"):
        affine(2).save(tmp_path / "model.mdlus")
    assert os.listdir(tmp_path) == ["model.mdlus"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_permissions_are_kept_from_the_first_byte(mode, tmp_path):
    path = tmp_path / "file"
    write(path, b"old")
    path.chmod(mode)
    with atomic_write(path) as file:
        assert stat.S_IMODE(os.stat(file.name).st_mode) == mode
        file.write(b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_bytes() == b"new"


def killed_while_writing(path):
    program = f"""
        import os, signal
        from pathlib import Path
        from physicsnemo.core.format.atomic import atomic_write
        with atomic_write(Path({str(path)!r})) as file:
            file.write(bytes(1000))
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert done.returncode == -signal.SIGKILL


def test_what_a_killed_save_left_is_cleared_by_the_next(tmp_path):
    killed_while_writing(tmp_path / "file")
    [left] = os.listdir(tmp_path)
    assert left.startswith(".physicsnemo-")
    write(tmp_path / "other")
    assert os.listdir(tmp_path) == ["other"]


def test_what_is_being_written_is_not_cleared(tmp_path):
    with atomic_write(tmp_path / "slow") as file:
        file.write(b"slow")
        write(tmp_path / "quick")
        os.utime(file.name, (0, 0))
        write(tmp_path / "quick")
    assert sorted(os.listdir(tmp_path)) == ["quick", "slow"]
    assert (tmp_path / "slow").read_bytes() == b"slow"


@pytest.mark.parametrize(("age", "stays"), [(0, True), (90_000, False)])
def test_what_another_machine_left_is_cleared_after_a_day(age, stays, tmp_path):
    left = tmp_path / f".physicsnemo-{'0' * 8}-{'1' * 32}.tmp"
    left.write_bytes(b"half")
    os.utime(left, (time.time() - age,) * 2)
    write(tmp_path / "file")
    assert left.exists() == stays


@pytest.mark.parametrize("name", [".physicsnemo-mine.tmp", f".other-{'0' * 8}-{'1' * 32}.tmp"])
def test_files_of_others_are_not_cleared(name, tmp_path):
    (tmp_path / name).write_bytes(b"precious")
    os.utime(tmp_path / name, (0, 0))
    write(tmp_path / "file")
    assert (tmp_path / name).exists()


def test_a_file_that_is_cleared_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    real, cleared = open, []

    def opened(path, mode):
        file = real(path, mode)
        if "x" in mode and not cleared:
            cleared.append(path)
            os.unlink(path)
        return file

    monkeypatch.setattr(module, "open", opened, raising=False)
    write(tmp_path / "file")
    assert cleared
    assert (tmp_path / "file").read_bytes() == b"new"
