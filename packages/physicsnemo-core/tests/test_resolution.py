# SPDX-License-Identifier: Apache-2.0
"""Which class a checkpoint resolves to."""

import sys
from types import ModuleType

import pytest
import torch

from physicsnemo import Module
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.resolution import resolve

PLUGIN = """
from physicsnemo import Module

class Net(Module):
    def __init__(self, width):
        super().__init__()
"""


def record(name, module, **arguments):
    return {"__name__": name, "__module__": module, "__args__": arguments}


def test_exact_class_wins_over_the_registered_one(install):
    install("net-plugin", "[physicsnemo.models]\nNet = net_plugin:Net\n", net_plugin=PLUGIN)

    class Net(Module):
        def __init__(self, width):
            super().__init__()

    assert resolve(record("Net", __name__, width=1), Module) is Net
    assert resolve(record("Net", "net_plugin", width=1), Module) is not Net


def test_newest_definition_wins():
    def define():
        class Twice(Module):
            pass

        return Twice

    first, second = define(), define()
    assert resolve(record("Twice", __name__), Module) is second
    assert first is not second


def test_registered_class_is_imported_on_demand(install):
    install("lazy-plugin", "[physicsnemo.models]\nNet = lazy_plugin:Net\n", lazy_plugin=PLUGIN)
    assert "lazy_plugin" not in sys.modules
    assert resolve(record("Net", "lazy_plugin.old_place", width=1), Module).__name__ == "Net"


def test_registered_class_of_another_package_is_not_taken(install):
    install("far-plugin", "[physicsnemo.models]\nNet = far_plugin:Net\n", far_plugin=PLUGIN)
    with pytest.raises(CheckpointError, match=r"far_plugin\.Net, is another one .*another package"):
        resolve(record("Net", "elsewhere.models", width=1), Module)


def test_registered_class_that_takes_other_arguments_is_not_taken(install):
    install("odd-plugin", "[physicsnemo.models]\nNet = odd_plugin:Net\n", odd_plugin=PLUGIN)
    with pytest.raises(
        CheckpointError, match=r"odd_plugin\.Net, is another one \(missing .* 'width'"
    ):
        resolve(record("Net", "odd_plugin.models", depth=1), Module)


def test_nothing_is_imported_because_a_file_says_so(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    with pytest.raises(CheckpointError, match="neither imported nor registered: import trap"):
        resolve(record("Net", "trap"), Module)
    assert "trap" not in sys.modules


def test_trusted_classes_and_modules(affine):
    package = ModuleType("package")
    package.Affine = affine
    for trusted in ([affine], [package]):
        assert resolve(record("Affine", "a.script", size=1), Module, trusted) is affine


def test_class_of_the_call_is_found_by_name(affine):
    assert resolve(record("Affine", "__main__", size=1), affine) is affine


def test_class_of_the_call_must_be_a_base_of_the_result(affine):
    class Other(Module):
        pass

    with pytest.raises(CheckpointError, match=r"holds a .*Affine, which is no Other"):
        resolve(record("Affine", affine.__module__, size=1), Other)


def test_subclass_of_the_call_is_returned(affine):
    class Sub(affine):
        pass

    assert resolve(record("Sub", __name__, size=1), affine) is Sub


def test_missing_family_is_named():
    with pytest.raises(CheckpointError, match="Gone, which is neither imported nor registered"):
        resolve(record("Gone", "physicsnemo.models.gone"), Module)


def test_converted_classes_are_found_with_and_without_suffix():
    class Converted(torch.nn.Module):
        pass

    model_class = Module.from_torch(Converted)
    for name in ("Converted", "ConvertedPhysicsNeMoModel"):
        assert resolve(record(name, "physicsnemo.models.module"), Module) is model_class
