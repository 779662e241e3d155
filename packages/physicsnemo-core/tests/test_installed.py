# SPDX-License-Identifier: Apache-2.0
"""What is broken among installed packages, and how processes fork."""

import os
import shutil
import signal
import sys
import threading
import warnings

import pytest

from physicsnemo import Module, hooks
from physicsnemo.core.errors import PluginWarning, RegistryWarning
from physicsnemo.core.install import entry_points
from physicsnemo.registry import ModelRegistry

WAVES = "from physicsnemo import Module\n\nclass Waves(Module):\n    pass\n"
PLUGIN = (
    "from physicsnemo import hookimpl\n\n@hookimpl\ndef contribute_metadata():\n    return {}\n"
)


def leave(folder, name, **files):
    """Leave a folder of metadata with some files."""
    (folder / name).mkdir()
    for file, content in files.items():
        path = folder / name / file.replace("__", ".")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    ModelRegistry().__restore_registry__()
    hooks.forget_plugins()


def points(group, *lines):
    return "\n".join([f"[{group}]", *lines, ""])


def works(affine, tmp_path):
    """List, save and load; return the texts of all warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        names = ModelRegistry().list_models()
        ModelRegistry().list_models()
        affine(2).save(tmp_path / "model.mdlus")
        assert type(Module.from_checkpoint(tmp_path / "model.mdlus")) is affine
    return names, [str(warning.message) for warning in caught]


LEFTOVERS = {
    "ghost-1.0.dist-info": {},
    "ghost-2.0.dist-info": {"METADATA": ""},
    "ghost-3.0.dist-info": {"METADATA": "Metadata-Version: 2.1\nVersion: 3.0\n"},
    "ghost-4.0.dist-info": {"METADATA": b"\xff\xfe"},
    "ghost.egg-info": {"PKG-INFO": ""},
    "~host-1.0.dist-info": {"METADATA": "Metadata-Version: 2.1\nName: ghost\nVersion: 1.0\n"},
}


@pytest.mark.parametrize("name", LEFTOVERS)
def test_a_leftover_stops_nothing_and_is_told_of_once(name, install, affine, tmp_path):
    install("waves-i", points("physicsnemo.models", "Waves = waves_i:Waves"), waves_i=WAVES)
    lines = points("physicsnemo.models", "Waves = lost:Waves", "Lost = lost:Lost")
    leave(tmp_path, name, entry_points__txt=lines, **LEFTOVERS[name])
    names, told = works(affine, tmp_path)
    assert "Waves" in names
    assert [text for text in told if name in text and "interrupted" in text] == told[:1] == told
    assert ModelRegistry().factory("Waves").__module__ == "waves_i"
    if not name.startswith("~"):
        with pytest.raises(ImportError, match=r"ghost .* registers Lost as 'lost:Lost'"):
            ModelRegistry().factory("Lost")
        assert "no module 'lost'" in ModelRegistry().describe("Lost").error


@pytest.mark.parametrize("name", LEFTOVERS)
def test_a_leftover_of_a_plugin_stops_nothing(name, install, affine, tmp_path):
    install("plug-i", points("physicsnemo.plugins", "mine = plug_i"), plug_i=PLUGIN)
    lines = points("physicsnemo.plugins", "lost = lost_plugin")
    leave(tmp_path, name, entry_points__txt=lines, **LEFTOVERS[name])
    _, told = works(affine, tmp_path)
    assert len(told) == 1
    assert name in told[0]
    assert any("plug-i" in str(found) for found in hooks._load_plugins().manager.list_name_plugin())


@pytest.mark.parametrize("group", ["physicsnemo.models", "physicsnemo.plugins"])
def test_what_is_broken_stops_nothing_where_warnings_are_errors(group, affine, tmp_path, install):
    leave(tmp_path, "ghost-1.0.dist-info", entry_points__txt=points(group, "Lost = lost:Lost"))
    leave(
        tmp_path, "odd-1.0.dist-info", entry_points__txt=points(group, "no equals sign", "=", "x=")
    )
    leave(tmp_path, "bad-1.0.dist-info", entry_points__txt=b"\xff" + points(group).encode())
    sys.path.insert(0, str(tmp_path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ModelRegistry().list_models()
            affine(2).save(tmp_path / "model.mdlus")
    finally:
        sys.path.remove(str(tmp_path))
        ModelRegistry().__restore_registry__()
        hooks.forget_plugins()


def test_only_the_malformed_line_is_left_out(install, registry):
    lines = ("Bad line", "Waves = waves_j:Waves [extra]", "= nothing")
    install("waves-j", points("physicsnemo.models", *lines), waves_j=WAVES)
    with pytest.warns(RegistryWarning, match=r"waves_j-1.0.*malformed.*'Bad line', '= nothing'"):
        assert "Waves" in registry.list_models()
    assert registry.factory("Waves").__module__ == "waves_j"


def test_a_distribution_twice_on_the_path_counts_once(install, tmp_path):
    install("plug-k", points("physicsnemo.plugins", "mine = plug_k"), plug_k=PLUGIN)
    shutil.copytree(tmp_path / "plug_k-1.0.dist-info", tmp_path / "plug_k-0.9.dist-info")
    hooks.forget_plugins()
    with warnings.catch_warnings():
        warnings.simplefilter("error", PluginWarning)
        plugins = hooks._load_plugins()
    assert not plugins.misfits
    assert len([1 for name, _ in plugins.manager.list_name_plugin() if "plug-k" in name]) == 1


def test_a_distribution_that_is_deleted_while_it_is_in_use(install, registry, tmp_path):
    install("waves-l", points("physicsnemo.models", "Waves = waves_l:Waves"), waves_l=WAVES)
    assert "Waves" in registry.list_models()
    shutil.rmtree(tmp_path / "waves_l-1.0.dist-info")
    waves = registry.factory("Waves")
    assert registry.describe("Waves").distribution == "waves-l"
    waves().save(tmp_path / "waves.mdlus")
    assert type(Module.from_checkpoint(tmp_path / "waves.mdlus")) is waves


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_forked_while_models_are_looked_up_does_not_hang():
    taken, done = threading.Event(), threading.Event()

    def look_up():
        with entry_points._found.lock:
            taken.set()
            done.wait()

    thread = threading.Thread(target=look_up)
    thread.start()
    taken.wait()
    child = os.fork()
    if not child:
        signal.alarm(60)
        os._exit(7 if isinstance(ModelRegistry().list_models(), list) else 8)
    done.set()
    thread.join()
    _, status = os.waitpid(child, 0)
    assert os.WIFEXITED(status)
    assert os.WEXITSTATUS(status) == 7
