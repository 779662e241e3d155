# SPDX-License-Identifier: Apache-2.0
"""State dicts of other releases are read by this class's keys, or refused if they differ."""

import io
import json
import tarfile
import zipfile

import pytest
import torch

from physicsnemo import Module
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.format.container import write_checkpoint
from physicsnemo.core.rebuild.weights import customizes_state_dict
from physicsnemo.core.releases import (
    latest,
    release_of,
    shown_by_state,
    to_current_keys,
    to_release_keys,
)
from physicsnemo.models.history import (
    Argument,
    Constant,
    Ignored,
    Implied,
    Renamed,
    Twin,
    Value,
    follow_history,
)


class Layer(torch.nn.Module):
    """Was called otherwise from 1.3 on, and shows its scale since 2.0; its grid was kept before."""

    _state_history = (
        Renamed("first.", "layers.0.", since="1.3"),
        Constant("scale", since="2.0"),
        Constant("grid", until="1.3"),
    )

    def __init__(self, scale):
        super().__init__()
        self.first = torch.nn.Linear(2, 2)
        self.scale = scale
        self.register_buffer("grid", torch.arange(3.0))


class Net(Module):
    _argument_history = (Argument("backend", "pyg", since="1.3", ignored=("dgl",)),)

    def __init__(self, scale=0.5):
        super().__init__()
        self.layer = Layer(scale)

    def forward(self, x):
        return self.layer.scale * self.layer.first(x)


KEYS = {
    "1.2": {"device_buffer", "layer.first.weight", "layer.first.bias", "layer.grid"},
    "1.3": {"device_buffer", "layer.layers.0.weight", "layer.layers.0.bias"},
    "2.0": {"layer.layers.0.weight", "layer.layers.0.bias", "layer.scale"},
}


@pytest.mark.parametrize("release", KEYS)
def test_keys_of_every_release_both_ways(release):
    model = Net()
    state = to_release_keys(model, model.state_dict(), release)
    assert state.keys() == KEYS[release]
    back = to_current_keys(model, state, "a file")
    assert back.keys() | {"device_buffer"} == model.state_dict().keys()
    for key, tensor in back.items():
        assert torch.equal(tensor, model.state_dict()[key])
    assert to_current_keys(model, back, "a file").keys() == back.keys()


def test_a_constant_that_contradicts_the_arguments_is_refused():
    state = to_release_keys(Net(0.5), Net(0.5).state_dict(), "2.0")
    with pytest.raises(CheckpointError, match=r"layer\.scale in a file is 0\.5, .* make it 0\.25"):
        to_current_keys(Net(0.25), state, "a file")


def test_two_names_for_one_tensor_are_refused():
    state = Net().state_dict()
    state["layer.layers.0.bias"] = state["layer.first.bias"]
    with pytest.raises(CheckpointError, match=r"first\.bias by another name too, layer\.layers"):
        to_current_keys(Net(), state, "a file")


@pytest.mark.parametrize(
    ("keys", "is_zip", "release"),
    [
        (["device_buffer", "layer.first.weight", "layer.grid"], False, "1.2"),
        (["device_buffer", "layer.first.weight"], False, "1.3"),  # which keeps no grid
        (["device_buffer", "layer.layers.0.weight"], False, "1.3"),
        (["layer.layers.0.weight"], False, "2.0"),
        (["device_buffer", "layer.first.weight"], True, "2.0"),
    ],
)
def test_the_release_of_a_file_that_claims_none(keys, is_zip, release):
    container = release_of({"physicsnemo_version": None}, keys, is_zip)
    age = latest([container, *shown_by_state(Net(), keys)])
    assert age.release == release
    assert age.reason.startswith("the oldest")
    assert not age.is_claimed
    assert release_of({"physicsnemo_version": "2.1.1"}, keys, is_zip).release == "2.1.1"


class Choice(Net):
    """Differs by release in an argument that the reference does not know."""

    _implied_args = {
        "1.2": {"numerics": Implied("reference-1.2", ("reference-1.2", "reference-1.3"))},
        "2.0": {"numerics": Implied("reference-2.0")},
    }
    _argument_history = (
        Argument("backend", "pyg", since="1.3", ignored=("dgl",)),
        Argument("bottleneck", True, since="2.0"),
        Value("mode", "new", since="2.0"),
        Value("mode", "old", until="1.3"),
        Value("mode", list, since="1.3"),
        Renamed("here.", "there.", until="2.0"),
    )
    _recorded_by_release = {"2.0": "elsewhere.layers.Pick"}

    def __init__(self, numerics="paper", bottleneck=True, mode=None):
        super().__init__()
        self.numerics, self.bottleneck, self.mode = numerics, bottleneck, mode


OLD = {"numerics": "reference-1.2"}


