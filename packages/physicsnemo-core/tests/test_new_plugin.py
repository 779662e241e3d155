# SPDX-License-Identifier: Apache-2.0
"""``physicsnemo new-plugin`` makes a whole project or nothing, of names that work."""

import ast
import builtins
import errno
import itertools
import os
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import importlib_metadata
import pytest
import yaml
from click.testing import CliRunner, Result
from packaging.requirements import Requirement

from physicsnemo.cli.new_plugin import new_plugin
from physicsnemo.core.install import distributions as installed

FILES = {
    ".github/workflows/ci.yml",
    ".github/workflows/publish.yml",
    ".gitignore",
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "docs/evolving.md",
    "pyproject.toml",
    "src/weather_lab/__init__.py",
    "src/weather_lab/export.py",
    "src/weather_lab/model.py",
    "src/weather_lab/py.typed",
    "tests/cases.py",
    "tests/test_conformance.py",
    "tests/test_export.py",
    "tests/test_model.py",
}


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Result]:
    """Run the command, with the test's folder as the place for the project."""
    return lambda *arguments: CliRunner().invoke(
        new_plugin, ["--directory", str(tmp_path), *arguments]
    )


def read_pyproject(project: Path) -> dict:
    return tomllib.loads((project / "pyproject.toml").read_text())


def test_a_project_has_all_files_and_the_rights_of_any_folder(make, tmp_path):
    result = make("weather-lab")
    assert result.exit_code == 0
    assert f"cd {tmp_path / 'weather-lab'}\n    pip install -e '.[test]'" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["weather-lab"]
    made = tmp_path / "weather-lab"
    found = {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()}
    assert found == FILES
    (tmp_path / "other").mkdir()
    assert made.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_the_folder_is_made_where_the_command_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(new_plugin, ["weather-lab"])
    assert "\n    cd weather-lab\n" in result.output
    assert (tmp_path / "weather-lab/pyproject.toml").is_file()


@pytest.mark.parametrize(
    ("arguments", "package", "model"),
    [
        (["weather-lab"], "weather_lab", "WeatherLab"),
        (["Weather.Lab__2"], "weather_lab_2", "WeatherLab2"),
        (["waves"], "waves", "Waves"),
        (["waves", "--model", "RogueWave"], "waves", "RogueWave"),
    ],
)
def test_names_follow_from_the_name(arguments, package, model, make, tmp_path):
    assert make(*arguments).exit_code == 0
    project = tmp_path / arguments[0]
    pyproject = read_pyproject(project)
    assert pyproject["project"]["name"] == arguments[0]
    assert pyproject["project"]["entry-points"] == {
        "physicsnemo.models": {model: f"{package}:{model}"}
    }
    tree = ast.parse((project / "src" / package / "model.py").read_text())
    assert model in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}


@pytest.mark.parametrize(
    ("version", "pin"),
    [("0.1.0", ">=0.1,<0.2"), ("2.9.3", ">=2.9,<2.10"), ("1.0rc1", ">=1.0,<1.1")],
)
def test_a_project_needs_the_minor_version_of_core(version, pin, make, tmp_path, monkeypatch):
    monkeypatch.setattr(installed, "installed_version", lambda name: version)
    make("weather-lab")
    project = read_pyproject(tmp_path / "weather-lab")["project"]
    assert project["dependencies"] == [f"physicsnemo-core{pin}", "torch"]
    assert project["optional-dependencies"] == {
        "export": ["safetensors>=0.4"],
        "test": ["weather-lab[export]", "physicsnemo-core[testing]"],
    }


@pytest.mark.parametrize(
    ("arguments", "spdx", "title"),
    [
        ([], "Apache-2.0", "Apache License"),
        (["--license", "MIT"], "MIT", "MIT License\n\nCopyright (c) the authors of weather-lab"),
        (
            ["--license", "BSD-3-Clause"],
            "BSD-3-Clause",
            "BSD 3-Clause License\n\nCopyright (c) the",
        ),
    ],
)
def test_a_project_has_a_licence(arguments, spdx, title, make, tmp_path):
    assert make("weather-lab", *arguments).exit_code == 0
    made = tmp_path / "weather-lab"
    project = read_pyproject(made)["project"]
    assert (project["license"], project["license-files"]) == (spdx, ["LICENSE"])
    assert (made / "LICENSE").read_text().lstrip().startswith(title)
    assert f"The licence is {spdx}." in (made / "README.md").read_text()


