# SPDX-License-Identifier: Apache-2.0
"""``physicsnemo info``, for files of any origin."""

import io
import json
import re
import sys
import tarfile
import zipfile

import click
import pytest
import torch

from physicsnemo import Module
from physicsnemo.cli._output import print_json
from physicsnemo.core.format.container import write_checkpoint
from physicsnemo.core.format.file_slice import FileSlice

TRAP = "raise SystemExit('this module was executed')\n"
PICKLED = b"cposix\nsystem\n(S'echo executed'\ntR."  # a pickle that runs a program when read


class Tied(Module):
    """Has one weight under two names, and a numerics argument."""

    def __init__(self, inner=None, numerics="paper"):
        super().__init__()
        self.one = torch.nn.Linear(4, 4)
        self.two = torch.nn.Linear(4, 4)
        self.two.weight = self.one.weight
        self.inner = inner


def record(name, module, **arguments):
    return {"__name__": name, "__module__": module, "__args__": arguments}


def fact(output, name):
    """Return what stands beside a name."""
    (found,) = [line for line in output.splitlines() if line.startswith(f"{name}  ")]
    return found.removeprefix(name).strip()


def describe(physicsnemo, path):
    return json.loads(physicsnemo("info", path, "--json").stdout)


def change(path, **members):
    """Replace members of a file."""
    with tarfile.open(path) as archive:
        content = {member.name: archive.extractfile(member).read() for member in archive}
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in {**content, **members}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def rewrite_as_zip(path):
    """Make the container of a file a zip, as newer releases of nvidia-physicsnemo write it."""
    with tarfile.open(path) as archive:
        content = {member.name: archive.extractfile(member).read() for member in archive}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def counted(method, counts):
    def call(self, buffer):
        counts.append(method(self, buffer))
        return counts[-1]

    return call


def test_a_model(physicsnemo, affine, tmp_path):
    affine(3, start=2.5).save(tmp_path / "model.mdlus")
    result = physicsnemo("info", tmp_path / "model.mdlus")
    assert (result.exit_code, result.stderr) == (0, "")
    assert fact(result.stdout, "class") == f"{affine.__module__}.Affine"
    assert fact(result.stdout, "comes from") == "not recorded"
    assert fact(result.stdout, "library version") == "0.1.0"
    assert fact(result.stdout, "file version") == "0.1.0"
    assert fact(result.stdout, "written by") == "physicsnemo-core 0.1.0"
    assert fact(result.stdout, "parameters") == "6 with buffers, 24 bytes in 3 tensors"
    assert fact(result.stdout, "start") == "2.5"
    assert fact(result.stdout, "scale").split() == ["(3,)", "float32", "12", "bytes"]


def test_ties_nested_models_and_numerics(physicsnemo, affine, tmp_path):
    Tied(affine(2), numerics="reference-1.2").double().save(tmp_path / "tied.mdlus")
    output = physicsnemo("info", tmp_path / "tied.mdlus").stdout
    facts, _, nested = output.partition("argument ")
    assert nested.split()[0] == "inner"
    assert f"{affine.__module__}.Affine" in nested
    assert (
        fact(facts.partition("Arguments")[0], "numerics") == "reference-1.2, which the file states"
    )
    assert fact(nested, "two.weight").endswith("same as one.weight")
    found = describe(physicsnemo, tmp_path / "tied.mdlus")
    assert found["elements"] == 16 + 4 + 4 + 2 + 2
    assert found["nested"]["inner"]["arguments"] == {"size": 2, "start": 1.0, "power": 1}
    shapes = {tensor["name"]: (tensor["shape"], tensor["dtype"]) for tensor in found["tensors"]}
    assert shapes["one.weight"] == ([4, 4], "float64")


def test_urls_and_zip_containers(physicsnemo, affine, tmp_path):
    affine(3).save(tmp_path / "model.mdlus")
    expected = describe(physicsnemo, tmp_path / "model.mdlus")
    affine(3).save("memory://info.mdlus")
    assert describe(physicsnemo, "memory://info.mdlus")["tensors"] == expected["tensors"]
    rewrite_as_zip(tmp_path / "model.mdlus")
    assert describe(physicsnemo, tmp_path / "model.mdlus")["tensors"] == expected["tensors"]


