# SPDX-License-Identifier: Apache-2.0
"""Paths of other releases to what core has, whichever families are installed."""

import importlib
import sys
from importlib.machinery import ModuleSpec

import pytest

import physicsnemo
from physicsnemo.core.install import former_paths
from physicsnemo.core.install.aliases import Place
from physicsnemo.core.install.paths import Row


def test_core_has_its_names_of_releases_from_2_0_on():
    import physicsnemo.core
    from physicsnemo.core.meta import ModelMetaData
    from physicsnemo.core.module import Module
    from physicsnemo.core.registry import ModelRegistry

    assert physicsnemo.core.Module is Module is physicsnemo.Module
    assert physicsnemo.core.ModelMetaData is ModelMetaData is physicsnemo.ModelMetaData
    assert physicsnemo.core.ModelRegistry is ModelRegistry is physicsnemo.registry.ModelRegistry


def test_core_has_its_names_of_1_2():
    from physicsnemo.launch.utils import save_checkpoint
    from physicsnemo.launch.utils.checkpoint import save_checkpoint as same

    assert save_checkpoint is same is physicsnemo.utils.save_checkpoint


def test_a_name_that_is_gone_is_no_attribute():
    import physicsnemo.compat
    import physicsnemo.launch.logging

    assert not hasattr(physicsnemo.launch.logging, "initialize_wandb")
    with pytest.raises(ImportError, match=r"initialize_wandb here: call wandb.init"):
        from physicsnemo.launch.logging import initialize_wandb  # noqa: F401
    with pytest.raises(AttributeError, match="there is no physicsnemo.compat.install here: paths"):
        physicsnemo.compat.install()


def test_names_of_the_package_itself():
    with pytest.raises(AttributeError, match="attribute 'Modul'; did you mean Module?"):
        _ = physicsnemo.Modul
    with pytest.raises(AttributeError, match="no physicsnemo.Datapipe here: data are read by"):
        _ = physicsnemo.Datapipe
    assert "Module" in dir(physicsnemo)


def test_modules_that_are_nowhere_stay_unknown():
    for name in ("physicsnemo.nothing", "physicsnemo.launch.nothing", "physicsnemo.core.nothing"):
        assert importlib.util.find_spec(name) is None
        with pytest.raises(ModuleNotFoundError, match=f"No module named '{name}'"):
            importlib.import_module(name)


def test_a_name_like_no_other_keeps_the_error_of_python():
    with pytest.raises(ImportError, match=r"cannot import name 'of_the_lab'.*\.py"):
        from physicsnemo.models import of_the_lab  # noqa: F401


def test_a_module_that_is_here_gets_further_names_and_keeps_its_own(tmp_path, monkeypatch):
    """The other finders find it, and their loader stays its loader."""
    (tmp_path / "completed.py").write_text(
        "own = 1\n\ndef __getattr__(name):\n    if name == 'late':\n        return 2\n"
        "    raise AttributeError(name)\n"
    )
    monkeypatch.setattr(physicsnemo, "__path__", [*physicsnemo.__path__, str(tmp_path)])
    name = "physicsnemo.completed"
    row = Row("Ordered", ".completed", "", "collections", reason="for this test")
    monkeypatch.setattr(former_paths, "is_former", lambda module: module == name)
    monkeypatch.setattr(
        former_paths,
        "places",
        lambda module: {"Ordered": Place("OrderedDict", row)} if module == name else {},
    )
    module = importlib.import_module(name)
    try:
        assert (module.own, module.late, module.Ordered.__name__) == (1, 2, "OrderedDict")
        assert "Ordered" in dir(module)
        assert isinstance(module.__spec__, ModuleSpec)
        assert module.__spec__.loader is module.__loader__
        assert module.__loader__.get_filename() == module.__file__
        assert importlib.reload(module) is module
        with pytest.raises(AttributeError, match="nothing"):
            _ = module.nothing
    finally:
        del sys.modules[name], physicsnemo.completed
