# SPDX-License-Identifier: Apache-2.0
"""Checkpoints in an object store, played by a server on this machine."""

import threading
from contextlib import contextmanager

import fsspec
import pytest
import torch

from physicsnemo import Module, inspect_checkpoint
from physicsnemo.core.errors import CheckpointError
from physicsnemo.utils import load_checkpoint, save_checkpoint

MODEL = "s3://models/runs/model.mdlus"


class Store:
    """An object store, empty at first, at ``url``."""

    def __init__(self):
        from moto.server import create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            def log(self, *args):
                pass

        self._application, self._allowed = create_backend_app("s3"), None
        self._server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01])
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __call__(self, environ, start_response):
        if self._allowed and not self._allowed[environ["REQUEST_METHOD"]].acquire(blocking=False):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("500 Internal Server Error", [("Content-Length", "0")])
            return []
        return self._application(environ, start_response)

    @contextmanager
    def failing(self, *methods, after=0):
        """Fail all requests of some methods, after so many; a client has to raise for it."""
        allowed = dict.fromkeys(("GET", "HEAD", "PUT", "POST", "DELETE"), 10**6)
        allowed.update(dict.fromkeys(methods, after))
        self._allowed = {method: threading.Semaphore(n) for method, n in allowed.items()}
        try:
            with pytest.raises(OSError, match=r"Internal Server Error|\(500\)") as raised:
                yield
        finally:
            self._allowed = None
        assert not isinstance(raised.value, FileNotFoundError)

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def store():
    """A store that the environment describes, as a user's would."""
    from s3fs import S3FileSystem

    store = Store()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", store.url)
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        S3FileSystem.clear_instance_cache()
        yield store
    S3FileSystem.clear_instance_cache()
    store.close()


@pytest.fixture
def s3(store):
    """The file system of the store, with one empty bucket."""
    filesystem = fsspec.filesystem("s3")
    filesystem.mkdir("models")
    yield filesystem
    filesystem.rm("models", recursive=True)


def training():
    """A model and its optimizer, after a step."""
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.rand(4, 2)).sum().backward()
    optimizer.step()
    return model, optimizer


def test_a_model_is_saved_inspected_and_loaded(s3, affine):
    affine(3, start=2.0).save(MODEL)
    assert s3.ls("models/runs", detail=False) == ["models/runs/model.mdlus"]
    assert inspect_checkpoint(MODEL).model.arguments["size"] == 3
    built, other = Module.from_checkpoint(MODEL), affine(3)
    other.load(MODEL)
    for model in (built, other):
        assert torch.equal(model.scale, torch.full((3,), 2.0))


def test_a_training_goes_on(s3):
    url = "s3://models/runs/first"
    for _ in range(3):
        model, optimizer = training()
        save_checkpoint(url, model, optimizer, keep_last=2)
    other, its_optimizer = training()
    assert load_checkpoint(url, other, its_optimizer) == 2
    assert torch.equal(other.weight, model.weight)
    assert torch.equal(
        its_optimizer.state[other.weight]["exp_avg"], optimizer.state[model.weight]["exp_avg"]
    )
    names = {path.removeprefix("models/runs/first/") for path in s3.find("models/runs/first")}
    assert names == {
        f"{part.format(step)}"
        for part in ("Linear.0.{}.pt", "checkpoint.0.{}.pt", "manifest.0.{}.json")
        for step in (1, 2)
    }


@pytest.mark.parametrize(("part_size", "parts"), [(None, 0), (5 * 2**20, 3)])
def test_failed_upload_leaves_the_old_object(part_size, parts, s3, store, affine, monkeypatch):
    affine(3).save(MODEL)
    before, put_file = s3.cat_file(MODEL), s3.put_file
    monkeypatch.setattr(s3, "put_file", lambda *args: put_file(*args, chunksize=part_size))
    with store.failing("PUT", after=parts):
        affine(3_000_000).save(MODEL)
    assert s3.cat_file(MODEL) == before
    affine(3_000_000).save(MODEL)
    assert inspect_checkpoint(MODEL).model.arguments["size"] == 3_000_000


@pytest.mark.parametrize("after", [0, 1, 2])
def test_failed_upload_of_a_step_leaves_the_one_before(after, s3, store):
    url = "s3://models/runs/second"
    model, optimizer = training()
    save_checkpoint(url, model, optimizer, epoch=0)
    with store.failing("PUT", after=after):
        save_checkpoint(url, *training(), epoch=1)
    other, its_optimizer = training()
    assert load_checkpoint(url, other, its_optimizer) == 0
    assert torch.equal(other.weight, model.weight)


def test_a_file_that_another_process_has_replaced(s3, affine):
    affine(3).save(MODEL)
    s3.ls("models/runs", detail=True)  # what is listed is remembered
    other = type(s3)(skip_instance_cache=True)
    other.rm("models/runs/model.mdlus")
    with pytest.raises(FileNotFoundError, match="no checkpoint file at s3://models/runs/model"):
        inspect_checkpoint(MODEL)
    s3.ls("models", detail=True)
    affine(5).save("memory://replaced.mdlus")
    other.pipe_file("models/runs/model.mdlus", fsspec.filesystem("memory").cat("/replaced.mdlus"))
    assert inspect_checkpoint(MODEL).model.arguments["size"] == 5


@pytest.mark.parametrize("url", [MODEL, "s3://elsewhere/model.mdlus"])
def test_missing_object_or_bucket(url, s3):
    with pytest.raises(FileNotFoundError, match=f"there is no checkpoint file at {url}"):
        Module.from_checkpoint(url)


def test_damaged_object(s3):
    s3.pipe_file("models/runs/model.mdlus", b"no checkpoint")
    with pytest.raises(CheckpointError, match=r"s3://models/runs/model\.mdlus is not a \.mdlus"):
        inspect_checkpoint(MODEL)


@pytest.mark.parametrize(
    "read",
    [
        lambda: inspect_checkpoint(MODEL),
        lambda: Module.from_checkpoint(MODEL),
        lambda: load_checkpoint("s3://models/runs/first", *training()),
    ],
)
def test_a_store_that_does_not_answer_is_no_empty_store(read, s3, store):
    with store.failing("GET", "HEAD"):
        read()


@pytest.mark.parametrize("name", ["lr[8]", "lr?", "lr*", "x::lr8"])
def test_pruning_touches_no_other_run(name, s3):
    model = torch.nn.Linear(2, 1)
    for step in range(2):
        save_checkpoint("s3://models/lr8", model, epoch=step)
    s3.pipe_file("models/x", b"theirs")
    before = set(s3.find("models"))
    for step in range(3):
        save_checkpoint(f"s3://models/{name}", model, epoch=step, keep_last=1)
    s3.invalidate_cache()
    parts = ("Linear.0.2.pt", "checkpoint.0.2.pt", "manifest.0.2.json")
    assert set(s3.find("models")) - before == {f"models/{name}/{part}" for part in parts}
    assert before <= set(s3.find("models"))
    assert s3.cat_file("models/x") == b"theirs"
    assert load_checkpoint(f"s3://models/{name}", model) == 2
    assert load_checkpoint("s3://models/lr8", model, epoch=0) == 0


def test_a_file_in_a_folder_with_brackets(s3, affine):
    affine(3, start=2.0).save("s3://models/[a]*?/model.mdlus")
    affine(3, start=5.0).save("s3://models/axx/model.mdlus")
    assert inspect_checkpoint("s3://models/[a]*?/model.mdlus").model.arguments["start"] == 2.0
    assert Module.from_checkpoint("s3://models/[a]*?/model.mdlus").scale[0] == 2.0
