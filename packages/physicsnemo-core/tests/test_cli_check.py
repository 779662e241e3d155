# SPDX-License-Identifier: Apache-2.0
"""``physicsnemo check``: the conformance kit on installed models."""

import importlib.util
import itertools
import json
import re
import sys

import click
import pytest

import physicsnemo.testing as physicsnemo_testing

MODEL = """
import torch
from physicsnemo import Module, ModelMetaData

class Waves(Module):
    def __init__(self, size, idle=False):
        super().__init__(meta=ModelMetaData(bf16=True, cuda_graphs=True))
        self.weight = torch.nn.Parameter(torch.linspace(1, 2, size))
        if idle:
            self.idle = torch.nn.Parameter(torch.ones(1))

    def forward(self, x, shift=0):
        return self.weight * x + shift

class Other(Waves):
    pass

class Rows(Module):
    def __init__(self, size):
        super().__init__()
        self.table = torch.nn.Embedding(size, size)

    def forward(self, *, x, places):
        if places.dtype != torch.int64:
            raise TypeError("places")
        return x.sin() * self.table(places)
"""
REGISTERED = "[physicsnemo.models]\nWaves = {0}:Waves\nOther = {0}:Other\nBroken = {0}:absent\n"
REGISTERED += "Rows = {0}:Rows\n"
CASES = """
import torch
from physicsnemo.testing import Case

def inputs():
    return (torch.ones(4, 3),)

CASES = [
    Case("plain", "Waves", {"size": 3}, inputs),
    Case("idle", "Waves", {"size": 3, "idle": True}, inputs),
    Case("other", "Other", {"size": 3}, inputs),
]
"""
PLAIN = ("check", "Waves", "--args", '{"size": 3}', "--input", "4,3")
_count = itertools.count()


@pytest.fixture(autouse=True)
def lab(install):
    """An installed plugin with two models and a broken one."""
    name = f"check_lab_{next(_count)}"
    install(name, REGISTERED.format(name), **{name: MODEL})
    return name


@pytest.fixture
def cases(tmp_path):
    (tmp_path / "cases.py").write_text(CASES)
    return tmp_path / "cases.py"


def outcomes(output):
    """Return what came of each check, of one case."""
    _, _, _, _, *lines = output.splitlines()  # an empty one, title, head and rule come first
    return {line.split()[0]: line.split()[1] for line in lines}


def test_model_that_conforms(physicsnemo):
    result = physicsnemo(*PLAIN, "--quick")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1] == "Waves-command-line"
    found = outcomes(result.stdout)
    assert found.pop("cuda_graphs") == "unproven"
    assert "   Waves claims cuda_graphs, which cpu cannot prove" in result.stdout
    assert {"construction", "checkpoint", "gradients", "bf16"} <= found.keys()
    assert set(found.values()) == {"passed"}
    assert "compile" not in found


def test_all_checks_of_a_model_reached_by_its_distribution(physicsnemo, lab):
    result = physicsnemo("check", f"{lab}:Waves", *PLAIN[2:], "--input", "4,3")
    assert result.exit_code == 0
    assert outcomes(result.stdout)["compile"] == outcomes(result.stdout)["export"] == "passed"


def test_inputs_by_name_and_of_whole_numbers(physicsnemo):
    options = ("--input", "places=4:3", "--input", "x=4,3", "--quick", "--json")
    result = physicsnemo("check", "Rows", "--args", '{"size": 3}', *options)
    found = json.loads(result.stdout)["Rows-command-line"]
    assert {it["outcome"] for it in found} == {"passed"}, found
    assert {"construction", "checkpoint", "batch"} <= {it["check"] for it in found}


def test_failure(physicsnemo):
    result = physicsnemo(
        "check", "Waves", "--args", '{"size": 3, "idle": true}', "--input", "4,3", "--quick"
    )
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("gradients ")]
    assert "failed" in line
    assert "AssertionError: no gradient reaches ['idle']" in line


def test_model_that_cannot_be_built(physicsnemo):
    result = physicsnemo("check", "Waves", "--input", "4,3", "--json")
    assert result.exit_code == 1
    ((case, (found,)),) = json.loads(result.stdout).items()
    assert (case, found["check"], found["outcome"]) == (
        "Waves-command-line",
        "construction",
        "failed",
    )
    assert found["error"].startswith("TypeError: Waves.__init__() missing 1 required")


