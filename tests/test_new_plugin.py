# SPDX-License-Identifier: Apache-2.0
"""The project that ``physicsnemo new-plugin`` makes: built, installed, tested and used for real."""

import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from tools.environment import Environment
from tools.plugin_workflow import jobs
from tools.workspace import ROOT, closure, packages

CORE = closure("physicsnemo-core", packages())
NEEDED = [text for part in CORE for text in [*part.dependencies, *part.extras["testing"]]]
RULES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]["select"]
# PyTorch alone takes mypy half a minute; the model's own types are plain.
MYPY = "[mypy]\nstrict = true\n[mypy-torch.*]\nfollow_imports = skip\n"

SAVE = """
import sys
from physicsnemo.registry import ModelRegistry
registry = ModelRegistry()
assert registry.list_models() == ["WeatherLab"], registry.list_models()
assert "weather_lab" not in sys.modules and "torch" not in sys.modules
found = registry.describe("WeatherLab")
assert (found.distribution, found.version, found.error) == ("weather-lab", "0.1.0", None), found
import torch
model = registry.factory("WeatherLab")(channels=2, width=4)
torch.save(model(torch.ones(1, 2, 9, 8)), "expected.pt")
model.save("model.mdlus")
"""
LOAD = """
import sys, torch
from physicsnemo import Module, inspect_checkpoint
found = inspect_checkpoint("model.mdlus")
assert found.model.origin.distribution == "weather-lab" and found.problems == [], found
assert "weather_lab" not in sys.modules
model = Module.from_checkpoint("model.mdlus")
assert type(model).__module__ == "weather_lab.model"
torch.testing.assert_close(model(torch.ones(1, 2, 9, 8)), torch.load("expected.pt"))
"""


@pytest.fixture(scope="module")
def environment(
    wheels: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """An environment with core as a wheel, and what the tests of a plugin need."""
    made = Environment.create(tmp_path_factory.mktemp("core") / "environment")
    made.borrow(*NEEDED, "hatchling")
    made.install("--no-index", "--no-deps", *(wheels[part.name] for part in CORE))
    return made


@pytest.fixture(scope="module")
def project(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new project, made by the installed command and installed from its folder."""
    folder = tmp_path_factory.mktemp("projects")
    command = environment.python.with_name("physicsnemo")
    environment.run(command, "new-plugin", "weather-lab", "--directory", folder)
    made = folder / "weather-lab"
    environment.install("--no-index", "--no-deps", "--no-build-isolation", made)
    return made


def test_its_tests_pass_at_once(
    environment: Environment, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(project)
    report = tmp_path / "report.xml"
    environment.run("-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={report}")
    [suite] = ElementTree.parse(report).getroot()
    assert [suite.get(outcome) for outcome in ("failures", "errors", "skipped")] == ["0"] * 3
    names = {case.get("name") for case in suite}
    assert {"README.md", "evolving.md", "weather_lab.model.WeatherLab"} <= names
    assert {"test_conformance[WeatherLab-one-auto_grad]", "test_it_is_found_by_name"} <= names
    assert "test_weights_are_those_of_the_model" in names  # which the extra brings


def test_its_model_is_listed_and_loads_in_another_process(
    environment: Environment, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    environment.run("-W", "error", "-c", SAVE)
    environment.run("-W", "error", "-c", LOAD)


def test_its_style_is_that_of_this_repository(project: Path):
    convention = 'lint.pydocstyle.convention = "numpy"'
    no_docstrings = 'lint.per-file-ignores = {"tests/*" = ["D"]}'
    check(
        project,
        "ruff",
        "check",
        "--isolated",
        f"--select={','.join(RULES)}",
        "--config",
        convention,
        "--config",
        no_docstrings,
    )
    check(project, "ruff", "format", "--isolated", "--check")


def test_its_workflows_are_valid(project: Path, tmp_path: Path):
    paths = sorted(project.glob(".github/workflows/*.yml"))
    assert [path.name for path in paths] == ["ci.yml", "publish.yml"]
    for path in paths:
        assert follows_schema(path)
        wrong = tmp_path / path.name
        wrong.write_text(path.read_text().replace("runs-on:", "run-on:"))
        assert not follows_schema(wrong)


def test_all_that_its_workflows_run_is_run_by_the_session(project: Path):
    by_torch = "ci tests, torch==2.11.*", "ci tests, torch"
    found = {job.name: job.commands for job in jobs(project)}
    assert list(found) == [*by_torch, "ci lint", "publish build"]
    pip = "--index-url https://download.pytorch.org/whl/cpu"
    assert found[by_torch[0]][0] == f'python -m pip install "torch==2.11.*" {pip}'
    assert [job.name for job in jobs(project, newest_only=True)] == list(found)[1:]
    assert not any("${{" in command for commands in found.values() for command in commands)


def test_its_workflow_checks_the_model(
    environment: Environment, project: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(project)
    *_, command = workflow(project, "ci", "tests")
    program, *arguments = shlex.split(command)
    assert program == "physicsnemo"
    environment.run(environment.python.with_name(program), *arguments, "--quick")


def test_its_workflow_lints(project: Path):
    _, _, *linters, types = workflow(project, "ci", "lint")
    assert types == "mypy src tests"  # as below
    for command in linters:
        check(project, *shlex.split(command))


def test_its_workflow_publishes_what_it_builds(project: Path, tmp_path: Path):
    made = shutil.copytree(project, tmp_path / "weather-lab")
    check(made, "hatchling", "build")  # what `python -m build` calls, without an index
    *_, tag_is_version = workflow(made, "publish", "build")
    for tag, status in [("v0.1.0", 0), ("v0.2.0", 1)]:
        environ = {**os.environ, "GITHUB_REF_NAME": tag}
        done = subprocess.run(["bash", "-c", tag_is_version], cwd=made, env=environ)
        assert done.returncode == status
    [wheel], [sdist] = (made / "dist").glob("*.whl"), (made / "dist").glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as file:
        assert "weather_lab-0.1.0.dist-info/licenses/LICENSE" in file.namelist()
    with tarfile.open(sdist) as file:
        packed = {name.partition("/")[2] for name in file.getnames()}
    assert {"LICENSE", "CHANGELOG.md", "docs/evolving.md", "tests/cases.py"} <= packed


def test_its_types_are_strict(environment: Environment, project: Path, tmp_path: Path):
    (tmp_path / "mypy.ini").write_text(MYPY)
    check(
        project,
        "mypy",
        f"--config-file={tmp_path / 'mypy.ini'}",
        f"--cache-dir={tmp_path / 'cache'}",
        f"--python-executable={environment.python}",
        "src",
        "tests",
    )


def workflow(project: Path, name: str, job: str) -> list[str]:
    """Return the commands of a job."""
    content = yaml.safe_load((project / f".github/workflows/{name}.yml").read_text())
    return [step["run"] for step in content["jobs"][job]["steps"] if "run" in step]


def follows_schema(path: Path) -> bool:
    """Tell whether a workflow is one by GitHub's schema, which check-jsonschema brings along."""
    command = ("check_jsonschema", "--builtin-schema", "vendor.github-workflows", path)
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    assert done.returncode == 0 or "Schema validation errors" in done.stdout, done
    return done.returncode == 0


def check(project: Path, *command: str) -> None:
    subprocess.run([sys.executable, "-m", *command], cwd=project, check=True)
