# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint says of itself, and where its classes came from."""

import sys

import pytest

from physicsnemo import Module, inspect_checkpoint
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.format.container import write_checkpoint
from physicsnemo.core.install.provenance import Origin

PLUGIN = """
import torch
from physicsnemo import Module

class Plain(torch.nn.Module):
    def forward(self, x):
        return x

class Waves(Module):
    def __init__(self, inner=None):
        super().__init__()
        self.inner = inner

class Unlisted(Module):
    pass

Converted = Module.from_torch(Plain)
"""


@pytest.fixture
def waves(install, registry, request):
    """A plugin's module; each test has a plugin of its own."""
    name = request.node.name.removeprefix("test_")
    entries = [f"Waves = {name}:Waves", f"Smooth = {name}:Converted"]
    install(name, "\n".join(["[physicsnemo.models]", *entries]), **{name: PLUGIN})
    registry.factory("Waves")
    return sys.modules[name]


def write(path, metadata, **record):
    arguments = {"__name__": "Waves", "__module__": "gone.models", "__args__": {}, **record}
    write_checkpoint(path, {}, arguments, metadata)


def test_arguments_and_metadata(affine, tmp_path):
    path = tmp_path / "model.mdlus"
    affine(3, start=2.0).save(path)
    found = inspect_checkpoint(path)
    assert (found.model.name, found.model.module) == ("Affine", affine.__module__)
    assert found.model.arguments == {"size": 3, "start": 2.0, "power": 1}
    assert found.model.file_version == found.physicsnemo_version == "0.1.0"
    assert found.metadata["written_by"] == "physicsnemo-core 0.1.0"
    assert found.model.origin == Origin()
    assert found.nested == {}
    assert found.problems == []


def test_remote_file(affine):
    affine(3).save("memory://inspected.mdlus")
    assert inspect_checkpoint("memory://inspected.mdlus").model.arguments["size"] == 3


def test_distributions_are_recorded_for_nested_models_too(waves, affine, tmp_path):
    path = tmp_path / "model.mdlus"
    waves.Waves(waves.Waves(affine(1))).save(path)
    found = inspect_checkpoint(path)
    name = waves.__name__
    assert found.model.origin == found.nested["inner"].origin == Origin(name, "1.0", "Waves")
    assert found.nested["inner.inner"].origin == Origin()
    assert found.metadata["distribution"] == name
    assert found.metadata["__physicsnemo.Module__.inner.distribution_version"] == "1.0"
    assert found.problems == []


def test_class_that_is_registered_under_another_name(waves, tmp_path, monkeypatch):
    path = tmp_path / "model.mdlus"
    waves.Converted().save(path)
    assert inspect_checkpoint(path).model.origin.registered_name == "Smooth"
    monkeypatch.setattr("physicsnemo.core.rebuild.resolution._converted", lambda name: None)
    monkeypatch.setattr("physicsnemo.core.rebuild.resolution._imported", lambda module, name: None)
    assert type(Module.from_checkpoint(path)) is waves.Converted


def test_class_that_its_distribution_does_not_register(install, tmp_path):
    install("unlisted-waves", "", unlisted_waves=PLUGIN)
    info = tmp_path / "unlisted_waves-1.0.dist-info" / "top_level.txt"
    info.write_text("unlisted_waves\n")
    import unlisted_waves

    for model_class in (unlisted_waves.Unlisted, unlisted_waves.Converted):
        assert Origin.of(model_class) == Origin("unlisted-waves", "1.0", None)


def test_missing_plugin_is_named_and_not_imported(tmp_path):
    path = tmp_path / "model.mdlus"
    write(path, {"distribution": "Gone-Lab", "distribution_version": "2.3"})
    text = "saved by Gone-Lab 2.3, which is not installed: install it if you trust it"
    assert inspect_checkpoint(path).problems == [text]
    assert "gone" not in sys.modules
    with pytest.raises(CheckpointError, match=rf"holds a gone\.models\.Waves, {text}"):
        Module.from_checkpoint(path)


def test_plugin_of_another_version(waves, tmp_path):
    path = tmp_path / "model.mdlus"
    write(path, {"distribution": waves.__name__, "distribution_version": "0.9"})
    text = f"saved by {waves.__name__} 0.9, but 1.0 is installed"
    assert inspect_checkpoint(path).problems == [text]
    with pytest.raises(
        CheckpointError, match=rf"gone\.models\.Waves, .*another package.*\({text}\)"
    ):
        Module.from_checkpoint(path)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"distribution": ["a", "list"]},
        {"distribution": "--index-url=http://elsewhere x"},
        {"distribution": 3, "distribution_version": None, "registered_name": {}},
    ],
)
def test_files_without_a_proper_origin(metadata, tmp_path):
    write(tmp_path / "model.mdlus", metadata)
    found = inspect_checkpoint(tmp_path / "model.mdlus")
    assert found.model.origin == Origin()
    assert found.problems == []
    with pytest.raises(
        CheckpointError, match="neither imported nor registered: import gone.models"
    ):
        Module.from_checkpoint(tmp_path / "model.mdlus")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint file"):
        inspect_checkpoint(tmp_path / "absent.mdlus")
