# SPDX-License-Identifier: Apache-2.0
"""Remote files: how much of them is read, and what happens where a server does not cooperate."""

import builtins
import importlib
import shutil
import sys
import tarfile
import threading
import tomllib
import zipfile
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry, known_implementations

from physicsnemo import Module, inspect_checkpoint
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.format.container import write_checkpoint
from physicsnemo.core.format.files import EXTRAS, locate
from physicsnemo.utils import load_checkpoint, save_checkpoint

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


class Handler(BaseHTTPRequestHandler):
    """Serves one folder, by ranges if the server allows, and counts the bytes that it sends."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        with suppress(ConnectionError):  # who asked for a part hangs up when all comes
            self.wfile.write(self.answer())

    def answer(self):
        path = self.server.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return b""
        start, end = 0, path.stat().st_size
        asked = self.headers["Range"] if self.server.ranges else None
        if asked:
            first, last = map(int, asked.removeprefix("bytes=").split("-"))
            start, end = first, min(end, last + 1)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if self.command == "HEAD":
            return b""
        self.server.sent += end - start
        with open(path, "rb") as file:
            file.seek(start)
            return file.read(end - start)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    """A server on this machine; ``ranges`` and ``sent`` are its switch and its counter."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.folder, server.ranges, server.sent = tmp_path, True, 0
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def url(server, name="model.mdlus"):
    return f"http://127.0.0.1:{server.server_port}/{name}"


def write_tar(path, weights):
    arguments = {"__name__": "Waves", "__module__": "gone.models", "__args__": {"size": 3}}
    write_checkpoint(path, {"weights": weights}, arguments, {"mdlus_file_version": "0.1.0"})


def write_zip(path, weights):
    tar = path.with_suffix(".tar.mdlus")
    write_tar(tar, weights)
    with tarfile.open(tar) as source, zipfile.ZipFile(path, "w") as target:
        for member in source:
            with source.extractfile(member) as content, target.open(member.name, "w") as copy:
                shutil.copyfileobj(content, copy)


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_inspection_reads_the_ends_of_a_file(write, server, tmp_path):
    write(tmp_path / "model.mdlus", torch.zeros(12_500_000))
    assert inspect_checkpoint(url(server)).model.arguments == {"size": 3}
    assert 0 < server.sent < 100_000


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_inspection_fetches_a_file_that_comes_only_whole(write, server, tmp_path):
    server.ranges = False
    write(tmp_path / "model.mdlus", torch.zeros(100_000))
    assert inspect_checkpoint(url(server)).model.arguments == {"size": 3}
    assert server.sent > 400_000


def test_inspection_fetches_a_file_that_cannot_seek(monkeypatch, affine):
    def stuck(*args):
        raise OSError("only forward")

    class Pipe(MemoryFileSystem):
        protocol = "pipe"

        @classmethod
        def _strip_protocol(cls, path):
            return super()._strip_protocol(path.removeprefix("pipe://"))

        def _open(self, *args, **options):
            file = super()._open(*args, **options)
            file.seek = stuck
            return file

        def get_file(self, remote, local, **options):
            Path(local).write_bytes(self.store[remote].getvalue())

    monkeypatch.setitem(_registry, "pipe", Pipe)
    affine(2).save("memory://pipe.mdlus")
    assert inspect_checkpoint("pipe://pipe.mdlus").model.arguments["size"] == 2


@pytest.mark.parametrize(
    "use",
    [
        lambda model: load_checkpoint("denied://run", model),
        lambda model: save_checkpoint("denied://run", model),
        lambda model: inspect_checkpoint("denied://run/model.mdlus"),
    ],
)
def test_what_may_not_be_seen_is_not_absent(use, monkeypatch, affine):
    class Denied(AbstractFileSystem):
        protocol = "denied"

        def info(self, path, **options):
            raise PermissionError(f"no access to {path}")

    monkeypatch.setitem(_registry, "denied", Denied)
    with pytest.raises(PermissionError, match="no access to run"):
        use(affine(1))


@pytest.mark.parametrize("size", [0, 1, 700, 40_000])
def test_damaged_remote_files_are_refused(size, server, tmp_path):
    write_tar(tmp_path / "model.mdlus", torch.zeros(20_000))
    with open(tmp_path / "model.mdlus", "r+b") as file:
        file.truncate(size)
    with pytest.raises(CheckpointError, match=r"http://.*/model\.mdlus"):
        inspect_checkpoint(url(server))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_header_of_absurd_size_is_not_read(kind, server, tmp_path):
    header = tarfile.TarInfo("name")
    header.size, header.type = 2**32, kind
    with open(tmp_path / "model.mdlus", "wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.truncate(2**33)
    with pytest.raises(CheckpointError, match="a header claims 4294967296 bytes, at most"):
        inspect_checkpoint(url(server))
    assert server.sent < 100_000


@pytest.mark.parametrize("read", [inspect_checkpoint, Module.from_checkpoint])
def test_missing_remote_file(read, server):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint file at http://") as raised:
        read(url(server))
    assert "404" in str(raised.value.__cause__.__cause__)


def test_model_is_loaded_from_a_web_server(server, tmp_path, affine):
    affine(3, start=2.0).save(tmp_path / "model.mdlus")
    loaded = affine.from_checkpoint(url(server))
    assert torch.equal(loaded.scale, torch.full((3,), 2.0))


@pytest.mark.parametrize("protocol", EXTRAS)
def test_an_extra_installs_what_the_protocol_needs(protocol):
    extras = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    [requirement] = extras[EXTRAS[protocol]]
    client = requirement.partition(">=")[0]
    assert client in str(known_implementations[protocol])


@pytest.fixture
def no_client(monkeypatch):
    """As if no client of any protocol were installed."""

    def refusing(find):
        def refuse(name, *args, **options):
            if name.partition(".")[0] in ("s3fs", "gcsfs", "aiohttp"):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return find(name, *args, **options)

        return refuse

    monkeypatch.setattr(builtins, "__import__", refusing(builtins.__import__))
    monkeypatch.setattr(importlib, "import_module", refusing(importlib.import_module))
    for module in ("s3fs", "gcsfs", "fsspec.implementations.http"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    for protocol in EXTRAS:
        monkeypatch.delitem(_registry, protocol, raising=False)


@pytest.mark.parametrize(
    ("place", "extra"),
    [
        ("s3://bucket/", "s3"),
        ("gs://bucket/", "gcs"),
        ("https://host/", "http"),
        ("simplecache::s3://bucket/", "s3"),
    ],
)
def test_missing_client_is_named(place, extra, no_client, affine):
    text = rf"{place}.* needs a package .* pip install 'physicsnemo-core\[{extra}\]'"
    for function in (affine(1).save, inspect_checkpoint, affine.from_checkpoint, affine(1).load):
        with pytest.raises(ImportError, match=text):
            function(f"{place}model.mdlus")
    for function in (save_checkpoint, load_checkpoint):
        with pytest.raises(ImportError, match=text):
            function(f"{place}run", affine(1))


def test_missing_client_of_another_protocol(monkeypatch):
    known = {"class": "absent_client.FileSystem", "err": "install absent-client"}
    monkeypatch.setitem(known_implementations, "absent", known)
    with pytest.raises(ImportError, match="absent://x needs a package .*: install absent-client$"):
        locate("absent://x")


def test_unknown_protocol():
    with pytest.raises(ValueError, match="Protocol not known: nobody"):
        inspect_checkpoint("nobody://model.mdlus")
