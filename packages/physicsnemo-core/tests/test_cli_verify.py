# SPDX-License-Identifier: Apache-2.0
"""``physicsnemo verify``, part by part."""

import itertools
import json
import re
import sys

import pytest
import torch

from physicsnemo.core.format.container import write_checkpoint
from physicsnemo.core.rebuild.verify import PARTS

MODEL = """
import torch
from physicsnemo import Module

class Waves(Module):
    def __init__(self, size, inner=None):
        super().__init__()
        if size > 100:
            raise ValueError("too many waves")
        self.weight = torch.nn.Parameter(torch.ones(size))
        self.inner = inner
"""
REGISTERED = "[physicsnemo.models]\nWaves = {0}:Waves\n"
NUMBERS = [11.0, 12.0, 13.0]
INNER = "__physicsnemo.Module__.inner"
_count = itertools.count()


@pytest.fixture
def lab(install):
    """The module of an installed plugin with one model; not imported, and of no other test."""
    name = f"verify_lab_{next(_count)}"
    install(name, REGISTERED.format(name), **{name: MODEL})
    return name


def write(path, module, state=None, name="Waves", others=None, **arguments):
    record = {"__name__": name, "__module__": module, "__args__": {"size": 3, **arguments}}
    state = {"weight": torch.tensor(NUMBERS), **(state or {})}
    write_checkpoint(path, state, {**record, **(others or {})}, {})


def table(result):
    """Return result and finding of each part."""
    lines = (line.strip().split(maxsplit=2) for line in result.stdout.splitlines())
    return {words[0]: words[1:] for words in lines if words and words[0] in PARTS}


def assert_fails(result, part, text):
    """Check that the parts before passed and those after were not tried."""
    number = PARTS.index(part)
    found = table(result)
    assert [found[name][0] for name in PARTS[:number]] == ["passed"] * number
    assert found[part][0] == "failed"
    assert text in found[part][1]
    assert all(found[name] == ["not", "tried"] for name in PARTS[number + 1 :])
    assert (result.exit_code, result.stderr) == (1, "")


def test_sound_file(physicsnemo, lab, tmp_path):
    path = tmp_path / "model.mdlus"
    others = {INNER: {"__name__": "Waves", "__module__": lab, "__args__": {"size": 3}}}
    write(path, lab, {"inner.weight": torch.ones(3)}, others=others, inner=INNER)
    assert lab not in sys.modules
    result = physicsnemo("verify", path)
    assert (result.exit_code, result.stderr) == (0, "")
    found = table(result)
    assert [result for result, _ in found.values()] == ["passed"] * len(PARTS)
    assert found["class"][1] == f"{lab}.Waves"
    assert found["weights"][1].startswith("2 tensors")
    assert found["model"][1].endswith("6 parameters")


def test_json_and_urls(physicsnemo, lab):
    write("memory://verify.mdlus", lab)
    result = physicsnemo("verify", "memory://verify.mdlus", "--json")
    found = json.loads(result.stdout)
    assert (found["file"], found["passed"]) == ("memory://verify.mdlus", True)
    assert [part["part"] for part in found["parts"]] == list(PARTS)
    write("memory://verify.mdlus", lab, size=4)
    result = physicsnemo("verify", "memory://verify.mdlus", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert not found["passed"]
    assert [part["passed"] for part in found["parts"]] == [True] * 5 + [False]


def test_damaged_container(physicsnemo, lab, tmp_path):
    write(tmp_path / "model.mdlus", lab)
    (tmp_path / "model.mdlus").write_bytes((tmp_path / "model.mdlus").read_bytes()[:2000])
    assert_fails(physicsnemo("verify", tmp_path / "model.mdlus"), "container", "or it is damaged")


@pytest.mark.parametrize(
    ("old", "new", "part", "text"),
    [
        (b"_rebuild_tensor_v2", b"_rebuild_tensor_v9", "weights", "model.pt in"),
        (torch.tensor(NUMBERS), torch.tensor([11.0, 12.5, 13.0]), "checksums", "data/0 differs"),
    ],
)
def test_damaged_weights(physicsnemo, lab, tmp_path, old, new, part, text):
    path = tmp_path / "model.mdlus"
    write(path, lab)
    old, new = (it if isinstance(it, bytes) else it.numpy().tobytes() for it in (old, new))
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))
    assert_fails(physicsnemo("verify", path), part, text)


