# SPDX-License-Identifier: Apache-2.0
"""The registry of models."""

import re
import sys
import threading

import pytest
import torch

from physicsnemo import Module
from physicsnemo.core.errors import RegistryWarning
from physicsnemo.registry import ModelDescription, ModelRegistry

PLUGIN = """
from physicsnemo import Module

class Waves(Module):
    pass
"""


def test_all_instances_share_one_state(registry, affine):
    registry.register(affine)
    assert ModelRegistry().factory("Affine") is affine


def test_names_are_sorted(registry, affine):
    for name in ("zeta", "Alpha", "beta"):
        registry.register(affine, name)
    names = registry.list_models()
    assert names == sorted(names)
    assert {"zeta", "Alpha", "beta"} <= set(names)


def test_listing_does_not_import(install, registry):
    install("waves-a", "[physicsnemo.models]\nWaves = waves_a:Waves\n", waves_a=PLUGIN)
    assert "Waves" in registry.list_models()
    assert "waves_a" not in sys.modules
    assert registry.factory("Waves").__module__ == "waves_a"


def test_models_by_attribute(install):
    import physicsnemo.models

    install("waves-b", "[physicsnemo.models]\nWaves = waves_b:Waves\n", waves_b=PLUGIN)
    assert physicsnemo.models.Waves.__module__ == "waves_b"
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        physicsnemo.models.Nothing  # noqa: B018


def test_registering_the_same_class_twice_is_harmless(registry, affine):
    registry.register(affine)
    registry.register(affine)


def test_name_in_use(registry, affine):
    class Other(Module):
        pass

    registry.register(affine, "taken")
    with pytest.raises(ValueError, match="Name taken already in use by .*Affine"):
        registry.register(Other, "taken")


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        (3, TypeError, "expected a class to register, got 3"),
        (torch.nn.ReLU, ValueError, "Only subclasses of physicsnemo.Module.*from_torch"),
    ],
)
def test_what_cannot_be_registered(registry, given, error, text):
    with pytest.raises(error, match=text):
        registry.register(given, "name")


@pytest.mark.parametrize("asked", ["Affin", "affine", "AFFINE"])
def test_unknown_name_with_close_matches(registry, affine, asked):
    registry.register(affine)
    with pytest.raises(KeyError, match=f"under the name {asked}; did you mean .*Affine") as raised:
        registry.factory(asked)
    assert not str(raised.value).startswith('"')


def test_unknown_name_lists_what_there_is(registry):
    registry.__clear_registry__()
    with pytest.raises(KeyError, match="under the name Waves; there are none"):
        registry.factory("Waves")


def test_missing_family_is_named(registry):
    registry.__clear_registry__()
    with pytest.raises(KeyError, match="run 'pip install physicsnemo-fno'"):
        registry.factory("FNO")


def test_broken_plugin_breaks_only_itself(install, registry, affine):
    entries = ["NoModule = broken_absent:X", "NoName = broken_b:X", "NoModel = broken_b:y"]
    install("broken", "\n".join(["[physicsnemo.models]", *entries]), broken_b="y = 3")
    registry.register(affine)
    with pytest.raises(ImportError, match=r"broken 1\.0 registers NoModule as 'broken_absent:X'"):
        registry.factory("NoModule")
    with pytest.raises(ImportError, match="broken 1.0 .*cannot be imported: .*no attribute 'X'"):
        registry.factory("NoName")
    with pytest.raises(TypeError, match="is no subclass of physicsnemo.Module: 3"):
        registry.factory("NoModel")
    assert registry.factory("Affine") is affine


def test_plugin_whose_code_fails(install, registry):
    install("failing", "[physicsnemo.models]\nX = failing_code:X\n", failing_code="1 / 0")
    with pytest.raises(ImportError, match="failing 1.0 registers .*imported: ZeroDivisionError"):
        registry.factory("X")


def test_absent_module_and_absent_dependency_are_told_apart(install, registry):
    entries = ["Inside = whole.part:X", "Package = absent.part:X", "Needs = needy:X"]
    install("lacking", "\n".join(["[physicsnemo.models]", *entries]), whole="", needy="import lost")
    for name, text in [
        ("Inside", r"'whole\.part:X', but there is no module 'whole\.part'"),
        ("Package", r"'absent\.part:X', but there is no module 'absent'"),
        ("Needs", "'needy:X', which cannot be imported: No module named 'lost'"),
    ]:
        with pytest.raises(ImportError, match=f"lacking 1.0 registers {name} as {text}"):
            registry.factory(name)


def test_description_of_an_installed_model(install, registry):
    install("waves-e", "[physicsnemo.models]\nWaves = waves_e:Waves\n", waves_e=PLUGIN)
    expected = ModelDescription("Waves", "waves-e", "1.0", "waves_e:Waves")
    assert "waves_e" not in sys.modules
    assert registry.describe("Waves") == registry.describe("waves-e:Waves") == expected
    registry.register(registry.factory("Waves"), "Ripples")
    assert registry.describe("Ripples") == expected._replace(name="Ripples")


def test_description_of_a_model_that_does_not_load(install, registry):
    install("broken-f", "[physicsnemo.models]\nWaves = broken_f:Waves\n", broken_f="x = 1")
    found = registry.describe("Waves")
    assert (found.distribution, found.version, found.path) == ("broken-f", "1.0", "broken_f:Waves")
    assert found.error.startswith("broken-f 1.0 registers Waves as 'broken_f:Waves', which cannot")


