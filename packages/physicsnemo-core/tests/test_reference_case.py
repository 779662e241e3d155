# SPDX-License-Identifier: Apache-2.0
"""Comparison with stored outputs, shown on a model whose results are known by hand."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from physicsnemo import Module
from physicsnemo.testing import check_reference_case


class Mixture(Module):
    """``out0 = weight * x**power`` and, on request, ``out1``: the sum of further tensors."""

    _overridable_args = {"power"}

    def __init__(self, weight: float, power: int = 1) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))
        self.power = power

    def forward(self, x, others=(), bias=None):
        x = x.mul_(1.0)  # in place, as some models do
        out = self.weight * x**self.power + (0 if bias is None else bias)
        out = out if self.training else 10 * out
        return (out, sum(others)) if others else out

    def negative(self, x):
        return -self.forward(x)


X = torch.tensor([1.0, 2.0, 4.0])


@pytest.fixture
def write(tmp_path: Path):
    """Write a reference case of ``Mixture(3.0)``."""

    def write(case: dict, outputs: dict[str, torch.Tensor]) -> Path:
        Mixture(3.0).save(tmp_path / "reference.mdlus")
        tolerance = {"rtol": 1e-5, "atol_scaled": 1e-6}
        case = {"class": "Mixture", "args": [tensor("x")], "tolerance": tolerance} | case
        (tmp_path / "case.json").write_text(json.dumps(case))
        save_file({"x": X, "y": X + 1, "z": X + 2}, tmp_path / "inputs.safetensors")
        save_file(outputs, tmp_path / "outputs.safetensors")
        return tmp_path

    return write


def tensor(name: str) -> dict[str, str]:
    return {"kind": "tensor", "name": name}


@pytest.mark.parametrize(
    ("case", "outputs"),
    [
        pytest.param({}, {"out0": 30 * X}, id="plain"),
        pytest.param({"mode": "train"}, {"out0": 3 * X}, id="train"),
        pytest.param({"method": "negative"}, {"out0": -30 * X}, id="method"),
        pytest.param({"override_args": {"power": 2}}, {"out0": 30 * X**2}, id="override"),
        pytest.param(
            {"grad_of": "x"}, {"out0": 30 * X, "grad_arg0": 2 * 900 * X / 3}, id="gradient"
        ),
        pytest.param(
            {
                "args": [tensor("x"), {"kind": "list", "items": [tensor("y"), tensor("z")]}],
                "kwargs": {"bias": {"kind": "none"}},
            },
            {"out0": 30 * X, "out1": 2 * X + 3},
            id="list",
        ),
        pytest.param(
            {"kwargs": {"bias": {"kind": "value", "value": 1.5}}},
            {"out0": 30 * X + 15},
            id="keyword",
        ),
    ],
)
def test_equal_results_pass(write, case, outputs):
    check_reference_case(write(case, outputs))


@pytest.mark.parametrize(
    ("case", "outputs", "message"),
    [
        pytest.param({}, {"out0": 30.01 * X}, "out0: .*not close", id="value"),
        pytest.param({}, {"out0": 30 * X[:2]}, "out0: .*shape", id="shape"),
        pytest.param({}, {"out0": 30 * X.double()}, "out0: .*dtype", id="type"),
        pytest.param({}, {"out0": 30 * X, "out1": X}, "expected .*out1", id="missing"),
        pytest.param({"class": "Other"}, {"out0": 30 * X}, "Mixture, not a Other", id="class"),
        pytest.param(
            {"grad_of": "x"}, {"out0": 30 * X, "grad_arg0": X}, "grad_arg0: ", id="gradient"
        ),
    ],
)
def test_different_results_fail(write, case, outputs, message):
    with pytest.raises(AssertionError, match=f"(?s){message}"):
        check_reference_case(write(case, outputs))


def test_unknown_kind_of_argument(write):
    with pytest.raises(ValueError, match="no argument can be made of .*'graph'"):
        check_reference_case(write({"args": [{"kind": "graph"}]}, {"out0": X}))


def test_makers_make_arguments_of_other_kinds(write):
    case = {"args": [tensor("x"), {"kind": "pair", "of": ["y", "z"]}]}
    folder = write(case, {"out0": 30 * X, "out1": 2 * X + 3})
    with pytest.raises(ValueError, match="no argument can be made of .*'pair'"):
        check_reference_case(folder)
    check_reference_case(
        folder, {"pair": lambda spec, inputs: [inputs[name] for name in spec["of"]]}
    )
