# SPDX-License-Identifier: Apache-2.0
"""A file may hold an example of its model at work, which verify compares."""

import io
import json
import re
import sys
import tarfile
import zipfile

import pytest
import torch

from physicsnemo import Module, inspect_checkpoint
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.format.container import open_checkpoint, write_checkpoint
from physicsnemo.core.rebuild.verify import verify_checkpoint

X = torch.tensor([[1.0, 2.0], [3.0, -4.0]])


class Net(Module):
    """Draws, keeps a mode, and returns more than one thing."""

    def __init__(self, factor=3.0):
        super().__init__()
        self.factor = factor
        self.linear = torch.nn.Linear(2, 2)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, x, scale=1.0, more=None):
        noise = torch.rand(())
        y = self.dropout(self.linear(x)) * self.factor * scale
        x.zero_()  # which is none of the example's business
        return {"y": y, "others": (noise, None if more is None else more["z"] + 1, "text")}


def verdict(path, trusted=(Net,)):
    return verify_checkpoint(path, list(trusted))[-1]


def members(path):
    if path.read_bytes().startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            assert all(it.compress_type == zipfile.ZIP_STORED for it in archive.infolist())
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


def rewrite(path, **content):
    """Replace members of a tar, by names with an underscore for the dot."""
    parts = members(path) | {name.replace("_", "."): data for name, data in content.items()}
    with tarfile.open(path, "w") as archive:
        for name, data in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def saved(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "example", [(X,), (X, 2.0, {"z": X}), {"x": X, "more": {"z": X}, "scale": 0.5}]
)
@pytest.mark.parametrize("release", [None, "1.2", "2.2"])
def test_an_example_is_stored_last_and_compared(example, release, tmp_path):
    path, model = tmp_path / "model.mdlus", Net()
    model.linear.eval()
    model.save(path, example=example, for_release=release)
    assert X.eq(torch.tensor([[1.0, 2.0], [3.0, -4.0]])).all()
    assert model.training
    assert not model.linear.training
    assert list(members(path)) == ["model.pt", "args.json", "metadata.json", "example.pt"]
    model.save(tmp_path / "plain.mdlus", for_release=release)
    plain = members(tmp_path / "plain.mdlus")
    assert all(members(path)[name] == plain[name] for name in list(plain)[1:])
    assert inspect_checkpoint(path).has_example
    assert not inspect_checkpoint(tmp_path / "plain.mdlus").has_example
    found = verdict(path)
    assert (found.part, found.passed) == ("example", True)
    assert found.finding.startswith("4 outputs, which differ by 0.0e+00 of the largest number")
    assert verdict(tmp_path / "plain.mdlus").part == "model"
    Module.from_checkpoint(path).save(path)  # which has none of its own
    assert not inspect_checkpoint(path).has_example


def test_nothing_random_is_drawn_from_the_program(tmp_path):
    torch.manual_seed(3)
    model = Net()
    state = torch.random.get_rng_state()
    model.save(tmp_path / "model.mdlus", example=(X,))
    assert torch.equal(torch.random.get_rng_state(), state)


def with_weights(path, model, example):
    """Write a file of which the example does not belong to the weights."""
    other = type(model)()
    other.save(path, example=example)
    stored = members(path)["example.pt"]
    model.save(path)
    rewrite(path, example_pt=stored)


def test_what_differs_is_told(tmp_path):
    path = tmp_path / "model.mdlus"
    with_weights(path, Net(), (X,))
    found = verdict(path)
    assert not found.passed
    assert "output 1 of 4 for the example in" in found.finding
    assert "of the largest number in it; 3.5e-04 is allowed for float32" in found.finding


class Cast(Module):
    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.factor * x


@pytest.mark.parametrize(
    ("dtype", "error", "passed"),
    [
        (torch.float64, 1e-9, True),
        (torch.float64, 1e-6, False),
        (torch.float32, 1e-4, True),
        (torch.float32, 1e-3, False),
        (torch.bfloat16, 0.05, True),
        (torch.bfloat16, 0.2, False),
        (torch.float16, 0.01, True),
        (torch.float16, 0.1, False),
        (torch.complex64, 1e-4, True),
        (torch.complex64, 1e-3, False),
    ],
)
def test_tolerance_is_that_of_the_type(dtype, error, passed, tmp_path):
    path, model = tmp_path / "model.mdlus", Cast()
    model.to(torch.float32 if dtype.is_complex else dtype)
    model.save(path, example=(torch.ones(3, dtype=dtype),))
    model.factor.data *= 1 + error
    stored = members(path)["example.pt"]
    model.save(path)
    rewrite(path, example_pt=stored)
    assert verdict(path, [Cast]).passed == passed


def test_nan_is_compared_too(tmp_path):
    path, x = tmp_path / "model.mdlus", torch.tensor([1.0, float("nan"), float("inf")])
    Cast().save(path, example=(x,))
    assert verdict(path, [Cast]).passed
    good = torch.load(io.BytesIO(members(path)["example.pt"]), weights_only=True)
    rewrite(path, example_pt=saved(good | {"args": (torch.ones(3),)}))
    assert "(NaN) in other places" in verdict(path, [Cast]).finding


