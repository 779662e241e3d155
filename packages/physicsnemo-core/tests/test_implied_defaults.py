# SPDX-License-Identifier: Apache-2.0
"""Arguments that files of the reference implementation imply by leaving them out."""

import json
import logging
import tarfile

import pytest
import torch

from physicsnemo import Module


class Oddity(Module):
    """Has a constant that the reference implementation mended, and the paper has otherwise."""

    _implied_args = {
        "1.2.0": {"numerics": "reference-1.2"},
        "2.1.0": {"numerics": "reference-2.1"},
    }

    def __init__(self, size, numerics="paper"):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(size))
        self.numerics = numerics


class Twin(Module):
    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second


class Fixed(Oddity):
    """A subclass whose constructor leaves no choice."""

    def __init__(self, size):
        super().__init__(size, "paper")


def members_of(path):
    with tarfile.open(path) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive}


def arguments_and_version(path):
    members = members_of(path)
    arguments, metadata = (json.loads(members[f"{name}.json"]) for name in ("args", "metadata"))
    return arguments["__args__"], metadata["physicsnemo_version"]


def write_as_reference(path, metadata):
    """Write a file of ``Oddity(2)`` as the reference implementation would."""
    Oddity(2, "reference-1.2").save(path)
    members = members_of(path)
    assert json.loads(members["args.json"])["__args__"] == {"size": 2}
    members["metadata.json"] = json.dumps(metadata).encode()
    for name, content in members.items():
        (path.parent / name).write_bytes(content)
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name in members:
            archive.add(path.parent / name, name)


@pytest.mark.parametrize(
    ("metadata", "numerics"),
    [
        ({}, "reference-1.2"),
        ({"physicsnemo_version": None}, "reference-1.2"),
        ({"physicsnemo_version": "unknown"}, "reference-1.2"),
        ({"physicsnemo_version": ["2.1"]}, "reference-1.2"),
        ({"physicsnemo_version": "0.9.0"}, "reference-1.2"),
        ({"physicsnemo_version": "1.2.0"}, "reference-1.2"),
        ({"physicsnemo_version": "2.0.1"}, "reference-1.2"),
        ({"physicsnemo_version": "2.1.0a0"}, "reference-2.1"),
        ({"physicsnemo_version": "2.1.1"}, "reference-2.1"),
        ({"physicsnemo_version": "10.0"}, "reference-2.1"),
    ],
)
def test_files_of_the_reference_implementation(tmp_path, metadata, numerics):
    path = tmp_path / "model.mdlus"
    write_as_reference(path, metadata)
    assert Module.from_checkpoint(path).numerics == numerics


@pytest.mark.parametrize(
    ("numerics", "stated", "version"),
    [
        ("reference-1.2", {}, "0.1.0"),
        ("reference-2.1", {}, "2.1.0"),
        ("paper", {"numerics": "paper"}, "0.1.0"),
    ],
)
def test_round_trips(tmp_path, numerics, stated, version):
    path = tmp_path / "model.mdlus"
    Oddity(2, numerics).save(path)
    assert arguments_and_version(path) == ({"size": 2, **stated}, version)
    twin = Module.from_checkpoint(path)
    assert twin.numerics == twin._args["__args__"]["numerics"] == numerics
    twin.save(path)  # a second generation is the same
    assert arguments_and_version(path) == ({"size": 2, **stated}, version)


@pytest.mark.parametrize(
    ("first", "second", "version", "stated"),
    [
        ("reference-1.2", "reference-1.2", "0.1.0", 0),
        ("reference-2.1", "reference-2.1", "2.1.0", 0),
        ("reference-1.2", "reference-2.1", "0.1.0", 1),
        ("reference-2.1", "paper", "0.1.0", 2),
    ],
)
def test_nested_models(tmp_path, first, second, version, stated):
    path = tmp_path / "twin.mdlus"
    Twin(Oddity(1, first), [Oddity(2, second)][0]).save(path)
    assert arguments_and_version(path)[1] == version
    assert members_of(path)["args.json"].count(b'"numerics"') == stated
    twin = Module.from_checkpoint(path)
    assert (twin.first.numerics, twin.second.numerics) == (first, second)


@pytest.mark.parametrize(
    ("numerics", "told"), [("paper", 1), ("reference-1.2", 0), ("reference-2.1", 0)]
)
def test_what_the_reference_implementation_refuses_is_said_once(tmp_path, caplog, numerics, told):
    caplog.set_level(logging.INFO)
    Oddity(2, numerics).save(tmp_path / "model.mdlus")
    text = "numerics='paper' is unknown to nvidia-physicsnemo, which will refuse this file"
    assert [record.getMessage() for record in caplog.records] == [text] * told


def test_subclass_without_the_argument(tmp_path):
    Fixed(2).save(tmp_path / "model.mdlus")
    assert Module.from_checkpoint(tmp_path / "model.mdlus").numerics == "paper"
