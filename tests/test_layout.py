# SPDX-License-Identifier: Apache-2.0
"""What holds for every folder of ``packages/``, so that together they form one namespace."""

import json
import re
from collections import defaultdict
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.families import (
    EXTRAS,
    FAMILIES,
    OWNERS,
    families_json,
    owners_json,
    with_extras,
)
from tools.workspace import PREFIX, ROOT, Package, closure, names, packages

WORKSPACE = packages()
CORE = WORKSPACE["physicsnemo-core"]
WITH_CODE = [package for package in WORKSPACE.values() if package.modules]
SHARED = [Path("physicsnemo", *name) for name in ((), ("metrics",), ("models",), ("utils",))]

each_package = pytest.mark.parametrize("package", WORKSPACE.values(), ids=lambda it: it.name)
each_with_code = pytest.mark.parametrize("package", WITH_CODE, ids=lambda it: it.name)
each_family = pytest.mark.parametrize(
    "package", [it for it in WITH_CODE if it is not CORE], ids=lambda it: it.name
)


def test_each_path_has_one_owner():
    owners = defaultdict(list)
    for package in WITH_CODE:
        for path in package.files:
            owners[path].append(package.name)
    assert {path: names for path, names in owners.items() if len(names) > 1} == {}


def test_each_folder_below_the_shared_ones_has_one_owner():
    owners = defaultdict(set)
    for package in WITH_CODE:
        for path in package.files:
            for folder in set(path.parents) - {*SHARED, Path()}:
                owners[folder].add(package.name)
    assert {folder: names for folder, names in owners.items() if len(names) > 1} == {}


def test_core_ships_the_shared_packages():
    assert {folder / "__init__.py" for folder in SHARED} <= set(CORE.files)


@each_family
def test_only_core_puts_files_into_shared_folders(package: Package):
    assert [path for path in package.files if path.parent in SHARED] == []


@each_with_code
def test_everything_is_in_the_namespace_and_typed(package: Package):
    assert {path.parts[0] for path in package.files} == {"physicsnemo"}
    typed = [path.parent for path in package.files if path.name == "py.typed"]
    untyped = [path for path in package.files if not any(it in path.parents for it in typed)]
    assert untyped == []


@each_package
def test_a_package_explains_itself(package: Package):
    assert (package.folder / "README.md").read_text().startswith(f"# {package.name}\n")
    assert (package.folder / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


@each_with_code
def test_a_package_shows_an_example(package: Package):
    """It runs with the package's tests."""
    assert "\n>>> " in (package.folder / "README.md").read_text()


@each_with_code
def test_a_package_has_tests_and_a_case_of_each_model(package: Package):
    assert list((package.folder / "tests").glob("test_*.py"))
    if package.models:
        assert (package.folder / "tests" / "cases.py").is_file()


@each_package
def test_a_package_is_named_after_its_folder_and_shares_the_version(package: Package):
    assert package.name == package.folder.name
    assert package.version == CORE.version


@each_package
def test_packages_ask_for_each_other_at_their_minor_version(package: Package):
    declared = [
        *package.dependencies,
        *(text for extra in package.extras.values() for text in extra),
    ]
    ours = [text for text in declared if text.startswith(PREFIX)]
    assert ours == [WORKSPACE[Requirement(text).name].pin for text in ours]


@each_package
def test_every_package_needs_core(package: Package):
    assert CORE in closure(package.name, WORKSPACE)


def test_the_metapackage_has_an_extra_for_each_family():
    families = {name: package for name, package in WORKSPACE.items() if package.models}
    extras = WORKSPACE["physicsnemo-models"].extras
    assert extras.keys() == {"all", *(name.removeprefix(PREFIX) for name in families)}
    assert names(extras["all"]) == families.keys()


@each_with_code
def test_the_readme_installs_the_package_and_what_it_depends_on(package: Package):
    lines = (package.folder / "README.md").read_text().splitlines()
    (line,) = [it for it in lines if it.startswith("    pip install ")]
    parts = [it.name.removeprefix(PREFIX) for it in closure(package.name, WORKSPACE)]
    folders = f"{{{','.join(parts)}}}" if len(parts) > 1 else parts[0]
    assert line == f"    pip install packages/{PREFIX}{folders}  # in a clone"


def test_no_page_installs_from_an_index_what_is_not_there():
    """Extras by name are fine: pip takes the package that is installed."""
    by_name = re.compile(rf"pip install [\"']?{PREFIX[:-1]}(-[a-z]+)?[\"']?(?![\w\[-])")
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("packages/*/README.md")]
    found = {it for page in pages for it in by_name.finditer(page.read_text())}
    texts = {it.group().strip("'") for it in found}
    assert texts == {"pip install physicsnemo-fno"}  # in the error text of a missing family
    assert "physicsnemo[" not in "".join(page.read_text() for page in pages)


def test_generated_files_are_current():
    families = [package for package in WORKSPACE.values() if package.models]
    extras = (ROOT / EXTRAS).read_text()
    assert (ROOT / FAMILIES).read_text() == families_json(families)
    assert (ROOT / OWNERS).read_text() == owners_json(WORKSPACE)
    assert extras == with_extras(extras, families)


def test_core_can_name_the_package_of_every_model():
    shipped = json.loads((ROOT / FAMILIES).read_text())
    assert {model: entry["distribution"] for model, entry in shipped.items()} == {
        model: package.name for package in WORKSPACE.values() for model in package.models
    }


def test_everything_declared_has_a_tested_version():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {canonicalize_name(line.partition("==")[0]) for line in lines if "==" in line}
    declared = set()
    for package in WITH_CODE:
        declared |= names([*package.dependencies, *package.tests_need])
    assert {name for name in declared if not name.startswith(PREFIX)} <= pinned