def test_weights_without_checksums(physicsnemo, lab, tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        write(tmp_path / "model.mdlus", lab)
    finally:
        torch.serialization.set_crc32_options(True)
    assert physicsnemo("verify", tmp_path / "model.mdlus").exit_code == 0


@pytest.mark.parametrize(
    ("name", "module", "text"),
    [
        ("Waves", "gone_lab", "and the registered model of that name"),
        ("Gone", "gone_lab", "neither imported nor registered: import gone_lab first"),
    ],
)
def test_class_that_is_not_installed(physicsnemo, lab, tmp_path, name, module, text):
    write(tmp_path / "model.mdlus", module, name=name)
    assert_fails(physicsnemo("verify", tmp_path / "model.mdlus"), "class", text)


def test_module_that_only_the_file_names_is_not_imported(physicsnemo, install, tmp_path):
    name = f"verify_trap_{next(_count)}"
    install(name, "", **{name: "raise SystemExit('executed')"})
    write(tmp_path / "model.mdlus", name)
    assert_fails(physicsnemo("verify", tmp_path / "model.mdlus"), "class", "import verify_trap")
    assert name not in sys.modules


def test_class_whose_plugin_fails(physicsnemo, install, tmp_path):
    name = f"verify_broken_{next(_count)}"
    install(name, REGISTERED.format(name), **{name: "1 / 0"})
    write(tmp_path / "model.mdlus", name)
    text = f"{name} 1.0 registers Waves"
    assert_fails(physicsnemo("verify", tmp_path / "model.mdlus"), "class", text)


def test_hook_that_fails(physicsnemo, install, tmp_path):
    name = f"verify_hook_{next(_count)}"
    code = "from physicsnemo import hookimpl\n@hookimpl\ndef resolve_class(name):\n    1 / 0\n"
    install(name, f"[physicsnemo.plugins]\nlab = {name}\n", **{name: code})
    write(tmp_path / "model.mdlus", "gone_lab", name="Gone")
    text = "its hook resolve_class failed: ZeroDivisionError"
    assert_fails(physicsnemo("verify", tmp_path / "model.mdlus"), "class", text)


def test_arguments_that_do_not_fit(physicsnemo, lab, registry, tmp_path):
    registry.factory("Waves")
    write(tmp_path / "model.mdlus", lab, width=5)
    text = "the arguments of Waves do not fit its signature: got an unexpected keyword"
    assert_fails(physicsnemo("verify", tmp_path / "model.mdlus"), "arguments", text)


def test_arguments_of_a_nested_model_that_do_not_fit(physicsnemo, lab, registry, tmp_path):
    registry.factory("Waves")
    others = {INNER: {"__name__": "Waves", "__module__": lab, "__args__": {}}}
    write(tmp_path / "model.mdlus", lab, others=others, inner=INNER)
    text = "the arguments of Waves, inner, do not fit its signature: missing a required"
    assert_fails(physicsnemo("verify", tmp_path / "model.mdlus"), "arguments", text)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"size": 101}, "Waves cannot be built .* ValueError: too many waves"),
        ({"size": 4}, r"1 of another shape: weight \(3,\), expected \(4,\)"),
        ({"state": {"bias": torch.ones(1)}}, "1 unexpected: bias"),
        ({"state": {"weight": torch.ones(2, 2)}}, r"1 of another shape: weight \(2, 2\)"),
    ],
)
def test_model_that_does_not_fit(physicsnemo, lab, tmp_path, changes, text):
    write(tmp_path / "model.mdlus", lab, **changes)
    result = physicsnemo("verify", tmp_path / "model.mdlus")
    assert_fails(result, "model", "")
    assert re.search(text, result.stdout)


def test_module_that_the_user_trusts(physicsnemo, tmp_path, monkeypatch):
    name = f"verify_script_{next(_count)}"
    (tmp_path / f"{name}.py").write_text(MODEL)
    write(tmp_path / "model.mdlus", "__main__")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert_fails(physicsnemo("verify", "model.mdlus"), "class", "neither imported nor registered")
    assert physicsnemo("verify", "model.mdlus", "--trust", name).exit_code == 0
    result = physicsnemo("verify", "model.mdlus", "--trust", "no_such_module")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: No module named 'no_such_module'\n"


def test_missing_file(physicsnemo, tmp_path):
    result = physicsnemo("verify", tmp_path / "absent.mdlus")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: there is no checkpoint file at")
