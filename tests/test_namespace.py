# SPDX-License-Identifier: Apache-2.0
"""What ``import physicsnemo`` loads, each time in a fresh interpreter."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools.workspace import Package, closure, packages

WORKSPACE = packages()
OWNERS = {module: package.name for package in WORKSPACE.values() for module in package.modules}
FAMILIES = [package for package in WORKSPACE.values() if package.models]


def interpret(code: str) -> str:
    """Return what a fresh interpreter prints, with warnings as errors."""
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def loaded_by(code: str) -> set[str]:
    """Return the modules that are loaded after some code ran."""
    printed = interpret(f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))")
    return set(json.loads(printed))


@pytest.mark.parametrize(
    "code",
    [
        "import physicsnemo",
        "import physicsnemo; dir(physicsnemo); physicsnemo.__version__",
        "import physicsnemo.models; dir(physicsnemo.models)",
        "import physicsnemo.utils; dir(physicsnemo.utils)",
        "from physicsnemo.registry import ModelRegistry; ModelRegistry().list_models()",
    ],
)
def test_looking_around_imports_neither_torch_nor_a_family(code: str):
    loaded = loaded_by(code)
    assert "torch" not in loaded
    assert {OWNERS[module] for module in loaded & OWNERS.keys()} == {"physicsnemo-core"}


@pytest.mark.parametrize("package", FAMILIES, ids=lambda package: package.name)
def test_touching_a_model_imports_its_family_and_what_that_declares(package: Package):
    name = next(iter(package.models))
    loaded = loaded_by(f"import physicsnemo.models; physicsnemo.models.{name}")
    owners = {OWNERS[module] for module in loaded & OWNERS.keys()}
    assert package.name in owners
    assert owners <= {part.name for part in closure(package.name, WORKSPACE)}


@pytest.mark.parametrize("package", ["physicsnemo.models", "physicsnemo.utils"])
def test_names_that_a_package_shows_are_its_own(package: str):
    shown = interpret(f"import {package} as it; print(*dir(it))").split()
    assert not {"Any", "TYPE_CHECKING", "extend_path", "lazy_exports"} & set(shown)
    assert {"FNO", "Module"} <= set(shown) or "export" in shown


def test_the_registry_lists_exactly_the_models_that_packages_register():
    code = "from physicsnemo.registry import ModelRegistry; print(*ModelRegistry().list_models())"
    registered = sorted(name for package in FAMILIES for name in package.models)
    assert interpret(code).split() == registered


def test_names_in_the_namespace_are_found_once():
    code = """
import physicsnemo, physicsnemo.models.module, physicsnemo.registry
from physicsnemo.models import FNO
assert physicsnemo.Module is physicsnemo.models.Module is physicsnemo.models.module.Module
assert FNO is physicsnemo.models.FNO is physicsnemo.registry.ModelRegistry().factory("FNO")
assert vars(physicsnemo)["Module"] is physicsnemo.Module, "not kept after the first look"
"""
    interpret(code)


@pytest.mark.parametrize("package", ["physicsnemo", "physicsnemo.models", "physicsnemo.utils"])
def test_unknown_names_are_attribute_errors(package: str):
    module = __import__(package, fromlist=[""])
    with pytest.raises(AttributeError, match=f"'{package}' has no attribute 'nope'"):
        _ = module.nope
    with pytest.raises(ImportError, match="cannot import name 'nope'"):
        exec(f"from {package} import nope")


def test_a_stranger_in_the_namespace_is_pointed_out(tmp_path: Path):
    folder = tmp_path / "nvidia_physicsnemo-1.2.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: nvidia-physicsnemo\nVersion: 1.2.0\n"
    )
    code = f"""
import sys, warnings
sys.path.insert(0, {str(tmp_path)!r})
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import physicsnemo
from physicsnemo.core.errors import NamespaceWarning
[warning] = caught
assert warning.category is NamespaceWarning
print(warning.message)
"""
    assert "nvidia-physicsnemo 1.2.0 is installed" in interpret(code)