def content(path):
    if path.read_bytes().startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            assert all(it.compress_type == zipfile.ZIP_STORED for it in archive.infolist())
            members = {name: archive.read(name) for name in archive.namelist()}
    else:
        with tarfile.open(path) as archive:
            members = {member.name: archive.extractfile(member).read() for member in archive}
    assert list(members) == ["model.pt", "args.json", "metadata.json"]
    state = torch.load(io.BytesIO(members["model.pt"]), weights_only=True)
    return state, json.loads(members["args.json"]), json.loads(members["metadata.json"])


@pytest.mark.parametrize(
    ("release", "numerics", "arguments", "is_zip"),
    [
        ("1.2", "reference-1.2", {"mode": None}, False),
        ("1.2", "reference-1.3", {"mode": None}, False),  # which means the same
        ("1.3", "reference-1.2", {"mode": None, "backend": "pyg"}, False),
        ("2.0", "reference-2.0", {"mode": None, "backend": "pyg", "bottleneck": True}, True),
    ],
)
def test_a_file_for_a_release(tmp_path, release, numerics, arguments, is_zip):
    model, path = Choice(numerics), tmp_path / "model.mdlus"
    model.save(path, for_release=release)
    state, record, metadata = content(path)
    assert path.read_bytes().startswith(b"PK") == is_zip
    assert state.keys() == KEYS[release]
    assert record["__args__"] == arguments
    assert metadata["physicsnemo_version"] == f"{release}.0"
    assert (record["__name__"] == "Pick") == (release == "2.0")
    if release != "2.0":  # there, the file is recorded under another name
        assert Module.from_checkpoint(path).numerics == "reference-1.2"


@pytest.mark.parametrize(
    ("arguments", "release", "text"),
    [
        ({"numerics": "paper"}, "1.2", r"numerics='paper' cannot be said .* 1\.2"),
        ({"numerics": "reference-2.0"}, "1.3", r"numerics='reference-2\.0' cannot be said"),
        ({"numerics": "reference-1.2", "bottleneck": False}, "1.3", r"bottleneck=False cannot"),
        (OLD | {"mode": "new"}, "1.3", r"mode='new' cannot be said .* 1\.3, which refuses it"),
        (OLD | {"mode": "old"}, "1.3", "mode='old' cannot be said"),
        (OLD | {"mode": [1]}, "1.2", r"mode=\[1\] cannot be said"),
        ({}, "new", r"a release such as '1\.2' or '2\.2', got 'new'"),
    ],
)
def test_what_a_release_cannot_say_is_refused_before_writing(tmp_path, arguments, release, text):
    with pytest.raises(ValueError, match=text):
        Choice(**arguments).save(tmp_path / "model.mdlus", for_release=release)
    assert not list(tmp_path.iterdir())


def test_an_argument_that_only_the_reference_has(tmp_path):
    path = tmp_path / "model.mdlus"
    Choice("reference-1.3").save(path, for_release="1.3")
    same = Module.from_checkpoint(path)
    assert same.numerics == "reference-1.2"
    assert same.layer.grid.tolist() == [0, 1, 2]  # which the file leaves out
    rewritten = path.read_bytes().replace(b'"backend": "pyg"', b'"backend": "abc"')
    path.write_bytes(rewritten)
    with pytest.raises(CheckpointError, match=r"backend='abc', .* expected one of 'pyg', 'dgl'"):
        Module.from_checkpoint(path)


class Grouped(torch.nn.Module):
    """Was trained by another library, whose names and additions files have."""

    _state_history = (
        Twin("weight", "twin.weight", until="2.0"),
        Ignored("_extra_state"),
        Constant("mask", tolerance=None),
    )

    def __init__(self, with_twin=False):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))
        self.twin = torch.nn.Module() if with_twin else None
        if self.twin is not None:
            self.twin.weight = self.weight
        self.register_buffer("mask", torch.ones(3))
        follow_history(self)


def load_by_history(model, state):
    model.load_state_dict(to_current_keys(model, state, "a file"))


@pytest.mark.parametrize("with_twin", [False, True])
@pytest.mark.parametrize("load", [load_by_history, torch.nn.Module.load_state_dict])
@pytest.mark.parametrize(
    "names", [{"weight": 5}, {"twin.weight": 5}, {"weight": 1, "twin.weight": 5}], ids=str
)
def test_a_tensor_by_two_names(names, load, with_twin):
    """Models and files may have either; of both, the second counts."""
    state = {f"layer.{name}": torch.full((2,), float(it)) for name, it in names.items()}
    model = torch.nn.ModuleDict({"layer": Grouped(with_twin)})
    load(model, {**state, "layer.deep._extra_state": torch.ones(1)})  # and no mask
    assert model["layer"].weight.tolist() == [5, 5]
    expected = {"layer.weight", "layer.mask", *(["layer.twin.weight"] if with_twin else [])}
    written = to_release_keys(model, model.state_dict(), "1.3")
    assert written.keys() == expected
    assert to_release_keys(model, written, "2.0").keys() == {"layer.weight", "layer.mask"}


