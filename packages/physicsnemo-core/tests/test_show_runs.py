# SPDX-License-Identifier: Apache-2.0
"""The model at work on the page of ``physicsnemo show``."""

import itertools
import sys

import pytest
import torch

from physicsnemo.cli.page.inputs import Call
from physicsnemo.cli.page.runs import RunError, Runner
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.format.container import write_checkpoint

MODEL = """
import torch
from physicsnemo import Module

class Scaled(Module):
    def __init__(self, size):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(float(size)))
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, x, shift=0.0):
        if x.shape[-1] != len(self.weight):
            raise ValueError(f"expected {len(self.weight)} columns, got {x.shape[-1]}")
        scaled = self.dropout(self.weight * x) + shift
        return {"scaled": scaled, "noise": torch.rand(2), "unit": "m"}
"""
X = torch.tensor([[1.0, -2.0, 3.0], [0.5, 0.0, -1.0]])
WEIGHT = torch.arange(3.0)
_count = itertools.count()


@pytest.fixture
def lab(install):
    """The module of an installed plugin with one model; not imported, and of no other test."""
    name = f"show_lab_{next(_count)}"
    install(name, f"[physicsnemo.models]\nScaled = {name}:Scaled\n", **{name: MODEL})
    return name


@pytest.fixture
def file(lab, tmp_path):
    """A file of that model, which names a class that is not imported."""
    return write(tmp_path / "scaled.mdlus", lab)


def write(path, module, state=None):
    record = {"__name__": "Scaled", "__module__": module, "__args__": {"size": 3}}
    write_checkpoint(str(path), state or {"weight": WEIGHT}, record, {})
    return str(path)


def test_the_model_is_loaded_by_the_first_run(file, lab):
    runner = Runner(file)
    assert runner.example() is None
    assert lab not in sys.modules
    run = runner.run(Call((X,), {"shift": 1.0}))
    assert lab in sys.modules
    assert list(run.inputs) == ["input 1"]
    assert list(run.outputs) == ["output['scaled']", "output['noise']"]
    assert torch.equal(run.outputs["output['scaled']"], WEIGHT * X + 1)  # without dropout
    assert (run.finding, run.agrees) == (None, True)
    assert run.seconds > 0
    state = torch.random.get_rng_state()
    again = runner.run(Call((X,), {}))
    assert torch.equal(again.outputs["output['noise']"], run.outputs["output['noise']"])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not run.outputs["output['scaled']"].requires_grad


def test_the_example_is_compared(file, lab, registry, tmp_path):
    path = str(tmp_path / "with.mdlus")
    registry.factory("Scaled")(3).save(path, example=(X,))
    runner = Runner(path)
    run = runner.run(runner.example())
    assert run.agrees
    assert run.finding.startswith("3 outputs, which differ by 0.0e+00")
    other = runner.run(Call((2 * X,), {}))
    assert other.finding is None
    assert torch.equal(other.outputs["output['scaled']"], WEIGHT * 2 * X)


def test_an_example_of_other_weights(lab, registry, tmp_path):
    path = tmp_path / "with.mdlus"
    model = registry.factory("Scaled")(3)
    model.save(path, example=(X,))
    old = torch.arange(3.0).numpy().tobytes()
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, (2 * torch.arange(3.0)).numpy().tobytes()))
    runner = Runner(str(path))
    run = runner.run(runner.example())
    assert not run.agrees
    assert "output 1 of 3 for the example" in run.finding
    assert torch.equal(run.outputs["output['scaled']"], 2 * WEIGHT * X)


def test_inputs_that_do_not_fit(file, registry, tmp_path):
    wrong = Call((torch.ones(2, 4),), {})
    with pytest.raises(RunError) as caught:
        Runner(file).run(wrong)
    text = "Scaled fails on input of shape (2, 4): ValueError: expected 3 columns, got 4."
    assert str(caught.value) == text
    path = str(tmp_path / "with.mdlus")
    registry.factory("Scaled")(3).save(path, example={"x": X})
    runner = Runner(path)
    runner.example()
    with pytest.raises(RunError) as caught:
        runner.run(wrong)
    assert str(caught.value) == f"{text} The example in the file has x of shape (2, 3)."
    with pytest.raises(RunError, match="Scaled fails on no tensors: TypeError: .* missing 1 req"):
        runner.run(Call((), {}))


def test_the_type_of_the_weights(file, lab, tmp_path):
    assert Runner(file).dtype() is torch.float32
    path = str(tmp_path / "double.mdlus")
    __import__(lab).Scaled(3).double().save(path)
    assert Runner(path).dtype() is torch.float64


def test_a_module_that_only_the_file_names_is_not_imported(install, tmp_path):
    name = f"show_trap_{next(_count)}"
    install(name, "", **{name: "raise SystemExit('executed')"})
    runner = Runner(write(tmp_path / "trap.mdlus", name))
    with pytest.raises(RunError, match=f"neither imported nor registered: import {name} first"):
        runner.run(Call((X,), {}))
    assert name not in sys.modules


def test_a_module_that_the_user_trusts(lab, tmp_path):
    module = __import__(lab)
    path = write(tmp_path / "main.mdlus", "__main__")
    with pytest.raises(RunError, match="__main__.Scaled"):
        Runner(path).run(Call((X,), {}))
    run = Runner(path, [module]).run(Call((X,), {}))
    assert torch.equal(run.outputs["output['scaled']"], WEIGHT * X)


def test_damage_is_told(file, lab, tmp_path):
    with pytest.raises(RunError, match="of another shape: weight"):
        Runner(write(tmp_path / "other.mdlus", lab, {"weight": torch.ones(4)})).dtype()
    path = tmp_path / "example.mdlus"
    __import__(lab).Scaled(3).save(path, example=(X,))
    content = path.read_bytes()
    assert content.count(X.numpy().tobytes()) == 1
    path.write_bytes(content.replace(X.numpy().tobytes(), (X + 1).numpy().tobytes()))
    with pytest.raises(CheckpointError, match="example.pt in .* is damaged"):
        Runner(str(path)).example()