GOOD = {"args": (X,), "kwargs": {}, "outputs": [2 * X]}


@pytest.mark.parametrize(
    ("example", "text"),
    [
        ({}, "has no inputs and outputs"),
        (GOOD | {"more": 1}, "has no inputs and outputs"),
        (GOOD | {"args": X}, "has no inputs and outputs"),
        (GOOD | {"args": (X, X, X)}, "Cast fails on the example in .* TypeError"),
        (GOOD | {"kwargs": {"y": 1}}, "Cast fails on the example"),
        (GOOD | {"args": ("text",)}, "Cast fails on the example"),
        (GOOD | {"outputs": []}, "returns 1 values for the example in .*, which holds 0"),
        (GOOD | {"outputs": [X[0]]}, r"is a tensor of shape \(2, 2\) .* expected \(2,\)"),
        (GOOD | {"outputs": [(2 * X).double()]}, "torch.float32, expected .* torch.float64"),
        (
            GOOD | {"outputs": [(2 * X).to_sparse()]},
            "has the layout torch.strided, expected|cannot be read: Sparse",
        ),
        (GOOD | {"outputs": ["text"]}, "output 1 of 1 .* is tensor.* expected 'text'"),
        (GOOD | {"outputs": [2 * X, len]}, "example.pt in .* cannot be read"),
        ([X], "example.pt in .* cannot be read"),
        (b"no pickle", "example.pt in .* cannot be read"),
        (b"", "example.pt in .* cannot be read"),
    ],
)
def test_hostile_examples(example, text, tmp_path):
    path = tmp_path / "model.mdlus"
    Cast().save(path)
    rewrite(path, example_pt=example if isinstance(example, bytes) else saved(example))
    verdicts = verify_checkpoint(path, [Cast])
    assert [it.passed for it in verdicts] == [True] * 6 + [False]
    assert re.search(text, verdicts[-1].finding)
    assert Module.from_checkpoint(path).factor == 2  # which does not read it


@pytest.mark.parametrize("place", range(0, 1500, 40))
def test_a_damaged_example_is_a_checkpoint_error(place, tmp_path):
    path = tmp_path / "model.mdlus"
    Cast().save(path, example=(torch.arange(64.0),))
    data = bytearray(members(path)["example.pt"])
    data[place % len(data)] ^= 0xFF
    rewrite(path, example_pt=bytes(data))
    with open_checkpoint(path) as checkpoint:
        try:
            example = checkpoint.example()
        except CheckpointError:
            return
        assert torch.equal(example["args"][0], torch.arange(64.0))  # in bytes that say nothing


@pytest.mark.parametrize(
    ("example", "text"),
    [
        (X, "a tuple of inputs, or a dictionary of them by name, got a Tensor"),
        ([X], "got a list"),
        ((X, object()), r"the example for Net cannot be saved: 'args'\[1\] is a builtins.object;"),
        ({"x": X, "more": {1: X}}, "a key of 'kwargs'.* is a builtins.int, expected text"),
        ((X.to("meta"),), "lies on the meta device"),
    ],
)
def test_what_no_file_can_hold(example, text, tmp_path):
    with pytest.raises(TypeError, match=text):
        Net().save(tmp_path / "model.mdlus", example=example)
    assert not list(tmp_path.iterdir())


def test_what_the_command_line_tells(physicsnemo, tmp_path, monkeypatch):
    (tmp_path / "lab_of_examples.py").write_text(
        "import torch\nfrom physicsnemo import Module\n"
        "class Twice(Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.factor = torch.nn.Parameter(torch.tensor(2.0))\n"
        "    def forward(self, x):\n        return self.factor * x\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import lab_of_examples

    path, model = tmp_path / "twice.mdlus", lab_of_examples.Twice()
    model.save(path, example=(X,))
    told = physicsnemo("info", path).stdout
    assert "inputs and outputs, which physicsnemo verify compares" in told
    assert json.loads(physicsnemo("info", path, "--json").stdout)["example"] is True
    result = physicsnemo("verify", path, "--trust", "lab_of_examples")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].split()[:2] == ["example", "passed"]
    stored = members(path)["example.pt"]
    model.factor.data += 1
    model.save(path)
    rewrite(path, example_pt=stored)
    result = physicsnemo("verify", path, "--trust", "lab_of_examples", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["parts"][-1]["passed"] is False
    assert "lab_of_examples" in sys.modules


def test_files_hold_examples_wherever_they_are_written():
    Cast().save("memory://example.mdlus", example=(X,))
    assert verdict("memory://example.mdlus", [Cast]).passed
    write_checkpoint(
        "memory://example.mdlus", {}, {"__name__": "A", "__module__": "b", "__args__": {}}, {}
    )
    assert not inspect_checkpoint("memory://example.mdlus").has_example
