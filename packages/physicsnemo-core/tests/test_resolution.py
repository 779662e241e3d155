# SPDX-License-Identifier: Apache-2.0
"""Which class a checkpoint resolves to."""

import sys
import time
from types import ModuleType

import pytest
import torch

from physicsnemo import Module, inspect_checkpoint
from physicsnemo.core.errors import (
    CheckpointError,
    ModelNotFoundError,
    PluginError,
    RegistryWarning,
)
from physicsnemo.core.format.container import write_checkpoint
from physicsnemo.core.install.aliases import current_name
from physicsnemo.core.install.provenance import Origin
from physicsnemo.core.rebuild.resolution import resolve

PLUGIN = """
from physicsnemo import Module, inspect_checkpoint

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


def test_class_that_passes_for_its_base_is_not_taken():
    class Net(Module):
        pass

    class StandIn(Net):
        pass

    StandIn.__name__, StandIn.__qualname__ = Net.__name__, Net.__qualname__
    assert resolve(record("Net", __name__), Module) is Net


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


CLASSES = "[physicsnemo.classes]\nlab.nets.Net = unlisted:Net\nlab.nets.Text = unlisted:__doc__\n"


def test_class_that_no_registry_lists_is_imported_on_demand(install, registry):
    install("unlisted", CLASSES, unlisted=PLUGIN)
    assert "Net" not in registry.list_models()
    with pytest.raises(CheckpointError, match="neither imported nor registered"):
        resolve(record("Net", "lab", width=1), Module)
    assert "unlisted" not in sys.modules
    found = resolve(record("Net", "lab.nets", width=1), Module)
    assert found is sys.modules["unlisted"].Net
    assert Origin.of(found) == Origin("unlisted", "1.0")
    with pytest.raises(CheckpointError, match=r"unlisted 1\.0 registers lab\.nets\.Text as .*None"):
        resolve(record("Text", "lab.nets"), Module)


def test_class_that_two_packages_name(install, registry):
    named = "[physicsnemo.classes]\nlab.nets.Net = {0}:Net\n"
    for name in ("zoo", "ark"):
        install(name, named.format(name), **{name: PLUGIN})
    with pytest.warns(RegistryWarning, match=r"lab\.nets\.Net is named by ark, zoo; files get"):
        found = resolve(record("Net", "lab.nets", width=1), Module)
    assert found is sys.modules["ark"].Net


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


def test_converted_class_in_the_module_of_newer_files():
    class Moved(torch.nn.Module):
        pass

    model_class = Module.from_torch(Moved)
    assert resolve(record("Moved", "physicsnemo.core.module"), Module) is model_class


def test_registered_class_with_its_own_module_needs_no_fitting_arguments(install):
    """Its arguments may still have to be migrated."""
    install("old-plugin", "[physicsnemo.models]\nNet = old_plugin:Net\n", old_plugin=PLUGIN)
    assert resolve(record("Net", "old_plugin", depth=1), Module).__name__ == "Net"


def test_broken_package_of_a_registered_class(install, affine):
    entries = ["Net = torn_plugin:Net", "Affine = torn_plugin:Affine", "Three = wrong_plugin:x"]
    text = "\n".join(["[physicsnemo.models]", *entries])
    install("torn-plugin", text, torn_plugin="1 / 0", wrong_plugin="x = 3")
    for name, reason in [("Net", "ZeroDivisionError"), ("Three", "which is no subclass of .*: 3")]:
        with pytest.raises(CheckpointError, match=rf"loaded: torn-plugin 1\.0 .*{name}.*{reason}"):
            resolve(record(name, "torn_plugin"), Module)
    assert resolve(record("Affine", affine.__module__, size=1), Module) is affine


@pytest.mark.parametrize(
    ("module", "name", "current"),
    [
        ("modulus.models.fno.fno", "FNO", "physicsnemo.models.fno.fno.FNO"),
        ("modulus", "Module", "physicsnemo.Module"),
        ("modulus_like.models", "UNet", "modulus_like.models.UNet"),
        (
            "physicsnemo.models.diffusion_unets.unet",
            "CorrDiffRegressionUNet",
            "physicsnemo.models.diffusion.unet.UNet",
        ),
        (
            "physicsnemo.models.diffusion_unets",
            "StormCastUNet",
            "physicsnemo.models.diffusion.StormCastUNet",
        ),
        (
            "my.models.diffusion",
            "CorrDiffRegressionUNet",
            "my.models.diffusion.CorrDiffRegressionUNet",
        ),
        ("physicsnemo.models.unet.unet", "UNet", "physicsnemo.models.unet.unet.UNet"),
        (
            "physicsnemo.diffusion.preconditioners.legacy",
            "EDMPrecondSR",
            "physicsnemo.models.diffusion.preconditioning.EDMPrecondSR",
        ),
        (
            "physicsnemo.experimental.models.diffusion.preconditioning",
            "tEDMPrecondSuperRes",
            "physicsnemo.models.diffusion.preconditioning.tEDMPrecondSuperRes",
        ),
        (
            "modulus.models.layers.activations",
            "CappedGELU",
            "physicsnemo.nn.activations.CappedGELU",
        ),
    ],
)
def test_names_of_other_releases(module, name, current):
    assert ".".join(current_name(module, name)) == current


def hide(monkeypatch, module, name):
    """Have it as if a class, of a family that may be there, had not been imported."""
    found = getattr(sys.modules.get(module), name, None)
    if found is not None:
        monkeypatch.setattr(found, "__module__", "hidden")


def test_renamed_class_is_the_registered_one(registry, monkeypatch):
    hide(monkeypatch, "physicsnemo.models.diffusion.unet", "UNet")

    class UNet(Module):
        def __init__(self, img_resolution, **model_kwargs):
            super().__init__()

    UNet.__module__ = "physicsnemo.models.diffusion.elsewhere"
    registry.__clear_registry__()  # which may know the real one
    registry.register(UNet)
    newer = "physicsnemo.models.diffusion_unets.unet"
    assert resolve(record("CorrDiffRegressionUNet", newer, img_resolution=8), Module) is UNet
    with pytest.raises(
        CheckpointError, match="another one .missing a required argument: 'img_reso"
    ):
        resolve(record("UNet", "physicsnemo.models.unet.unet", in_channels=1), Module)


def test_renamed_class_of_a_missing_family(registry, monkeypatch):
    registry.__clear_registry__()
    hide(monkeypatch, "physicsnemo.models.diffusion.unet", "UNet")
    with pytest.raises(CheckpointError, match="No model is registered under the name UNet"):
        resolve(record("CorrDiffRegressionUNet", "physicsnemo.models.diffusion_unets.unet"), Module)


def test_module_that_is_missing_from_a_known_family_names_its_package(registry):
    registry.__clear_registry__()
    with pytest.raises(CheckpointError, match="run 'pip install physicsnemo-fno'"):
        resolve(record("FNO", "modulus.models.fno.gone", missing=1), Module)


HOSTILE = "\x1b[2J\r\u202e" * 20_000  # 140 kB


@pytest.mark.parametrize("long", ["name", "module", "both"])
def test_texts_about_classes_are_short_and_show_no_control_characters(long):
    name = "Net" if long == "module" else HOSTILE
    module = "lab" if long == "name" else HOSTILE
    with pytest.raises(CheckpointError, match=r"neither imported nor registered: import") as raised:
        Module.instantiate(record(name, module))
    text = str(raised.value)
    assert text.isprintable()
    assert len(text) < 2_000
    assert text.startswith("the checkpoint holds a '")
    assert "trusted=[...]" in text


def test_names_that_read_like_advice_are_quoted():
    advice = "Net, which is missing: run 'pip install evil'"
    with pytest.raises(CheckpointError) as raised:
        resolve(record(advice, "lab"), Module, origin=Origin(defined_as="lab:Net"))
    text = str(raised.value)
    assert text.startswith(f"the checkpoint holds a {'lab.' + advice!r}, which is neither")
    assert f"under the name {advice!r}" in text
    assert text.count("pip install") == 2  # both in quotes
    assert "import lab first, or pass its class as from_checkpoint(..., trusted=[...])" in text


@pytest.mark.parametrize("name", ["a; rm -rf ~", "--index-url=http://evil", "x" * 200, "\x1b[2J"])
def test_only_names_of_distributions_are_told(name):
    assert Origin.read({"distribution": name, "defined_as": "lab:Net"}).problem() is None
    stranger = Origin.read({"distribution": "weather-lab-2", "distribution_version": "1.0"})
    assert stranger.problem() == (
        "saved by weather-lab-2 1.0, which is not installed: install it if you trust it"
    )


def test_long_metadata_counts_as_absent():
    metadata = {"distribution": "lab", "registered_name": HOSTILE, "defined_as": HOSTILE}
    assert Origin.read(metadata) == Origin("lab")
    assert Origin.read(metadata).defined_as is None


def test_texts_of_plugins_and_of_the_registry_are_short_and_show_no_control_characters(
    install, registry
):
    code = "from physicsnemo import hookimpl\n\n@hookimpl\ndef resolve_class(module, name):\n"
    install(
        "odd-answers",
        "[physicsnemo.plugins]\nodd = odd_answers\n",
        odd_answers=f"{code}    raise ValueError(module + name)\n",
    )
    with pytest.raises(PluginError, match="resolve_class failed: ValueError") as plugin:
        Module.instantiate(record(HOSTILE, "lab"))
    with pytest.raises(ModelNotFoundError, match="No model is registered") as unknown:
        registry.factory(HOSTILE)
    for raised in (plugin, unknown):
        assert str(raised.value).isprintable()
        assert len(str(raised.value)) < 5_000


def test_a_path_of_many_names_is_looked_up_as_fast_as_it_is_read():
    path = "x." * 10**6
    start = time.perf_counter()
    assert current_name(path, "Net") == (path, "Net")
    assert time.perf_counter() - start < 1


def test_a_renamed_class_keeps_its_former_name_as_an_entry_point(install):
    entries = "[physicsnemo.models]\nGale = storm_lab:Storm\nStorm = storm_lab:Storm\n"
    install("storm-lab", entries, storm_lab=PLUGIN.replace("Net", "Storm"))
    former = Origin("storm-lab", "0.9", "Gale", "storm_lab.models:Gale")
    found = resolve(record("Gale", "storm_lab.models", width=1), Module, origin=former)
    assert (found.__module__, found.__name__) == ("storm_lab", "Storm")
    assert resolve(record("Gale", "storm_lab.models", width=1), Module) is found
    assert Origin.of(found).registered_name == "Storm"


STORM = """
from physicsnemo import Module, inspect_checkpoint

