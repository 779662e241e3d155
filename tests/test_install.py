# SPDX-License-Identifier: Apache-2.0
"""Packages installed as wheels, editable and mixed, removed again, and joined by a plugin.

Each test has an environment of its own, which borrows PyTorch and the like from the running one.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tools.environment import Environment
from tools.isolation import probe
from tools.workspace import closure, packages

WORKSPACE = packages()
CORE, MLP, FNO = (closure(f"physicsnemo-{name}", WORKSPACE) for name in ("core", "mlp", "fno"))

PLUGIN = {
    "pyproject.toml": """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "weather-lab"
version = "1.0"
dependencies = ["physicsnemo-core"]

[project.entry-points."physicsnemo.models"]
Persistence = "weather_lab:Persistence"
""",
    "weather_lab.py": """
import torch
from physicsnemo import Module


class Persistence(Module):
    def __init__(self, gain: float = 1.0):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(gain))

    def forward(self, x):
        return self.gain * x
""",
}


@pytest.fixture
def install(wheels: Mapping[str, Path], tmp_path: Path) -> Callable[..., Environment]:
    """Make an environment with some wheels and some editable packages."""
    environment = Environment.create(tmp_path / "environment")
    needed = [text for part in FNO for text in part.dependencies]
    environment.borrow(*needed, "hatchling", "editables")

    def install(*names: str, editable: tuple[str, ...] = ()) -> Environment:
        local = ("--no-index", "--no-deps", "--no-build-isolation")
        sources = [option for name in editable for option in ("-e", WORKSPACE[name].folder)]
        environment.install(*local, *(wheels[name] for name in names), *sources)
        return environment

    return install


@pytest.mark.parametrize(
    "editable",
    [
        (),
        ("physicsnemo-core",),
        ("physicsnemo-nn", "physicsnemo-mlp"),
    ],
    ids="+".join,
)
def test_wheels_and_editable_installs_mix(
    editable: tuple[str, ...], install: Callable[..., Environment]
):
    environment = install(
        *(part.name for part in MLP if part.name not in editable), editable=editable
    )
    probe(MLP, environment)


def test_removing_a_family_leaves_the_others_working(install: Callable[..., Environment]):
    environment = install(*(part.name for part in FNO))
    environment.uninstall("physicsnemo-fno")
    probe(MLP, environment, missing={"FNO": "physicsnemo-fno"})


def test_a_plugin_of_somebody_else_is_listed_built_and_run(
    install: Callable[..., Environment], tmp_path: Path
):
    for name, text in PLUGIN.items():
        (tmp_path / name).write_text(text)
    environment = install("physicsnemo-core")
    environment.install("--no-index", "--no-deps", "--no-build-isolation", tmp_path)
    code = f"""
import physicsnemo, torch
from physicsnemo.registry import ModelRegistry
assert ModelRegistry().list_models() == ["Persistence"]
model = ModelRegistry().factory("Persistence")(gain=2.0)
assert torch.equal(model(torch.ones(3)), torch.full((3,), 2.0))
model.save({str(tmp_path / "plugin.mdlus")!r})
assert type(physicsnemo.Module.from_checkpoint({str(tmp_path / "plugin.mdlus")!r})) is type(model)
"""
    environment.run("-W", "error", "-c", code)
