# SPDX-License-Identifier: Apache-2.0
"""A file of a converted class loads as that class or not at all."""

import importlib
import json
import tarfile

import pytest
import torch

from physicsnemo import Module
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.format.container import open_checkpoint, write_checkpoint
from physicsnemo.registry import ModelRegistry

PLUGIN = """
import torch
from physicsnemo import Module

class Net(torch.nn.Module):
    def __init__(self, size=2):
        super().__init__()
        self.layer = torch.nn.Linear(size, size)

    def forward(self, x):
        return torch.{function}(self.layer(x))

NetPhysicsNeMoModel = Module.from_torch(Net)
"""
ZOO = """
import torch
from physicsnemo import Module

def make(function):
    class Net(torch.nn.Module):
        def __init__(self, size=2):
            super().__init__()
            self.layer = torch.nn.Linear(size, size)

        def forward(self, x):
            return function(self.layer(x))
    return {make}

First, Second = make(torch.relu), make(torch.sin)
"""


@pytest.fixture
def two_labs(install, request):
    """Two packages that convert a class of one name each, and register it under that name."""
    labs = [f"{request.node.name.lower().replace('[', '_').strip(']')}_{n}" for n in "ab"]
    for lab, function in zip(labs, ("relu", "sin"), strict=True):
        entry = f"[physicsnemo.models]\nNetPhysicsNeMoModel = {lab}:NetPhysicsNeMoModel\n"
        with pytest.warns() if lab == labs[1] else _nothing():
            install(lab.replace("_", "-"), entry, **{lab: PLUGIN.format(function=function)})
            ModelRegistry().list_models()
    return labs


class _nothing:  # noqa: N801  # stands for a context manager of no effect
    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


def classes_of(labs):
    return [importlib.import_module(lab).NetPhysicsNeMoModel for lab in labs]


def without_origin(path):
    """Write a file again as the reference implementation would have."""
    with open_checkpoint(path) as file:
        state, arguments, metadata = file.state_dict(), file.arguments, file.metadata
    kept = ("physicsnemo_version", "mdlus_file_version")
    write_checkpoint(path, state, arguments, {name: metadata[name] for name in kept})


@pytest.mark.parametrize("which", [0, 1])
def test_two_packages_convert_classes_of_one_name(two_labs, tmp_path, which):
    model_class = classes_of(two_labs)[which]
    path = tmp_path / "net.mdlus"
    model_class().save(path)
    assert type(Module.from_checkpoint(path)) is model_class
    assert type(Module.from_checkpoint(path, trusted=[model_class])) is model_class
    assert type(model_class.from_checkpoint(path)) is model_class
    other = classes_of(two_labs)[1 - which]
    with pytest.raises(CheckpointError, match=rf"made of {two_labs[which]}\.Net\), which is no"):
        other.from_checkpoint(path)


def test_what_the_file_records(two_labs, tmp_path):
    classes_of(two_labs)[1]().save(tmp_path / "net.mdlus")
    with tarfile.open(tmp_path / "net.mdlus") as archive:
        metadata = json.load(archive.extractfile("metadata.json"))
    assert metadata["distribution"] == two_labs[1].replace("_", "-")
    assert metadata["registered_name"] == "NetPhysicsNeMoModel"
    assert metadata["defined_as"] == f"{two_labs[1]}:Net"


def test_a_file_that_does_not_tell_is_not_guessed(two_labs, tmp_path):
    first, second = classes_of(two_labs)
    path = tmp_path / "net.mdlus"
    second().save(path)
    without_origin(path)
    names = [rf"made of {lab}\.Net\)" for lab in two_labs]
    with pytest.raises(CheckpointError, match=f"which may be .*{names[0]} or .*{names[1]}: pass"):
        Module.from_checkpoint(path)
    assert type(Module.from_checkpoint(path, trusted=[second])) is second
    assert type(second.from_checkpoint(path)) is second
    assert type(first.from_checkpoint(path)) is first


def test_a_file_of_a_class_that_is_gone_takes_no_other_of_its_name(tmp_path):
    class Gone(torch.nn.Module):
        pass

    path = tmp_path / "gone.mdlus"
    Module.from_torch(Gone)().save(path)
    with open_checkpoint(path) as file:
        state, arguments, metadata = file.state_dict(), file.arguments, file.metadata
    metadata["defined_as"] = "far_lab:Gone"
    write_checkpoint(path, state, arguments, metadata)
    with pytest.raises(
        CheckpointError, match=r"made of far_lab\.Gone\), which is neither .*far_lab"
    ):
        Module.from_checkpoint(path)
    here = Module.from_torch(Gone)
    assert type(Module.from_checkpoint(path, trusted=[here])) is here


@pytest.mark.parametrize(
    "make", ["Module.from_torch(Net)", "type('Net', (Module,), dict(vars(Net)))"]
)
def test_one_package_makes_two_classes_of_one_name(install, tmp_path, make, request):
    zoo = f"zoo_{abs(hash(make))}"
    text = f"[physicsnemo.models]\nFirst = {zoo}:First\nSecond = {zoo}:Second\n"
    code = ZOO.format(make=make).replace("super().__init__", "super(type(self), self).__init__")
    install(zoo.replace("_", "-"), text, **{zoo: code})
    for name in ("First", "Second"):
        model_class = ModelRegistry().factory(name)
        model_class().save(tmp_path / f"{name}.mdlus")
        assert type(Module.from_checkpoint(tmp_path / f"{name}.mdlus")) is model_class


def test_classes_of_one_function_need_names(tmp_path):
    def make(function):
        class Net(torch.nn.Module):
            def forward(self, x):
                return function(x)

        return Net

    relu, sine = make(torch.relu), make(torch.sin)
    first, second = Module.from_torch(relu), Module.from_torch(sine)
    path = tmp_path / "net.mdlus"
    second().save(path)
    with pytest.raises(CheckpointError, match=r"which may be .* or .*from_torch.*name="):
        Module.from_checkpoint(path)
    assert type(Module.from_checkpoint(path, trusted=[second])) is second
    assert type(first.from_checkpoint(path)) is first
    named = Module.from_torch(sine, name="SineNet")
    named().save(path)
    assert type(Module.from_checkpoint(path)) is named


@pytest.mark.parametrize(
    ("module", "suffix"),
    [("physicsnemo.models.module", "PhysicsNeMoModel"), ("physicsnemo.core.module", "")],
)
def test_files_of_the_reference_are_found_by_name(tmp_path, module, suffix):
    class Lonely(torch.nn.Module):
        pass

    model_class = Module.from_torch(Lonely)
    path = tmp_path / "lonely.mdlus"
    model_class().save(path)
    with open_checkpoint(path) as file:
        state, arguments = file.state_dict(), file.arguments
    arguments |= {"__name__": f"Lonely{suffix}", "__module__": module}
    write_checkpoint(path, state, arguments, {"physicsnemo_version": "1.2.0"})
    assert type(Module.from_checkpoint(path)) is model_class