class Storm(Module):
    __model_checkpoint_version__ = "0.2.0"
    __supported_model_checkpoint_version__ = {"0.1.0": "Gale is called Storm, and width size"}

    def __init__(self, size):
        super().__init__()
        self.size = size

    @classmethod
    def _backward_compat_arg_mapper(cls, version, args):
        return {"size": args["width"]} if version == "0.1.0" else args
"""


def test_a_renamed_class_translates_the_arguments_of_its_former_version(install, tmp_path):
    """In a fresh process, where nothing of the package has been imported."""
    entries = "[physicsnemo.models]\nGale = storm_house:Storm\nStorm = storm_house:Storm\n"
    install("storm-house", entries, storm_house=STORM)
    metadata = {
        "mdlus_file_version": "0.1.0",
        "distribution": "storm-house",
        "registered_name": "Gale",
        "defined_as": "storm_house.models:Gale",
    }
    state = {"device_buffer": torch.empty(0)}
    former = record("Gale", "storm_house.models", width=3)
    write_checkpoint(tmp_path / "gale.mdlus", state, former, metadata)
    with pytest.warns(UserWarning, match="Gale is called Storm"):
        model = Module.from_checkpoint(tmp_path / "gale.mdlus")
    assert (type(model).__name__, model.size) == ("Storm", 3)


class Recorded(Module):
    """Files record it elsewhere, under another name."""

    _recorded_as = "lab.former.Net"

    def __init__(self, size):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(size))


class Derived(Recorded):
    """A class of its own, which that path does not mean."""


def test_files_record_a_class_where_it_says(tmp_path):
    Recorded(2).save(tmp_path / "model.mdlus")
    found = inspect_checkpoint(tmp_path / "model.mdlus").model
    assert (found.module, found.name) == ("lab.former", "Net")
    assert found.origin.defined_as == "lab.former:Net"
    assert type(Module.from_checkpoint(tmp_path / "model.mdlus")) is Recorded
    assert type(Recorded.from_checkpoint(tmp_path / "model.mdlus")) is Recorded
    Derived(2).save(tmp_path / "derived.mdlus")
    found = inspect_checkpoint(tmp_path / "derived.mdlus").model
    assert (found.module, found.name) == (__name__, "Derived")


@pytest.mark.parametrize(("module", "name"), [("lab.former", "Net"), (__name__, "Recorded")])
def test_a_class_is_found_by_both_of_its_paths(module, name):
    assert resolve(record(name, module, size=1), Module) is Recorded


def test_a_class_is_found_by_the_name_in_files(tmp_path):
    assert resolve(record("Net", "lab.gone", size=1), Recorded) is Recorded
    assert resolve(record("Net", "lab.gone", size=1), Module, [Recorded]) is Recorded
