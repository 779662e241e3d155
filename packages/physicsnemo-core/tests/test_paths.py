# SPDX-License-Identifier: Apache-2.0
"""What is a path and what is a URL, and that names are meant literally."""

import os
from pathlib import Path

import fsspec
import pytest
import torch

from physicsnemo import Module
from physicsnemo.core.format.files import locate
from physicsnemo.utils import load_checkpoint, save_checkpoint


@pytest.mark.parametrize(
    "name",
    [
        "test_a.py::test_b",
        "a::b::c",
        "data::first",
        "simplecache::second",
        "lr=s3://no/where",
        "[8]*?",
        "run=1,x+y://z",
    ],
)
def test_a_path_is_a_path_whatever_is_in_it(name, affine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for victim in name.split("::"):
        Path(victim).parent.mkdir(parents=True, exist_ok=True)
        Path(victim).touch()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for folder in (f"here/{name}", tmp_path / "there" / name, Path("also") / name):
        os.makedirs(folder)
        affine(3, start=2.0).save(os.path.join(folder, "model.mdlus"))
        assert os.listdir(folder) == ["model.mdlus"]
        assert Module.from_checkpoint(os.path.join(folder, "model.mdlus")).scale[0] == 2.0
    if "://" not in name:
        save_checkpoint(f"{name}-run", affine(1), epoch=3)
        assert load_checkpoint(f"{name}-run", affine(1)) == 3
        assert len(os.listdir(f"{name}-run")) == 3
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.parametrize(
    ("url", "protocol", "path"),
    [
        ("/a/b::c", "file", "/a/b::c"),
        ("file:///a/b::c", "file", "/a/b::c"),
        ("/a/x=s3://b", "file", "/a/x=s3://b"),
        ("C:/models/a.mdlus", "file", None),
        ("C:\\models\\a.mdlus", "file", None),
        ("C://models/a.mdlus", "file", None),
        ("C::/a.mdlus", "file", None),
        ("memory://a/b::c", "memory", "a/b::c"),
        ("simplecache::memory://a/b", "simplecache", "/a/b"),
        ("simplecache::memory://a[1]/b", "simplecache", "/a[1]/b"),
    ],
)
def test_only_what_begins_with_a_protocol_is_a_url(url, protocol, path):
    filesystem, found = locate(url)
    protocols = filesystem.protocol
    assert protocol in ((protocols,) if isinstance(protocols, str) else protocols)
    assert path is None or found.lstrip("/") == path.lstrip("/")


def test_a_drive_of_windows_is_not_taken_for_a_protocol(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    _, found = locate("C://models/a.mdlus")
    assert found.endswith("C://models/a.mdlus")


def test_an_unknown_protocol_is_an_error():
    with pytest.raises(ValueError, match="gopher"):
        locate("gopher://models/a.mdlus")


def test_chained_urls_work(affine, tmp_path):
    import zipfile

    affine(3, start=2.0).save(tmp_path / "model.mdlus")
    with zipfile.ZipFile(tmp_path / "models.zip", "w") as archive:
        archive.write(tmp_path / "model.mdlus", "inner/model.mdlus")
    fsspec.filesystem("memory").pipe_file("/zipped.zip", (tmp_path / "models.zip").read_bytes())
    for url in (
        f"zip://inner/model.mdlus::{tmp_path}/models.zip",
        f"zip://inner/model.mdlus::file://{tmp_path}/models.zip",
        "zip://inner/model.mdlus::memory://zipped.zip",
        "simplecache::zip://inner/model.mdlus::memory://zipped.zip",
    ):
        assert Module.from_checkpoint(url).scale.tolist() == [2.0] * 3


@pytest.mark.parametrize("name", ["lr[8]", "lr?", "lr*", "**", "a[!b]c", "lr[", "x{1,2}", "a::b"])
@pytest.mark.parametrize("where", ["memory://globs", "file"])
def test_pruning_touches_no_other_run(name, where, tmp_path):
    base = str(tmp_path) if where == "file" else where
    model, others = torch.nn.Linear(2, 1), ("lr8", "lr", "lrx", "a", "abc", "axc", "x1", "own")
    for other in others:
        save_checkpoint(f"{base}/{other}", model, epoch=0)
        save_checkpoint(f"{base}/{other}", model, epoch=1)
    for epoch in range(4):
        save_checkpoint(f"{base}/{name}", model, epoch=epoch, keep_last=2)
    filesystem, path = locate(f"{base}/{name}")
    files = [found["name"] for found in filesystem.ls(path, detail=True)]
    parts = ("Linear.0.{}.pt", "checkpoint.0.{}.pt", "manifest.0.{}.json")
    kept = {part.format(step) for part in parts for step in (2, 3)}
    assert {file.rpartition("/")[2] for file in files} == kept
    assert load_checkpoint(f"{base}/{name}", model) == 3
    for other in others:
        assert load_checkpoint(f"{base}/{other}", model) == 1
        assert load_checkpoint(f"{base}/{other}", model, epoch=0) == 0


def test_leftovers_are_removed_literally():
    filesystem = fsspec.filesystem("memory")
    token = "0" * 32
    for run in ("memory://left/lr8", "memory://left/lr[8]"):
        save_checkpoint(run, torch.nn.Linear(2, 1), epoch=0)
    filesystem.pipe_file(f"/left/lr8/.saving.0.{token}/x/y.pt", b"theirs")
    for run in ("memory://left/lr[8]", "memory://left/lr?"):
        save_checkpoint(run, torch.nn.Linear(2, 1), epoch=1)
    assert filesystem.cat_file(f"/left/lr8/.saving.0.{token}/x/y.pt") == b"theirs"


def test_new_folders_are_synced_where_their_names_are(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync

    def watched(descriptor):
        synced.append(os.path.realpath(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    save_checkpoint(tmp_path / "a" / "b" / "run", torch.nn.Linear(2, 1))
    real = Path(os.path.realpath(tmp_path))
    assert {str(real), str(real / "a"), str(real / "a" / "b"), str(real / "a/b/run")} <= {*synced}