@pytest.mark.parametrize("container", ["tar", "zip"])
def test_numbers_are_not_read(physicsnemo, affine, tmp_path, monkeypatch, container):
    path = tmp_path / "large.mdlus"
    affine(10**6).save(path)
    if container == "zip":
        rewrite_as_zip(path)
    read = []
    monkeypatch.setattr(FileSlice, "readinto", counted(FileSlice.readinto, read))
    monkeypatch.setattr("mmap.mmap", None)
    assert describe(physicsnemo, path)["elements"] == 2 * 10**6
    assert 0 < sum(read) < 10_000


def test_nothing_that_a_file_names_is_imported(install, physicsnemo, tmp_path):
    install("trap-lab", "[physicsnemo.models]\nTrap = trap_lab:Trap\n", trap_lab=TRAP)
    inner = "__physicsnemo.Module__.inner"
    arguments = {
        **record("Trap", "trap_lab", inner=inner, factory={"_target_": "trap_lab.Trap"}),
        inner: record("Trap", "trap_lab"),
    }
    metadata = {"distribution": "trap-lab", "distribution_version": "0.5"}
    write_checkpoint(tmp_path / "trap.mdlus", {}, arguments, metadata)
    result = physicsnemo("info", tmp_path / "trap.mdlus")
    assert result.exit_code == 0
    assert fact(result.stdout, "problem") == "saved by trap-lab 0.5, but 1.0 is installed"
    assert "trap_lab" not in sys.modules


def test_missing_plugin(physicsnemo, tmp_path):
    metadata = {"distribution": "gone-lab", "distribution_version": "2.3"}
    write_checkpoint(tmp_path / "gone.mdlus", {}, record("Gone", "gone_lab"), metadata)
    text = "saved by gone-lab 2.3, which is not installed: install it if you trust it"
    result = physicsnemo("info", tmp_path / "gone.mdlus")
    assert result.exit_code == 0
    assert fact(result.stdout, "comes from") == "gone-lab 2.3"
    assert fact(result.stdout, "problem") == text
    assert describe(physicsnemo, tmp_path / "gone.mdlus")["problems"] == [text]


def test_texts_from_a_file_cannot_control_the_terminal(physicsnemo, tmp_path):
    evil = "\x1b]0;owned\x07[red]\u202e\x9b2J\ud800"
    arguments = record(evil, evil, **{evil: evil, "list": [evil]})
    state = {evil: torch.ones(1)}
    write_checkpoint(tmp_path / "evil.mdlus", state, arguments, {"written_by": evil})
    result = physicsnemo("info", tmp_path / "evil.mdlus")
    assert result.exit_code == 0
    assert all(character.isprintable() for character in result.stdout.replace("\n", ""))
    assert r"\x1b]0;owned\x07[red]\u202e\x9b2J\ud800" in result.stdout
    write_checkpoint(tmp_path / "evil.mdlus", {}, {**arguments, "__args__": []}, {})
    change(tmp_path / "evil.mdlus", **{evil.replace("\ud800", "/"): b""})
    result = physicsnemo("info", tmp_path / "evil.mdlus")
    assert result.exit_code == 1
    assert all(character.isprintable() for character in result.stderr.rstrip("\n"))


@pytest.mark.parametrize("command", ["info", "verify"])
def test_nothing_else_in_a_file_controls_the_terminal(physicsnemo, tmp_path, command):
    evil = "\x1b]0;owned\x07\r\n\x1b[2J\u2028\u202e\x9b2J"
    nested = f"__physicsnemo.Module__.{evil}"
    arguments = record(evil, evil, numerics=evil, inner=nested)
    arguments[nested] = record(evil, evil, **{evil: {evil: evil}})
    metadata = {"physicsnemo_version": f"2.0{evil}", "git_hash": evil, "mdlus_file_version": evil}
    path = tmp_path / "evil\x1b[2J\n.mdlus"
    write_checkpoint(path, {evil: torch.ones(1)}, arguments, metadata)
    result = physicsnemo(command, path)
    assert all(character.isprintable() for character in result.output.replace("\n", ""))
    assert r"\x1b]0;owned\x07" in result.output


