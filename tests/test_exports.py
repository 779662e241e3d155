# SPDX-License-Identifier: Apache-2.0
"""Exported models run, and compute the same, in a process that cannot import this library."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from physicsnemo.testing import Case
from physicsnemo.utils import export
from tools.cases import all_cases

ALONE = """
import importlib.util, sys
from pathlib import Path

folder = Path(sys.argv[1])
sys.path[:] = [place for place in sys.path if not Path(place, "physicsnemo").exists()]
assert importlib.util.find_spec("physicsnemo") is None, sys.path
import torch
from torch.utils import _pytree as pytree

args, kwargs = torch.load(folder / "inputs.pt")
if sys.argv[2] == "compiled":
    program = torch._inductor.aoti_load_package(str(folder / "model.pt2"))
else:
    program = torch.export.load(folder / "model.pt2").module()
with torch.no_grad():
    outputs = program(*args, **kwargs)
assert not [name for name in sys.modules if name.startswith("physicsnemo")]
torch.save(pytree.tree_leaves(outputs), folder / "outputs.pt")
"""
CASES = {str(case): case for case in all_cases()}
FIRST = {str(case.model): name for name, case in reversed(CASES.items())}
"""The first case of each model."""


def plain(value: Any) -> Any:
    """Return inputs as a program takes them: a graph as a tuple of its tensors."""
    if isinstance(value, tuple | list) and not hasattr(value, "_fields"):
        return type(value)(map(plain, value))
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    leaves = pytree.tree_leaves(value)
    return value if leaves in ([value], []) else tuple(x for x in leaves if isinstance(x, Tensor))


def run_alone(case: Case, folder: Path, compile: bool, device: str = "cpu") -> None:
    """Export a case, run the file in another process on other inputs, and compare."""
    model, inputs = case.build().eval(), case.inputs()
    export(model, folder / "model.pt2", inputs, compile=compile, device=device)
    others = pytree.tree_map_only(
        Tensor, lambda it: 0.5 * it if it.is_floating_point() else it.clone(), inputs
    )
    arguments = ((), others) if isinstance(others, dict) else (others, {})
    with torch.no_grad():
        expected = pytree.tree_leaves(model(*arguments[0], **arguments[1]))
    torch.save(tuple(map(plain, arguments)), folder / "inputs.pt")
    command = [sys.executable, "-c", ALONE, str(folder), "compiled" if compile else "recorded"]
    subprocess.run(command, check=True, cwd=folder)
    found = torch.load(folder / "outputs.pt")
    assert len(found) == len(expected)
    for own, theirs in zip(found, expected, strict=True):
        scale = float(theirs.abs().max()) if theirs.numel() else 0.0
        torch.testing.assert_close(own, theirs, rtol=0, atol=1e-5 * scale)


def test_a_program_that_takes_a_graph_runs_without_this_library(tmp_path: Path) -> None:
    run_alone(CASES["MeshGraphNet-sum"], tmp_path, compile=False)


def test_a_compiled_model_runs_without_this_library(tmp_path: Path) -> None:
    run_alone(CASES["FullyConnected-plain"], tmp_path, compile=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FIRST.values()))
def test_every_compiled_model_runs_without_this_library(name: str, tmp_path: Path) -> None:
    run_alone(CASES[name], tmp_path, compile=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CASES))
def test_every_program_runs_without_this_library(name: str, tmp_path: Path) -> None:
    run_alone(CASES[name], tmp_path, compile=False)
