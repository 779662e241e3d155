# SPDX-License-Identifier: Apache-2.0
"""``physicsnemo models``."""

import json
import subprocess
import sys

import pytest

PLUGIN = "from physicsnemo import Module\n\nclass Waves(Module):\n    pass\n"


def models(*lines):
    return "\n".join(["[physicsnemo.models]", *lines])


def row(output, name):
    """Return the words of the line that begins with a name."""
    (found,) = [line for line in output.splitlines() if line.startswith(f"{name} ")]
    return found.split(maxsplit=4)


def test_list_imports_nothing(install, physicsnemo):
    install("listed-lab", models("Waves = listed_lab:Waves"), listed_lab=PLUGIN)
    result = physicsnemo("models")
    assert result.exit_code == 0
    assert row(result.stdout, "Waves") == ["Waves", "listed-lab", "1.0"]
    assert "listed_lab" not in sys.modules


def test_check_tells_which_models_load(install, physicsnemo):
    lines = ["Waves = checked_lab:Waves", "Gone = absent_lab:Gone", "Number = checked_lab:number"]
    install("checked-lab", models(*lines), checked_lab=PLUGIN + "number = 3\n")
    result = physicsnemo("models", "--check")
    assert result.exit_code == 0
    assert row(result.stdout, "Waves")[3:] == ["none"]
    assert "but there is no module 'absent_lab'" in row(result.stdout, "Gone")[-1]
    assert "is no subclass of physicsnemo.Module" in row(result.stdout, "Number")[-1]


def test_json(install, physicsnemo):
    install("json-lab", models("Waves = json_lab:Waves", "Gone = absent:X"), json_lab=PLUGIN)
    waves = {
        "name": "Waves",
        "distribution": "json-lab",
        "version": "1.0",
        "path": "json_lab:Waves",
        "summary": "",
        "tasks": [],
    }
    assert waves in json.loads(physicsnemo("models", "--json").stdout)
    found = {it["name"]: it for it in json.loads(physicsnemo("models", "--check", "--json").stdout)}
    assert found["Waves"] == {**waves, "error": None}
    assert "no module 'absent'" in found["Gone"]["error"]


@pytest.mark.filterwarnings("default")
def test_one_name_of_two_packages(install, registry, physicsnemo):
    for name in ("clash-b", "clash-a"):
        module = name.replace("-", "_")
        install(name, models(f"Waves = {module}:Waves"), **{module: PLUGIN})
    result = physicsnemo("models", "--check")
    assert row(result.stdout, "Waves")[1:3] == ["clash-a", "1.0"]
    assert row(result.stdout, "clash-b:Waves")[1:3] == ["clash-b", "1.0"]
    (line,) = result.stderr.splitlines()
    assert line.startswith("Warning: the model Waves is registered by clash-a, clash-b; 'Waves'")
    assert registry.factory("clash-b:Waves").__module__ == "clash_b"


def test_nothing_is_installed(registry, physicsnemo):
    registry.__clear_registry__()
    assert physicsnemo("models").stdout.startswith("No models are installed.")
    assert json.loads(physicsnemo("models", "--json").stdout) == []


@pytest.fixture
def lab(install, registry, tmp_path):
    """A package that says what it is for."""
    lines = ("LabWaves = told:Waves", "LabWinds = told:Winds")
    install("told-lab", models(*lines), told=PLUGIN)
    metadata = tmp_path / "told_lab-1.0.dist-info" / "METADATA"
    text = "Summary: Waves of the lab\nKeywords: Forecasting, lab-waves\n"
    metadata.write_text(metadata.read_text() + text)
    registry.__restore_registry__()


def names(output):
    return [line.split()[0] for line in output.splitlines()[2:]]


def test_a_pattern(lab, physicsnemo):
    assert names(physicsnemo("models", "labw*s").stdout) == ["LabWaves", "LabWinds"]
    assert names(physicsnemo("models", "LabWav*").stdout) == ["LabWaves"]
    assert physicsnemo("models", "nothing").stdout == "No installed model is called nothing.\n"


def test_a_task(lab, install, physicsnemo):
    install("silent-lab", models("Silent = silent:Silent"), silent="")
    result = physicsnemo("models", "--task", "lab-waves")
    assert names(result.stdout) == ["LabWaves", "LabWinds"]
    assert "Waves of the lab" in result.stdout.splitlines()[2]
    result = physicsnemo("models", "--task", "weaving")
    assert result.exit_code == 2
    text = " ".join(result.stderr.split())
    assert "no installed package is for 'weaving'; there are " in text
    assert "lab-waves" in text


def test_names_stay_whole_in_a_narrow_terminal(lab, physicsnemo, monkeypatch):
    monkeypatch.setattr("physicsnemo.cli._output._WITHOUT_TERMINAL", 40)
    lines = physicsnemo("models", "labw*").stdout.splitlines()
    assert [line.split()[:3] for line in lines if line.startswith("Lab")] == [
        ["LabWaves", "told-lab", "1.0"],
        ["LabWinds", "told-lab", "1.0"],
    ]


def test_shells_complete_names_of_models(lab):
    from click.shell_completion import ShellComplete

    from physicsnemo.cli import main

    shell = ShellComplete(main, {}, "physicsnemo", "_PHYSICSNEMO_COMPLETE")
    for command in ("check", "models"):
        found = shell.get_completions([command], "LabWa")
        assert [it.value for it in found] == ["LabWaves"]


@pytest.mark.parametrize(
    "command", ["models", "models --json", "--help", "info --help", "new-plugin quick-lab"]
)
def test_what_needs_no_tensors_imports_no_pytorch(command, tmp_path):
    script = (
        "import sys\n"
        "from physicsnemo.cli import main\n"
        "main(standalone_mode=False)\n"
        "print('without', {'torch', 'numpy', 'fsspec'} & sys.modules.keys(), file=sys.stderr)\n"
    )
    run = [sys.executable, "-c", script, *command.split()]
    done = subprocess.run(run, cwd=tmp_path, text=True, capture_output=True, check=True)
    assert done.stdout
    assert done.stderr.endswith("without set()\n")