def test_long_and_deep_arguments_are_shortened(physicsnemo, tmp_path):
    deep = json.loads("[" * 400 + "]" * 400)
    arguments = record("Deep", "deep", deep=deep, long=list(range(10**5)), text="x" * 10**5)
    write_checkpoint(tmp_path / "deep.mdlus", {}, arguments, {})
    result = physicsnemo("info", tmp_path / "deep.mdlus")
    assert result.exit_code == 0
    assert fact(result.stdout, "deep") == "[[[[[...]]]]]"
    assert len(result.stdout) < 10_000


def test_json_of_numbers_that_it_does_not_have(capsys):
    def refuse(name):
        raise AssertionError(name)

    content = {"scale": float("nan"), "range": [float("-inf"), (float("inf"), 1.5)]}
    print_json(content)
    found = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert found == {"scale": "NaN", "range": ["-Infinity", ["Infinity", 1.5]]}


def test_json_that_python_cannot_print():
    deep = []
    for _ in range(10**5):
        deep = [deep]
    with pytest.raises(click.ClickException, match="nested too deeply to print"):
        print_json(deep)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda path: path.write_bytes(b"no checkpoint"), "is not a .mdlus file, or it is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:3000]), "or it is damaged"),
        (lambda path: change(path, **{"model.pt": b"none"}), "model.pt in .* cannot be read"),
        (lambda path: change(path, **{"model.pt": PICKLED}), "model.pt in .* cannot be read"),
        (lambda path: change(path, **{"args.json": b"[1,"}), "args.json in .* is not valid JSON"),
        (lambda path: change(path, **{"args.json": b"{}"}), "must hold the texts __name__"),
        (lambda path: change(path, **{"../up": b""}), "member '../up' of .* lies in a folder"),
        (lambda path: path.unlink(), "there is no checkpoint file at"),
    ],
)
def test_damaged_file_is_one_line(physicsnemo, affine, tmp_path, damage, text, capfd):
    path = tmp_path / "model.mdlus"
    affine(3).save(path)
    damage(path)
    result = physicsnemo("info", path)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert re.search(text, line)
    assert "executed" not in capfd.readouterr().out


def test_tensor_that_claims_more_than_its_storage(physicsnemo, tmp_path):
    path = tmp_path / "greedy.mdlus"
    write_checkpoint(path, {"w": torch.ones(1000)}, record("Net", "net"), {})
    content = path.read_bytes()
    assert content.count(b"M\xe8\x03\x85") == 1  # the shape (1000,) as pickle has it
    path.write_bytes(content.replace(b"M\xe8\x03\x85", b"M\xff\xff\x85"))
    result = physicsnemo("info", path)
    assert result.exit_code == 1
    assert "reaches beyond its storage: it needs 262140 bytes of 4000" in result.stderr


def test_unknown_protocol(physicsnemo):
    result = physicsnemo("info", "gopher://host/model.mdlus")
    assert result.exit_code == 2
    assert "Protocol not known: gopher" in result.stderr


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("2.1.1", "those of nvidia-physicsnemo 2.1.1, which the file claims"),
        ("0.1.0", "those of nvidia-physicsnemo 1.2, the oldest, since the file claims 0.1.0"),
        (None, "those of nvidia-physicsnemo 1.2, the oldest, since neither container nor keys"),
    ],
)
def test_whose_numerics_a_file_means_and_why(physicsnemo, affine, tmp_path, version, told):
    path = tmp_path / "model.mdlus"
    affine(2).save(path)
    change(path, **{"metadata.json": json.dumps({"physicsnemo_version": version}).encode()})
    lines = " ".join(physicsnemo("info", path).stdout.partition("library version")[0].split())
    assert told in lines


def test_a_file_of_this_library_that_states_no_numerics_warns_of_none(
    physicsnemo, affine, tmp_path
):
    affine(2).save(tmp_path / "model.mdlus")
    lines = " ".join(physicsnemo("info", tmp_path / "model.mdlus").stdout.split())
    told = "numerics the only ones of its class; if it has several, those of nvidia-physicsnemo 1.2"
    assert told in lines
