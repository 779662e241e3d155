# SPDX-License-Identifier: Apache-2.0
"""Hooks of plugins, each by an installed distribution."""

import json
import subprocess
import sys
import tarfile

import pytest
import torch

import physicsnemo
from physicsnemo import Module
from physicsnemo.core.errors import CheckpointError, PluginError, PluginWarning
from physicsnemo.core.rebuild.resolution import resolve
from physicsnemo.hooks import GROUP, Hooks, call

HEADER = "from physicsnemo import hookimpl\n"
RESOLVE = """
from physicsnemo import Module, hookimpl

class Renamed(Module):
    def __init__(self, size):
        super().__init__()

@hookimpl
def resolve_class(module, name):
    return {("olden.models", "Former"): Renamed, ("olden.models", "Text"): "Renamed"}.get(
        (module, name)
    )
"""
MIGRATE = """
@hookimpl
def migrate_arguments(model_class, version, arguments):
    if model_class.__name__ == "Affine" and version == "0.0.1":
        return {"size": arguments.pop("width")}
    if version == "0.0.2":
        return [arguments]
"""
METADATA = """
@hookimpl
def contribute_metadata(model):
    return {"lab.device": str(model.device)}
"""
TOLD = """
seen = []

@hookimpl
def saved(model, url):
    seen.append(("saved", type(model).__name__, url))

@hookimpl
def loaded(url, model):
    seen.append(("loaded", type(model).__name__, url))
"""
GRAPH = """
@hookimpl
def adapt_graph(graph):
    import torch
    if isinstance(graph, dict):
        return torch.tensor(graph["edges"]).T, graph["nodes"], graph["nodes"]
"""
COMMAND = """
@hookimpl
def cli_command():
    import click
    return click.Command("greet")
"""


def plugin(name):
    return f"[{GROUP}]\nlab = {name}\n"


def metadata_of(path):
    with tarfile.open(path) as archive:
        return json.load(archive.extractfile("metadata.json"))


def rewrite(path, arguments, version):
    """Write the file of a model again as another release would have."""
    with tarfile.open(path) as archive:
        members = {m.name: archive.extractfile(m).read() for m in archive}
    record = json.loads(members["args.json"])
    metadata = json.loads(members["metadata.json"]) | {"mdlus_file_version": version}
    members["args.json"] = json.dumps(record | {"__args__": arguments}).encode()
    members["metadata.json"] = json.dumps(metadata).encode()
    for name, content in members.items():
        (path.parent / name).write_bytes(content)
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name in members:
            archive.add(path.parent / name, name)


def test_every_hook_documents_its_parameters():
    hooks = {name: hook for name, hook in vars(Hooks).items() if not name.startswith("_")}
    assert set(hooks) == {
        "resolve_class",
        "migrate_arguments",
        "contribute_metadata",
        "saved",
        "loaded",
        "adapt_graph",
        "cli_command",
    }
    for hook in hooks.values():
        names = hook.__code__.co_varnames[1 : hook.__code__.co_argcount]
        for name in names:
            assert name in hook.__doc__.partition("Parameters")[2]


def test_hooks_import_no_torch():
    code = "import sys; from physicsnemo import hookimpl; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_plugins_are_loaded_on_first_use_only(install, registry, affine, tmp_path):
    install("lazy-lab", plugin("lazy_lab"), lazy_lab=HEADER + METADATA)
    registry.list_models()
    assert dir(physicsnemo)
    affine(2)
    assert "lazy_lab" not in sys.modules
    affine(2).save(tmp_path / "model.mdlus")
    assert "lazy_lab" in sys.modules


def test_class_of_an_old_checkpoint(install):
    install("resolve-lab", plugin("resolve_lab"), resolve_lab=RESOLVE)
    record = {"__name__": "Former", "__module__": "olden.models", "__args__": {"size": 1}}
    assert resolve(record, Module).__name__ == "Renamed"
    with pytest.raises(CheckpointError, match="neither imported nor registered: import olden"):
        resolve({**record, "__name__": "Unknown"}, Module)
    with pytest.raises(
        PluginError, match=r"'lab' of resolve-lab 1\.0: resolve_class must return a subclass"
    ):
        resolve({**record, "__name__": "Text"}, Module)


def test_known_classes_are_not_left_to_plugins(install, affine):
    code = HEADER + "@hookimpl\ndef resolve_class(module, name):\n    raise ValueError(name)\n"
    install("greedy-lab", plugin("greedy_lab"), greedy_lab=code)
    record = {"__name__": "Affine", "__module__": affine.__module__, "__args__": {"size": 1}}
    assert resolve(record, Module) is affine