@pytest.mark.parametrize("load", [load_by_history, torch.nn.Module.load_state_dict])
def test_a_constant_of_any_value_leaves_the_own(load):
    model = Grouped()
    load(model, {"weight": torch.ones(2), "mask": torch.zeros(7)})
    assert model.mask.tolist() == [1, 1, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_constants_are_compared_as_precisely_as_both_are_kept(dtype):
    model = Net(0.7)
    state = {**model.state_dict(), "layer.scale": torch.tensor(0.7, dtype=torch.float64).to(dtype)}
    state["layer.grid"] = model.layer.grid.to(dtype)
    to_current_keys(model, state, "a file")
    state["layer.scale"] = state["layer.scale"] * 1.03
    with pytest.raises(CheckpointError, match=r"layer\.scale in a file is 0\.7[12]"):
        to_current_keys(model, state, "a file")


def test_a_constant_that_the_state_keeps_is_compared_too():
    model = Net()
    state = {**model.state_dict(), "layer.grid": torch.arange(3.0) + 1}
    with pytest.raises(CheckpointError, match=r"grid in a file is \[1\.0, 2\.0, 3\.0\], and the"):
        to_current_keys(model, state, "a file")


@pytest.mark.parametrize(
    "value", [3.5, torch.eye(3).to_sparse(), torch.tensor(0.5 + 1j), torch.ones(2), torch.tensor(2)]
)
def test_a_constant_that_is_none(value):
    with pytest.raises(CheckpointError, match=r"layer\.scale in a file is"):
        to_current_keys(Net(), {**Net().state_dict(), "layer.scale": value}, "a file")


def test_weights_are_taken_without_a_copy_by_modules_that_follow_a_history():
    assert not customizes_state_dict(Net())
    assert not customizes_state_dict(Grouped())
    model = Grouped()
    model.register_load_state_dict_pre_hook(lambda *_: None)
    assert customizes_state_dict(model)


def test_paths_in_arguments_are_those_of_the_release(tmp_path):
    mode = {"a": ["here.One", "nowhere.Two"], "b": "here"}
    for release, first in (("1.3", "there.One"), ("2.0", "here.One")):
        model = Choice(f"reference-{release}", mode=mode)
        model.save(tmp_path / "model.mdlus", for_release=release)
        _, record, _ = content(tmp_path / "model.mdlus")
        assert record["__args__"]["mode"] == {"a": [first, "nowhere.Two"], "b": "here"}


class Wrapper(Choice):
    """Passes on what it is given."""

    def __init__(self, numerics="paper", **more):
        super().__init__(numerics, **more)


def test_arguments_that_are_passed_on(tmp_path):
    path = tmp_path / "model.mdlus"
    Wrapper(**OLD, bottleneck=True).save(path, for_release="1.3")
    assert content(path)[1]["__args__"] == {}
    with pytest.raises(ValueError, match="bottleneck=False cannot be said"):
        Wrapper(**OLD, bottleneck=False).save(path, for_release="1.3")
    Wrapper("reference-2.0", bottleneck=False).save(path, for_release="2.0")
    assert Module.from_checkpoint(path).bottleneck is False


def unclaimed(path, model, release):
    """Write a file of a release that claims none."""
    model.save(path, for_release=release)
    state, record, _ = content(path)
    metadata = {"physicsnemo_version": None, "mdlus_file_version": "0.1.0"}
    write_checkpoint(path, state, record, metadata)


@pytest.mark.parametrize(
    ("release", "numerics", "reason"),
    [
        ("1.2", "reference-1.2", "the oldest, since neither container nor keys"),
        ("1.3", "reference-1.2", "writes the argument backend='pyg'"),
        ("2.0", "reference-2.0", "writes no device_buffer"),
    ],
)
def test_a_file_that_claims_no_release_shows_it(tmp_path, caplog, release, numerics, reason):
    path = tmp_path / "model.mdlus"
    unclaimed(path, Old(numerics), release)
    assert Module.from_checkpoint(path).numerics == numerics
    assert f"is read as a file of release {release} of" in caplog.text
    assert reason in caplog.text


class Old(Choice):
    """Is recorded as itself, and shows its release by its state alone."""

    _argument_history = (Argument("backend", "pyg", since="1.3", until="2.0"),)

    def __init__(self, numerics="paper"):
        super().__init__(numerics)


class Plain(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear = torch.nn.Linear(width, width)


@pytest.mark.parametrize("release", ["1.2", "1.3", "2.0", "2.2"])
def test_a_converted_class_by_the_name_of_the_release(release, tmp_path):
    model_class, path = Module.from_torch(Plain), tmp_path / "model.mdlus"
    model_class(3).save(path, for_release=release)
    _, record, _ = content(path)
    expected = ("physicsnemo.models.module", "PlainPhysicsNeMoModel")
    if release >= "2.0":
        expected = ("physicsnemo.core.module", "Plain")
    assert (record["__module__"], record["__name__"]) == expected
    assert type(Module.from_checkpoint(path)) is model_class
