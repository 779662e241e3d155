# SPDX-License-Identifier: Apache-2.0
"""``physicsnemo export``."""

import itertools
import sys

import pytest
import torch

from physicsnemo import Module
from physicsnemo.core.format.container import write_checkpoint

MODEL = """
import torch
from physicsnemo import Module

class Scaled(Module):
    def __init__(self, size):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(float(size)))

    def forward(self, x, shift=0.0):
        return self.weight * x + shift
"""
X = torch.tensor([[1.0, -2.0, 3.0], [0.5, 0.0, -1.0]])
WEIGHT = torch.arange(3.0)
_count = itertools.count()


@pytest.fixture
def model(install):
    """A model of an installed plugin."""
    name = f"export_lab_{next(_count)}"
    install(name, f"[physicsnemo.models]\nScaled = {name}:Scaled\n", **{name: MODEL})
    return __import__(name).Scaled(3)


@pytest.fixture
def facts():
    def read(result):
        assert result.exit_code == 0, result.output
        pairs = (line.split(maxsplit=1) for line in result.stdout.splitlines() if line)
        return {name: text.strip() for name, text in pairs}

    return read


def test_shapes_are_those_of_the_example_in_the_file(model, tmp_path, physicsnemo, facts):
    file, output = tmp_path / "scaled.mdlus", tmp_path / "scaled.pt2"
    model.save(file, example=(X,))
    found = facts(physicsnemo("export", file, output, "--no-compile"))
    assert found["format"] == "torch.export program for cpu"
    assert found["input"] == "float32 (2, 3)"
    assert found["difference"] == "0.0e+00 of the largest number"
    program = torch.export.load(output).module()
    assert torch.equal(program(2 * X), 2 * X * WEIGHT)


def test_shapes_may_be_given(model, tmp_path, physicsnemo, facts):
    file, output = tmp_path / "scaled.mdlus", tmp_path / "scaled.pt2"
    model.save(file)
    shapes = ("--input", "x=1,3", "--input", "shift=1,3", "--dynamic-batch")
    options = ("--no-compile", "--precision", "float64")
    assert facts(physicsnemo("export", file, output, *shapes, *options))["output"] == (
        "float64 (batch, 3)"
    )
    x = torch.cat((X, X)).double()
    program = torch.export.load(output).module()
    assert torch.equal(program(x=x, shift=x), x * WEIGHT + x)


def test_onnx_by_its_suffix(model, tmp_path, physicsnemo, facts):
    file, output = tmp_path / "scaled.mdlus", tmp_path / "scaled.onnx"
    model.save(file, example={"x": X})
    assert facts(physicsnemo("export", file, output))["format"] == "ONNX model for cpu"
    assert output.stat().st_size > 0


def test_no_input_is_known(model, tmp_path, physicsnemo):
    file = tmp_path / "scaled.mdlus"
    model.save(file)
    result = physicsnemo("export", file, tmp_path / "scaled.pt2")
    assert result.exit_code == 2
    assert "holds no example" in result.stderr
    assert "--input 8,3 or --input x=8,3" in result.stderr
    assert "models of graphs in Python, by physicsnemo.utils.export" in result.stderr


class OnEdges(Module):
    """A model that takes no tensor in place of its graph."""

    def forward(self, x, graph):
        raise TypeError("expected a graph, got torch.Tensor")


def test_a_tensor_in_place_of_a_graph_leads_to_python(tmp_path, physicsnemo):
    OnEdges().save(tmp_path / "edges.mdlus")
    shapes = ("--input", "2,3", "--input", "2,4:2", "--no-compile")
    files = (tmp_path / "edges.mdlus", tmp_path / "edges.pt2")
    result = physicsnemo("export", *files, *shapes)
    assert result.exit_code == 1
    assert "expected a graph, got torch.Tensor; export models of graphs in Python" in result.stderr
    assert "physicsnemo.utils.export with a graph in its example" in result.stderr
    assert not (tmp_path / "edges.pt2").exists()


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("scaled.zip",), 2, "expected a file that ends in .pt2 or .onnx"),
        (("scaled.pt2", "--precision", "bfloat16"), 2, "does not set amp_cpu"),
        (("scaled.pt2", "--input", "2,4"), 1, "the model fails on the example: RuntimeError"),
        (("scaled.pt2", "--input", "mesh=2,3"), 2, "missing a required argument: 'x'"),
        (("scaled.pt2", "--format", "jit"), 2, "'jit' is not one of 'pt2', 'onnx'"),
        (("missing/scaled.pt2",), 1, "there is no folder"),
    ],
)
def test_what_is_refused(model, tmp_path, physicsnemo, options, status, message):
    file = tmp_path / "scaled.mdlus"
    model.save(file, example=(X,))
    result = physicsnemo("export", file, tmp_path / options[0], *options[1:], "--no-compile")
    assert result.exit_code == status
    assert message in result.stderr
    assert [path.name for path in tmp_path.glob("scaled.*")] == [file.name]


def test_a_class_of_a_trusted_module(tmp_path, physicsnemo, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"export_script_{next(_count)}"
    (tmp_path / f"{name}.py").write_text(MODEL)
    record = {"__name__": "Scaled", "__module__": name, "__args__": {"size": 3}}
    write_checkpoint("scaled.mdlus", {"weight": WEIGHT}, record, {})
    command = ("export", "scaled.mdlus", "scaled.pt2", "--no-compile", "--input", "2,3")
    refused = physicsnemo(*command)
    assert refused.exit_code == 1
    assert name in refused.stderr
    result = physicsnemo(*command, "--trust", name)
    assert result.exit_code == 0
    assert torch.equal(torch.export.load("scaled.pt2").module()(X), X * WEIGHT)


class OnHalves(Module):
    """A model that takes no integers."""

    def forward(self, x):
        raise TypeError("expected an input of floating-point numbers, got torch.int64")


def test_other_types_do_not_lead_there(tmp_path, physicsnemo):
    OnHalves().save(tmp_path / "halves.mdlus")
    files = (tmp_path / "halves.mdlus", tmp_path / "halves.pt2")
    result = physicsnemo("export", *files, "--input", "2,3:2", "--no-compile")
    assert result.exit_code == 1
    assert "got torch.int64" in result.stderr
    assert "graph in its example" not in result.stderr