def test_arguments_of_a_version_that_the_class_cannot_read(install, affine, tmp_path):
    path = tmp_path / "model.mdlus"
    affine(2, start=3.0).save(path)
    rewrite(path, {"width": 2}, "0.0.1")
    with pytest.raises(CheckpointError, match=r"version 0\.0\.1 .* is not compatible"):
        Module.from_checkpoint(path)
    install("migrate-lab", plugin("migrate_lab"), migrate_lab=HEADER + MIGRATE)
    assert Module.from_checkpoint(path).scale.tolist() == [3.0, 3.0]
    rewrite(path, {"width": 2}, "0.0.2")
    with pytest.raises(
        PluginError, match=r"migrate-lab 1\.0: migrate_arguments must return a dict"
    ):
        Module.from_checkpoint(path)


def test_metadata_of_a_plugin(install, affine, tmp_path):
    install("metadata-lab", plugin("metadata_lab"), metadata_lab=HEADER + METADATA)
    affine(2).save(tmp_path / "model.mdlus")
    assert metadata_of(tmp_path / "model.mdlus")["lab.device"] == "cpu"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ('{"distribution": "mine"}', "may not replace distribution"),
        ('{"lab.set": {1, 2}}', "must return a dictionary that JSON can hold"),
        ('"text"', "must return a dictionary that JSON can hold"),
    ],
)
def test_metadata_that_cannot_be_taken(install, affine, tmp_path, answer, text):
    name = f"wrong_metadata_{len(answer)}"
    code = f"{HEADER}@hookimpl\ndef contribute_metadata(model):\n    return {answer}\n"
    install(name, plugin(name), **{name: code})
    with pytest.raises(PluginError, match=rf"'lab' of {name} 1\.0: .*{text}"):
        affine(2).save(tmp_path / "model.mdlus")
    assert list(tmp_path.glob("*.mdlus")) == []


def test_plugins_are_told_of_saving_and_loading(install, affine, tmp_path):
    install("told-lab", plugin("told_lab"), told_lab=HEADER + TOLD)
    path = tmp_path / "model.mdlus"
    model = affine(2)
    model.save(path)
    model.load(path)
    Module.from_checkpoint(path)
    assert sys.modules["told_lab"].seen == [
        ("saved", "Affine", path),
        ("loaded", "Affine", path),
        ("loaded", "Affine", path),
    ]


def test_graphs_of_other_libraries(install):
    install("graph-lab", plugin("graph_lab"), graph_lab=HEADER + GRAPH)
    ((_, (edges, sources, targets)),) = call("adapt_graph", graph={"edges": [[0, 1]], "nodes": 2})
    assert edges.tolist() == [[0], [1]]
    assert (sources, targets) == (2, 2)
    assert list(call("adapt_graph", graph=torch.zeros(1))) == []


def test_commands(install):
    install("command-lab", plugin("command_lab"), command_lab=HEADER + COMMAND)
    ((name, command),) = call("cli_command")
    assert name == "the plugin 'lab' of command-lab 1.0"
    assert command.name == "greet"


def test_failing_hook_is_reported_by_plugin(install, affine, tmp_path):
    code = HEADER + "@hookimpl\ndef saved(model, url):\n    raise RuntimeError('no network')\n"
    install("failing-lab", plugin("failing_lab"), failing_lab=code)
    text = r"'lab' of failing-lab 1\.0: its hook saved failed: RuntimeError: no network"
    with pytest.raises(PluginError, match=text):
        affine(2).save(tmp_path / "model.mdlus")
    assert Module.from_checkpoint(tmp_path / "model.mdlus").scale.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("code", ["raise RuntimeError('half installed')", "import absent_library"])
def test_plugin_that_cannot_be_loaded_is_left_out(install, affine, tmp_path, code):
    name = f"broken_{len(code)}"
    install(name, plugin(name), **{name: code})
    install("sound-lab", plugin("sound_lab"), sound_lab=HEADER + METADATA)
    with pytest.warns(PluginWarning, match=rf"'lab' of {name} 1\.0 is left out, it cannot be load"):
        affine(2).save(tmp_path / "model.mdlus")
    assert "lab.device" in metadata_of(tmp_path / "model.mdlus")


@pytest.mark.parametrize(
    ("signature", "text"),
    [
        ("saves(model)", "unknown hook 'saves' .*the hooks are .*resolve_class.*saved"),
        ("saved(model, path)", "Argument.s. {'path'} are declared in the hookimpl but can not"),
    ],
)
def test_misspelt_hook_is_an_error(install, affine, tmp_path, signature, text):
    name = f"misspelt_{len(signature)}"
    install(name, plugin(name), **{name: f"{HEADER}@hookimpl\ndef {signature}:\n    pass\n"})
    for _ in range(2):  # a second attempt says the same
        with pytest.raises(PluginError, match=rf"(?s)'lab' of {name} 1\.0 does not fit: .*{text}"):
            affine(2).save(tmp_path / "model.mdlus")
