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

from physicsnemo.diffusion import EDM, Diffusion
from physicsnemo.models.diffusion import SongUNet
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
OF_DIFFUSION = sorted(
    name
    for name in FIRST.values()
    if CASES[name].model_class.__module__.startswith("physicsnemo.models.diffusion")
)


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


def run_in_batches(model: torch.nn.Module, inputs: tuple[Any, ...], folder: Path) -> None:
    """Export a model for any batch, and run it on batches of other sizes."""
    export(model, folder / "model.pt2", inputs, compile=False, dynamic_batch=True)
    program, model = torch.export.load(folder / "model.pt2").module(), model.eval()
    for samples in ([0, 1, 0], [1]):
        given = tuple(it[samples] if isinstance(it, Tensor) else it for it in inputs)
        with torch.no_grad():
            found, expected = (pytree.tree_leaves(it(*given)) for it in (program, model))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_network_with_labels_is_exported_for_any_batch(tmp_path: Path) -> None:
    case = CASES["SongUNet-ncsnpp"]
    run_in_batches(case.build(), case.inputs(), tmp_path)


def test_a_diffusion_model_is_exported_for_any_batch(tmp_path: Path) -> None:
    network = SongUNet(8, in_channels=3, out_channels=2, model_channels=8, channel_mult=[1])
    x, t, image = torch.randn(2, 2, 8, 8), torch.rand(2), torch.randn(2, 1, 8, 8)
    run_in_batches(Diffusion(network, EDM()), (x, t, image), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_DIFFUSION)
def test_every_network_of_diffusion_is_exported_for_any_batch(name: str, tmp_path: Path) -> None:
    run_in_batches(CASES[name].build(), CASES[name].inputs(), tmp_path)


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