def test_description_of_a_model_registered_by_hand(registry, affine):
    registry.register(affine)
    path = f"{affine.__module__}:Affine"
    assert registry.describe("Affine") == ModelDescription("Affine", None, None, path)
    with pytest.raises(KeyError, match="under the name Afine; did you mean Affine"):
        registry.describe("Afine")


def require(folder, name, requirement):
    """Let an installed distribution require something."""
    with open(folder / f"{name.replace('-', '_')}-1.0.dist-info" / "METADATA", "a") as file:
        file.write(f"Requires-Dist: {requirement}\n")


MISFITS = {
    "physicsnemo-core<0.0.2,>=0.0.1": r"but \d+\.\d+\.\d+ is installed",
    "physicsnemo-core>=99": r"but \d+\.\d+\.\d+ is installed",
    "physicsnemo-ocean>=1": "but it is not installed",
}


@pytest.mark.parametrize("requirement", MISFITS)
def test_a_plugin_for_other_versions_is_named(requirement, install, registry, tmp_path):
    entries = ["Waves = waves_g:Waves", "Lost = waves_g:Lost"]
    install("waves-g", "\n".join(["[physicsnemo.models]", *entries]), waves_g=PLUGIN)
    require(tmp_path, "waves-g", requirement)
    assert {"Waves", "Lost"} <= set(registry.list_models())  # without a warning
    text = f"waves-g 1.0 requires {requirement}, {MISFITS[requirement]}: .*--upgrade waves-g"
    for load in (registry.factory, registry.describe):
        with pytest.warns(RegistryWarning, match=text):
            load("Waves")
    with pytest.raises(ImportError, match=f"waves-g 1.0 registers Lost .*no attribute.*; {text}"):
        registry.factory("Lost")
    assert re.search(text, registry.describe("Lost").error)


@pytest.mark.parametrize(
    "requirement",
    [
        "physicsnemo-core>=0.1",
        "physicsnemo-core",
        "physicsnemo-ocean>=1; extra == 'ocean'",
        "physicsnemo-ocean; python_version < '3'",
        "somebody-elses>=99",
    ],
)
def test_a_plugin_that_fits_is_quiet(requirement, install, registry, tmp_path):
    install("waves-h", "[physicsnemo.models]\nWaves = waves_h:Waves\n", waves_h=PLUGIN)
    require(tmp_path, "waves-h", requirement)
    assert registry.factory("Waves").__module__ == "waves_h"


def test_two_distributions_with_one_name(install, registry):
    install("waves-d", "[physicsnemo.models]\nWaves = waves_d:Waves\n", waves_d=PLUGIN)
    install("waves-c", "[physicsnemo.models]\nWaves = waves_c:Waves\n", waves_c=PLUGIN)
    with pytest.warns(RegistryWarning, match=r"waves-c, waves-d; 'Waves' means that of waves-c"):
        assert registry.list_models().count("Waves") == 1
    assert registry.factory("Waves").__module__ == "waves_c"
    assert registry.factory("waves-d:Waves").__module__ == "waves_d"
    with pytest.raises(KeyError, match="under the name other:Waves"):
        registry.factory("other:Waves")


def test_former_group_is_read_with_a_warning(install, registry):
    install("old-waves", "[modulus.models]\nWaves = old_waves:Waves\n", old_waves=PLUGIN)
    with pytest.warns(DeprecationWarning, match="old-waves registers Waves in .*'modulus.models'"):
        assert registry.factory("Waves").__module__ == "old_waves"


def test_concurrent_registration_keeps_one_winner(registry):
    classes = [type("Racer", (Module,), {}) for _ in range(16)]
    errors = []
    barrier = threading.Barrier(len(classes))

    def race(model_class):
        barrier.wait()
        try:
            registry.register(model_class)
        except ValueError as error:
            errors.append(error)

    threads = [threading.Thread(target=race, args=(c,)) for c in classes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == len(classes) - 1
    assert registry.factory("Racer") in classes


def test_models_by_a_pattern(install, registry):
    lines = "Waves = g:Waves\nSWaves = g:SWaves\nWaveNet = g:WaveNet\n"
    install("patterns-g", f"[physicsnemo.models]\n{lines}")
    assert registry.list_models("*waves") == ["SWaves", "Waves"]
    assert registry.list_models("Wave???") == ["WaveNet"]
    assert registry.list_models("waves") == ["Waves"]
    assert registry.list_models("nothing*") == []


def test_the_registry_says_what_it_holds(install, registry):
    install("shown-h", "[physicsnemo.models]\nHeights = shown_h:Heights\n")
    assert ", Heights" in repr(registry) or ": Heights" in repr(registry)
    assert repr(registry).startswith(f"ModelRegistry({len(registry.list_models())} models: ")
    registry.__clear_registry__()
    assert repr(registry) == "ModelRegistry(0 models: no family is installed)"


def test_dir_lists_models_without_importing_them(install, registry):
    import physicsnemo.models

    install("listed-i", "[physicsnemo.models]\nIsobars = listed_i:Isobars\n", listed_i="")
    assert {"Isobars", "Module", "ModelMetaData"} <= {*dir(physicsnemo.models)}
    assert "listed_i" not in sys.modules
