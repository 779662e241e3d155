# SPDX-License-Identifier: Apache-2.0
"""How weights get from a file into a model: once, and none that does not belong."""

import io
import json
import os
import tarfile
import zipfile

import pytest
import torch

from physicsnemo import Module
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.format.container import open_checkpoint, write_checkpoint


class Stack(Module):
    """Linear layers, and a buffer that the constructor computes and no file holds."""

    def __init__(self, width, depth, tied=False):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(width, width) for _ in range(depth))
        if tied:
            self.layers[-1].weight = self.layers[0].weight
        self.register_buffer("ramp", torch.arange(float(width)), persistent=False)


class Normalized(Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(2)


class Stubborn(Module):
    """Cannot be built on the meta device."""

    def __init__(self, width):
        super().__init__()
        total = int(torch.ones(width).sum().item())
        self.weight = torch.nn.Parameter(torch.zeros(total))


class Choosy(Module):
    """Draws weights until it likes them, beginning with what is in memory."""

    def __init__(self):
        super().__init__()
        self.bounded = torch.nn.Parameter(torch.full((4,), 100.0))
        torch.nn.init.trunc_normal_(self.bounded, std=0.02)
        self.narrow = torch.nn.Parameter(torch.full((4,), 100.0))
        torch.nn.init.trunc_normal_(self.narrow, mean=3.0)
        self.chosen = torch.nn.Parameter(torch.full((4,), 100.0))
        with torch.no_grad():
            while self.chosen.max() > 1:
                self.chosen.normal_(0, 0.1)


def rewrite(path, metadata=None, **changed):
    """Write a file again with other arguments, and other metadata where some is given."""
    with tarfile.open(path) as archive:
        members = {m.name: archive.extractfile(m).read() for m in archive}
    arguments = json.loads(members["args.json"])
    arguments["__args__"] |= changed
    members["args.json"] = json.dumps(arguments).encode()
    if metadata is not None:
        members["metadata.json"] = json.dumps(metadata).encode()
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


@pytest.fixture
def saved(tmp_path):
    model = Stack(4, 3)
    model.save(tmp_path / "stack.mdlus")
    return tmp_path / "stack.mdlus", model


def assert_same(model, other):
    state = other.state_dict()
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_weights_lie_in_the_file_but_writing_to_them_does_not(saved):
    path, model = saved
    before = path.read_bytes()
    twin = Module.from_checkpoint(path)
    with torch.no_grad():
        twin.layers[0].weight.zero_()
    assert path.read_bytes() == before
    assert_same(Module.from_checkpoint(path), model)


def test_a_loaded_model_survives_saving_over_its_file(saved):
    path, model = saved
    twin = Module.from_checkpoint(path)
    Stack(2, 1).save(path)
    assert_same(twin, model)
    twin.save(path)
    assert_same(Module.from_checkpoint(path), model)


def test_weights_that_lie_in_a_file_are_written_to_another(saved, tmp_path):
    path, model = saved
    with open_checkpoint(path) as file:
        state, arguments, metadata = file.state_dict(), file.arguments, file.metadata
    write_checkpoint(tmp_path / "copy.mdlus", state, arguments, metadata)
    assert_same(Module.from_checkpoint(tmp_path / "copy.mdlus"), model)


@pytest.mark.parametrize("mmap", [False, True])
def test_weights_lie_anywhere_in_a_file(saved, mmap):
    path, model = saved
    with tarfile.open(path) as archive:
        members = {m.name: archive.extractfile(m).read() for m in archive}
    for extra in range(1, 9):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x" * extra, b"")  # moves what follows
            for name, content in members.items():
                archive.writestr(name, content)
        assert_same(Module.from_checkpoint(path, mmap=mmap), model)


def test_a_loaded_model_does_not_change_with_its_file(saved):
    path, model = saved
    twin = Module.from_checkpoint(path)
    path.write_bytes(bytes(path.stat().st_size))
    assert_same(twin, model)
    os.truncate(path, 0)
    assert_same(twin, model)


def test_mapped_weights_lie_in_the_file(saved):
    path, model = saved
    twin = Module.from_checkpoint(path, mmap=True)
    content = path.read_bytes()
    numbers = model.layers[0].weight.detach().numpy().tobytes()
    path.write_bytes(content.replace(numbers, bytes(len(numbers))))
    assert not twin.layers[0].weight.any()
    assert torch.equal(twin.layers[1].weight, model.layers[1].weight)


def test_a_file_that_is_cut_off_while_it_is_read(saved, monkeypatch):
    path, _ = saved
    Stack(64, 3).save(path)
    with open_checkpoint(path) as file:
        file.outline()
        os.truncate(path, 20_000)
        with pytest.raises(CheckpointError, match="cannot be read: the file ended .* too early"):
            file.state_dict()


def test_files_of_old_pytorch_are_read(saved, monkeypatch):
    path, model = saved
    save = torch.save
    monkeypatch.setattr(
        torch, "save", lambda *args: save(*args, _use_new_zipfile_serialization=False)
    )
    model.save(path)
    assert_same(Module.from_checkpoint(path), model)


def test_constructor_that_draws_until_it_likes_the_weights(tmp_path):
    model = Choosy()
    model.save(tmp_path / "choosy.mdlus")
    assert_same(Module.from_checkpoint(tmp_path / "choosy.mdlus"), model)


def test_computed_buffers_are_right(saved):
    assert Module.from_checkpoint(saved[0]).ramp.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_weights_that_the_file_lacks_are_initialized(saved):
    path, model = saved
    rewrite(path, depth=4)
    with pytest.raises(CheckpointError, match=r"2 missing: layers.3.weight, layers.3.bias"):
        Module.from_checkpoint(path)
    torch.manual_seed(0)
    twin = Module.from_checkpoint(path, strict=False)
    torch.manual_seed(0)
    fresh = Stack(4, 4)
    assert torch.equal(twin.layers[3].weight, fresh.layers[3].weight)
    assert torch.equal(twin.layers[2].weight, model.layers[2].weight)


def test_weights_of_another_writer_are_cast_to_the_type_of_the_model(tmp_path):
    model = Stack(4, 1).double()
    model.save(tmp_path / "double.mdlus")
    rewrite(tmp_path / "double.mdlus", metadata={"physicsnemo_version": "1.2.0"})
    twin = Module.from_checkpoint(tmp_path / "double.mdlus")
    assert twin.layers[0].weight.dtype is torch.float32
    assert torch.equal(twin.layers[0].weight, model.layers[0].weight.float())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_models_keep_the_type_that_they_were_saved_in(tmp_path, dtype):
    model = Stack(4, 1).to(dtype)
    model.save(tmp_path / "typed.mdlus")
    twin = Module.from_checkpoint(tmp_path / "typed.mdlus")
    assert {it.dtype for it in [*twin.parameters(), *twin.buffers()]} == {dtype}
    assert_same(twin, model)


def test_each_weight_keeps_its_type(tmp_path):
    model = Stack(4, 2)
    model.layers[1].double()
    model.save(tmp_path / "mixed.mdlus")
    twin = Module.from_checkpoint(tmp_path / "mixed.mdlus")
    assert twin.layers[0].weight.dtype is torch.float32
    assert twin.layers[1].weight.dtype is torch.float64
    assert_same(twin, model)


def test_the_default_type_changes_no_loaded_model(saved):
    path, model = saved
    torch.set_default_dtype(torch.float64)
    try:
        twin = Module.from_checkpoint(path)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {it.dtype for it in [*twin.parameters(), *twin.buffers()]} == {torch.float32}
    assert_same(twin, model)


def test_map_location(saved):
    assert Module.from_checkpoint(saved[0], map_location="meta").device.type == "meta"


def test_weights_tied_by_the_constructor_stay_tied(tmp_path):
    model = Stack(4, 3, tied=True)
    model.save(tmp_path / "tied.mdlus")
    twin = Module.from_checkpoint(tmp_path / "tied.mdlus")
    assert twin.layers[2].weight is twin.layers[0].weight
    assert_same(twin, model)


def test_weights_tied_by_the_file_alone_train_apart(saved):
    path, model = saved
    model.layers[2].weight = model.layers[0].weight
    model.save(path)
    twin = Module.from_checkpoint(path)
    with torch.no_grad():
        twin.layers[0].weight.zero_()
    assert twin.layers[2].weight.any()


def test_modules_that_load_in_their_own_way(tmp_path):
    model = Normalized()
    model.norm(torch.randn(8, 2))
    model.save(tmp_path / "normalized.mdlus")
    assert_same(Module.from_checkpoint(tmp_path / "normalized.mdlus"), model)


def test_constructor_that_needs_values(tmp_path):
    model = Stubborn(5)
    model.save(tmp_path / "stubborn.mdlus")
    assert_same(Module.from_checkpoint(tmp_path / "stubborn.mdlus"), model)


@pytest.mark.parametrize(
    ("width", "reason"),
    [
        (5, r"of another shape: .*expected \(5,\)"),
        (10**5, "asks for tensors of 40000000000 bytes, and holds weights of"),
        (10**9, "asks for tensors of 4000000000000000000 bytes, and holds weights of"),
    ],
)
def test_arguments_of_another_size_than_the_weights(saved, width, reason):
    path, _ = saved
    rewrite(path, width=width)
    with pytest.raises(CheckpointError, match=reason):
        Module.from_checkpoint(path)


def test_arguments_that_mean_countless_modules(saved):
    path, _ = saved
    rewrite(path, depth=10**9)
    with pytest.raises(CheckpointError, match="asks for more than 2700 modules"):
        Module.from_checkpoint(path)


def test_arguments_that_the_constructor_refuses(saved):
    path, _ = saved
    rewrite(path, width="wide")
    with pytest.raises(CheckpointError, match="Stack cannot be built from the arguments in the"):
        Module.from_checkpoint(path)