def test_cases(physicsnemo, cases):
    result = physicsnemo("check", "Waves", "--cases", cases, "--quick", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    failed = {
        case: [it["check"] for it in results if it["outcome"] == "failed"]
        for case, results in found.items()
    }
    assert failed == {"Waves-plain": [], "Waves-idle": ["gradients"]}
    assert physicsnemo("check", "Other", "--cases", cases, "--quick").exit_code == 0


def test_exceptions_are_shown_with_their_reasons(physicsnemo, cases):
    excepted = '"idle": True}, inputs, exceptions={"gradients": "is for later"})'
    cases.write_text(CASES.replace('"idle": True}, inputs)', excepted))
    result = physicsnemo("check", "Waves", "--cases", cases, "--quick")
    assert result.exit_code == 0
    (line,) = [it for it in result.stdout.splitlines() if "excepted" in it]
    assert line.split(maxsplit=4)[:2] == ["gradients", "excepted"]
    assert line.endswith(" s              is for later")


def test_file_without_cases_of_the_model(physicsnemo, cases):
    cases.write_text(CASES.replace('"Other"', '"Waves"'))
    result = physicsnemo("check", "Other", "--cases", cases)
    assert result.exit_code == 1
    assert result.stderr == f"Error: {cases} has no case of Other in a list CASES\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Wavs", "No model is registered under the name Wavs; did you mean Waves?"),
        ("Broken", "registers Broken as .*, which cannot be imported"),
    ],
)
def test_model_that_is_not_there(physicsnemo, name, text):
    result = physicsnemo("check", name, "--input", "3")
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert re.search(text, line)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([], "give either --input (and --args), or --cases"),
        (["--input", "3", "--cases", __file__], "give either --input (and --args), or --cases"),
        (["--args", "{}", "--cases", __file__], "--args goes with --input"),
        (["--input", "3,x"], "expected sizes, as in 8,3 or x=8,3 or 8:10, got '3,x'"),
        (["--input", "3:0"], "expected sizes, as in 8,3 or x=8,3 or 8:10, got '3:0'"),
        (["--input", "x=3", "--input", "3"], "name all inputs, as in x=8,3, or none"),
        (["--input", "3", "--args", "{size"], "'{size' is not valid JSON"),
        (["--input", "3", "--args", "[3]"], "expected an object"),
    ],
)
def test_wrong_options(physicsnemo, options, text):
    result = physicsnemo("check", "Waves", *options)
    assert result.exit_code == 2
    assert text in " ".join(result.stderr.split())


def test_without_onnx_its_flags_are_left_out_aloud(physicsnemo, install, monkeypatch):
    claims = MODEL.replace("cuda_graphs=True", "onnx_cpu=True, onnx_runtime=True")
    install("onnx_lab", "[physicsnemo.models]\nRipples = onnx_lab:Waves\n", onnx_lab=claims)
    command = ("check", "Ripples", *PLAIN[2:])
    assert outcomes(physicsnemo(*command).stdout)["onnx_cpu"] == "passed"
    find = importlib.util.find_spec
    hidden = ("onnx", "onnxruntime")
    for name in hidden:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(
        "physicsnemo.cli.check.find_spec", lambda name: None if name in hidden else find(name)
    )
    result = physicsnemo(*command)
    assert result.exit_code == 0
    text = "flags of ONNX are not tried without onnx, onnxruntime; for them, run pip install"
    assert result.stderr == f"Warning: {text} 'physicsnemo-core[onnx]'\n"
    found = outcomes(result.stdout)
    assert found["onnx_cpu"] == found["onnx_runtime"] == "unproven"
    assert found["compile"] == "passed"
    assert physicsnemo(*command, "--quick").stderr == ""


def test_results_come_one_by_one(physicsnemo, monkeypatch):
    """Each is printed before the next check begins."""
    printed, seen = [], []
    monkeypatch.setattr(
        "physicsnemo.cli._output.click.echo", lambda text="", **_: printed.append(text)
    )

    def each(case, device, expensive):
        for name in ("first", "second"):
            seen.append([it.split()[0] for it in printed[2:]])
            yield physicsnemo_testing.Result(name, "", "passed", seconds=1.25)

    monkeypatch.setattr(physicsnemo_testing, "each_result", each)
    assert physicsnemo(*PLAIN).exit_code == 0
    assert seen == [[], ["first"]]
    assert click.unstyle(printed[-1]).split() == ["second", "passed", "1.2", "s"]
