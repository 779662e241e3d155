# SPDX-License-Identifier: Apache-2.0
"""The user guide's plugin, ``MyPackage``: built and installed for real, used across processes.

``data/seed.rst`` has its files. Its entry point names a module that they do not have; what users
see then is tested as well as the corrected one.
"""

import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tools.environment import Environment
from tools.workspace import ROOT, closure, packages

SEED = (ROOT / "tests/data/seed.rst").read_text(encoding="utf-8")
WRITTEN = "mypackage.models.MyPhysicsNeMoModel:MyPhysicsNeMoModel"
MEANT = "mypackage.models:MyPhysicsNeMoModel"
CORE = closure("physicsnemo-core", packages())

HOOKS = {
    "pyproject.toml": """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "provenance-lab"
version = "2.0"

[project.entry-points."physicsnemo.plugins"]
provenance = "provenance_lab"
""",
    "provenance_lab.py": """
from physicsnemo import hookimpl


@hookimpl
def contribute_metadata(model):
    return {"provenance-lab.parameters": model.num_parameters()}


@hookimpl
def saved(model, url):
    print("saved", type(model).__name__)
""",
}

SAVE = """
import sys
from physicsnemo.registry import ModelRegistry
registry = ModelRegistry()
assert registry.list_models() == ["MyPhysicsNeMoModel"], registry.list_models()
assert "mypackage" not in sys.modules and "torch" not in sys.modules
found = registry.describe("MyPhysicsNeMoModel")
assert (found.distribution, found.version, found.error) == ("MyPackage", "0.1.0", None), found
import torch
model = registry.factory("MyPhysicsNeMoModel")()
torch.save(model(torch.ones(1, 1, 9, 9)), "expected.pt")
model.save("model.mdlus")
"""
LOAD = """
import sys, torch
import physicsnemo
found = physicsnemo.inspect_checkpoint("model.mdlus")
assert found.model.origin.distribution == "MyPackage" and found.problems == [], found
assert "mypackage" not in sys.modules
model = physicsnemo.Module.from_checkpoint("model.mdlus")
assert torch.equal(model(torch.ones(1, 1, 9, 9)), torch.load("expected.pt"))
"""
WITHOUT_PLUGIN = """
import physicsnemo
wanted = "saved by MyPackage 0.1.0, which is not installed: install it if you trust it"
assert physicsnemo.inspect_checkpoint("model.mdlus").problems == [wanted]
try:
    physicsnemo.Module.from_checkpoint("model.mdlus")
except OSError as error:
    assert str(error).endswith(wanted), error
else:
    raise AssertionError("a class that is not installed was found")
"""
AS_WRITTEN = """
from physicsnemo.registry import ModelRegistry
registry = ModelRegistry()
assert registry.list_models() == ["MyPhysicsNeMoModel", "Sound"], registry.list_models()
wanted = (
    "MyPackage 0.1.0 registers MyPhysicsNeMoModel as "
    "'mypackage.models.MyPhysicsNeMoModel:MyPhysicsNeMoModel', but there is no module "
    "'mypackage.models.MyPhysicsNeMoModel'"
)
try:
    registry.factory("MyPhysicsNeMoModel")
except ImportError as error:
    assert str(error).startswith(wanted), error
else:
    raise AssertionError("a module that does not exist was imported")
assert registry.describe("MyPhysicsNeMoModel").error.startswith(wanted)
assert registry.factory("Sound")().num_parameters() == 0
"""
SOUND = "from physicsnemo import Module\n\n\nclass Sound(Module):\n    pass\n"


def seed_file(title: str) -> str:
    """Return a file of the seed's package, which has its name in a first comment."""
    match = re.search(rf"((?: +)# {re.escape(title)}\n(?: {{3,4}}.*\n|\n)+)", SEED)
    assert match, f"the seed has no file {title}"
    return textwrap.dedent(match[1])


def write_package(folder: Path, entry_point: str = MEANT) -> Path:
    pyproject = seed_file("pyproject.toml")
    assert WRITTEN in pyproject
    (folder / "mypackage").mkdir(parents=True)
    (folder / "mypackage/__init__.py").touch()
    (folder / "setup.py").write_text(seed_file("setup.py"))
    (folder / "pyproject.toml").write_text(pyproject.replace(WRITTEN, entry_point))
    (folder / "mypackage/models.py").write_text(seed_file("mypackage/models.py"))
    return folder


@pytest.fixture
def environment(wheels: Mapping[str, Path], tmp_path: Path) -> Environment:
    """An environment with core alone."""
    made = Environment.create(tmp_path / "environment")
    made.borrow(*(text for part in CORE for text in part.dependencies), "hatchling", "setuptools")
    made.install("--no-index", "--no-deps", wheels["physicsnemo-core"])
    return made


@pytest.fixture
def run(
    environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """Run code in a process of its own, in one folder."""
    monkeypatch.chdir(tmp_path)
    return lambda code: environment.run("-W", "error", "-c", code)


def install(environment: Environment, *what: str | Path) -> None:
    environment.install("--no-index", "--no-deps", "--no-build-isolation", *what)


def build_wheel(folder: Path, target: Path) -> Path:
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", target)
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, folder], check=True)
    return next(target.glob("*.whl"))


def test_as_a_wheel_until_it_is_uninstalled(environment, run, tmp_path):
    install(environment, build_wheel(write_package(tmp_path / "source"), tmp_path / "wheel"))
    run(SAVE)
    run(LOAD)
    environment.uninstall("MyPackage")
    run(WITHOUT_PLUGIN)


def test_as_an_editable_install(environment, run, tmp_path):
    install(environment, "-e", write_package(tmp_path / "source"))
    run(SAVE)
    run(LOAD)


def test_entry_point_as_written_breaks_only_itself(environment, run, tmp_path):
    folder = write_package(tmp_path / "source", f'{WRITTEN}"\nSound = "mypackage.sound:Sound')
    (folder / "mypackage/sound.py").write_text(SOUND)
    install(environment, folder)
    run(AS_WRITTEN)


def test_plugin_with_hooks_as_a_wheel(environment, run, tmp_path):
    (tmp_path / "source").mkdir()
    for name, text in HOOKS.items():
        (tmp_path / "source" / name).write_text(text)
    install(environment, build_wheel(tmp_path / "source", tmp_path / "wheel"))
    run(
        "import contextlib, io, sys\n"
        "import physicsnemo, torch\n"
        "model = physicsnemo.Module.from_torch(torch.nn.Linear)(2, 2)\n"
        "assert 'provenance_lab' not in sys.modules\n"
        "with contextlib.redirect_stdout(io.StringIO()) as printed:\n"
        "    model.save('model.mdlus')\n"
        "assert printed.getvalue() == 'saved LinearPhysicsNeMoModel\\n'\n"
        "metadata = physicsnemo.inspect_checkpoint('model.mdlus').metadata\n"
        "assert metadata['provenance-lab.parameters'] == 6\n"
    )