def test_what_the_readme_names_is_there(make, tmp_path):
    make("Weather.Lab__2")
    made = tmp_path / "Weather.Lab__2"
    names = re.findall(r"`([\w./]+\.(?:md|py|toml|yml)|LICENSE)`", (made / "README.md").read_text())
    assert {"LICENSE", "docs/evolving.md", ".github/workflows/publish.yml"} <= set(names)
    assert [name for name in names if not (made / name).is_file()] == []


def test_an_unknown_licence_makes_nothing(make, tmp_path):
    result = make("weather-lab", "--license", "GPL")
    assert result.exit_code == 2
    assert "'GPL' is not one of 'Apache-2.0', 'BSD-3-Clause', 'MIT'" in result.output
    assert list(tmp_path.iterdir()) == []


def workflow(project: Path, name: str) -> dict:
    return yaml.safe_load((project / ".github/workflows" / f"{name}.yml").read_text())


def commands(job: dict) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("name", ["weather-lab", "Weather.Lab__2"])
def test_continuous_integration_tries_each_python_and_the_ends_of_pytorch(name, make, tmp_path):
    make(name)
    content = workflow(tmp_path / name, "ci")
    assert content[True].keys() == {"push", "pull_request", "schedule"}  # YAML's word for `on`
    tests, lint = content["jobs"]["tests"], content["jobs"]["lint"]
    python, torch = tests["strategy"]["matrix"].values()
    assert python == ["3.11", "3.12", "3.13"]
    oldest = [Requirement(text) for text in importlib_metadata.requires("physicsnemo-core")]
    (oldest,) = [need.specifier for need in oldest if need.name == "torch"]
    assert torch == [f"torch=={str(oldest).removeprefix('>=')}.*", "torch"]
    model = "WeatherLab" if name == "weather-lab" else "WeatherLab2"
    assert commands(tests) == [
        'python -m pip install "${{ matrix.torch }}" '
        "--index-url https://download.pytorch.org/whl/cpu",
        'python -m pip install ".[test]"',
        "python -m pytest",
        f"physicsnemo check {model} --cases tests/cases.py",
    ]
    assert commands(lint)[2:] == ["ruff check", "ruff format --check", "mypy src tests"]


@pytest.mark.parametrize(
    ("name", "archive"),
    [("weather-lab", "weather_lab"), ("Weather.Lab__2", "weather_lab_2")],
)
def test_a_tag_is_published_without_a_password(name, archive, make, tmp_path):
    make(name)
    content = workflow(tmp_path / name, "publish")
    assert content[True] == {"push": {"tags": ["v*"]}}
    build, publish = content["jobs"]["build"], content["jobs"]["publish"]
    assert "python -m build" in commands(build)
    assert commands(build)[-1] == f'test -f "dist/{archive}-${{GITHUB_REF_NAME#v}}.tar.gz"'
    assert (content["permissions"], publish["needs"]) == ({}, "build")
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["steps"][-1] == {"uses": "pypa/gh-action-pypi-publish@release/v1"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("weather lab", "is no name for pip"),
        ("_weather", "is no name for pip"),
        ("weather-", "is no name for pip"),
        ("../weather", "is no name for pip"),
        ("wéather", "is no name for pip"),
        ("3d-flow", "makes '3d_flow', which Python cannot import"),
        ("Class", "makes 'class', which Python cannot import"),
        ("tests", "is what the project's folder of tests is called"),
        ("physicsnemo", "would look like a part of PhysicsNeMo Models"),
        ("PhysicsNeMo.waves", "would look like a part of PhysicsNeMo Models"),
        ("torch", "would hide the package 'torch' of "),
        ("json", "would hide the package 'json' of "),
        ("sys", "would hide the package 'sys' of built-in"),
    ],
)
def test_bad_names(name, message, make, tmp_path):
    result = make("--", name)
    assert result.exit_code == 2
    assert f"Invalid value for 'NAME': {name!r} {message}" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("weather", "is no name for a class"),
        ("Weather_Lab", "is no name for a class"),
        ("Module", "stands for something else"),
        ("ValueError", "stands for something else"),
        ("None", "stands for something else"),
        ("Sunny", "is a model of another package"),
    ],
)
def test_bad_model_names(model, message, make, install, tmp_path):
    install("sunshine", "[physicsnemo.models]\nSunny = sunshine:Sunny\n")
    folder = set(tmp_path.iterdir())
    result = make("weather-lab", "--model", model)
    assert result.exit_code == 2
    assert f"Invalid value for '--model': {model!r} {message}" in result.output
    assert set(tmp_path.iterdir()) == folder


def test_a_model_of_this_project_has_its_name_even_where_it_is_not_installed(make, registry):
    registry.__clear_registry__()
    result = make("weather-lab", "--model", "FullyConnected")
    assert result.exit_code == 2
    assert "'FullyConnected' is a model of another package" in result.output


def names_in(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, ast.alias)):
            yield node.name
        elif isinstance(node, ast.Name):
            yield node.id


def test_no_model_is_called_like_something_in_the_project(make, tmp_path):
    make("weather-lab")
    sources = (tmp_path / "weather-lab").rglob("*.py")
    names = {name for path in sources for name in names_in(ast.parse(path.read_text()))}
    others = {name for name in names if name[0].isupper() and not hasattr(builtins, name)}
    others.remove("WeatherLab")
    assert len(others) > 5
    for name in others:
        assert "stands for something else" in make("other", "--model", name).output, name


@pytest.mark.parametrize(
    "occupy",
    [
        lambda path: path.mkdir(),
        lambda path: path.write_text("precious"),
        lambda path: path.symlink_to("nowhere"),
    ],
    ids=["folder", "file", "link"],
)
def test_what_exists_is_left_as_it_is(occupy, make, tmp_path):
    occupy(tmp_path / "weather-lab")
    before = (tmp_path / "weather-lab").lstat()
    result = make("weather-lab")
    assert result.exit_code == 1
    assert "weather-lab exists, and is left as it is; remove it, or" in result.output
    assert (tmp_path / "weather-lab").lstat() == before
    assert os.listdir(tmp_path) == ["weather-lab"]


def test_a_project_that_appears_meanwhile_is_left_as_it_is(make, tmp_path, monkeypatch):
    rename = Path.rename

    def slowly(draft: Path, target: Path) -> Path:
        target.mkdir()
        (target / "precious").touch()
        return rename(draft, target)

    monkeypatch.setattr(Path, "rename", slowly)
    result = make("weather-lab")
    assert result.exit_code == 1
    assert "weather-lab cannot be made: " in result.output
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*")] == [
        Path("weather-lab"),
        Path("weather-lab/precious"),
    ]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "cannot be made: .*No space left"),
        (KeyboardInterrupt(), "Aborted!"),
    ],
    ids=["full_disk", "interrupted"],
)
@pytest.mark.parametrize(("step", "times"), [("write_text", len(FILES)), ("rename", 1)])
def test_a_failure_at_any_step_leaves_nothing(
    step, times, error, message, make, tmp_path, monkeypatch
):
    real = getattr(Path, step)
    for survived in range(times):
        calls = itertools.count()

        def fail(path, *arguments, survived=survived, calls=calls, **options):
            if next(calls) == survived:
                raise error
            return real(path, *arguments, **options)

        monkeypatch.setattr(Path, step, fail)
        result = make("weather-lab")
        assert next(calls) == survived + 1
        assert result.exit_code == 1
        assert re.search(message, result.output)
        assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(Path, step, real)
    assert make("weather-lab").exit_code == 0


def test_a_missing_directory(tmp_path):
    result = CliRunner().invoke(new_plugin, ["waves", "--directory", str(tmp_path / "missing")])
    assert result.exit_code == 2
    assert "does not exist" in result.output
