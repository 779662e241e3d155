# SPDX-License-Identifier: Apache-2.0
"""Source files name their licence and import only what their package declares.

The isolation session proves the same by running the code; this reads it, in a second.
"""

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tools.workspace import ROOT, Package, names, packages

WORKSPACE = packages()
OWNERS = {
    module: package.name
    for package in WORKSPACE.values()
    for module in [*package.modules, *(f"physicsnemo.models.{name}" for name in package.models)]
}
FILES = [
    path
    for folder in ("packages", "tests", "tools", "docs")
    for path in sorted((ROOT / folder).rglob("*.py"))
]

each_with_code = pytest.mark.parametrize(
    "package", [it for it in WORKSPACE.values() if it.modules], ids=lambda it: it.name
)


def undeclared(package: Package) -> set[str]:
    """Return the modules that a package imports from distributions that it does not declare.

    PyTorch need not be declared: every package needs core, and core is made of it.
    """
    extras = (text for extra in package.extras.values() for text in extra)
    declared = names([package.name, "torch", *package.dependencies, *extras])
    return {
        module
        for path in package.modules.values()
        for module in imported(path)
        if _distribution(module) not in declared
    }


def imported(path: Path) -> Iterator[str]:
    """Yield the name of each module outside the standard library that a file imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text())):
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{path}:{node.lineno} has a relative import"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            found = [*(submodules & OWNERS.keys())] or [node.module]
        yield from (name for name in found if _top(name) not in sys.stdlib_module_names)


# Of those whose modules have another name.
DISTRIBUTIONS = {"cuda": "cuda-bindings", "sklearn": "scikit-learn"}


def _distribution(module: str) -> str:
    top = _top(module)
    return OWNERS.get(module) or canonicalize_name(DISTRIBUTIONS.get(top, top))


def _top(module: str) -> str:
    return module.partition(".")[0]


@each_with_code
def test_every_import_is_declared(package: Package):
    assert undeclared(package) == set()


@pytest.mark.parametrize(
    ("line", "module"),
    [
        ("import scipy.special", "scipy.special"),
        ("def late():\n    import rich", "rich"),
        ("from physicsnemo.models.fno import FNO", "physicsnemo.models.fno"),
        ("from physicsnemo.models import fno", "physicsnemo.models.fno"),
        ("from physicsnemo.models import FNO", "physicsnemo.models.FNO"),
    ],
)
def test_an_undeclared_import_is_seen(line: str, module: str, tmp_path: Path):
    folder = tmp_path / "src" / "physicsnemo" / "models" / "planted"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(f"import math\nfrom physicsnemo import Module\n{line}\n")
    assert undeclared(replace(WORKSPACE["physicsnemo-mlp"], folder=tmp_path)) == {module}


@each_with_code
def test_every_declared_dependency_is_imported(package: Package):
    used = {_distribution(name) for path in package.modules.values() for name in imported(path)}
    unseen = {"physicsnemo-core", "numpy"}  # one owns the namespace, the other torch looks for
    assert names(package.dependencies) <= used | unseen


def private(package: Package, owners: Mapping[str, str]) -> set[str]:
    """Return what a package imports though it is private: to a module, or to another package."""
    found = set()
    for node in _nodes(package):
        if not isinstance(node, ast.ImportFrom) or _top(node.module or "") != "physicsnemo":
            continue
        for alias in node.names:
            path = f"{node.module}.{alias.name}"
            is_module = path in owners
            ours = owners.get(path if is_module else str(node.module)) == package.name
            checked = path.split(".") if not ours else [] if is_module else [alias.name]
            if any(re.match(r"_(?!_)", part) for part in checked):
                found.add(path)
    return found


def late_imports(package: Package) -> list[str]:
    """Return the modules of this project that a package's functions import."""
    return [
        str(inner.module)
        for node in _nodes(package)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
        if isinstance(inner, ast.ImportFrom) and _top(str(inner.module)) == "physicsnemo"
    ]


def _nodes(package: Package) -> Iterator[ast.AST]:
    for path in package.modules.values():
        yield from ast.walk(ast.parse(path.read_text()))


@each_with_code
def test_private_names_stay_where_they_are(package: Package):
    assert private(package, OWNERS) == set()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("from physicsnemo.nn import _hidden", {"physicsnemo.nn._hidden"}),
        ("from physicsnemo.nn._hidden import shown", {"physicsnemo.nn._hidden.shown"}),
        ("from physicsnemo.models.mlp._own import shown", set()),
        (
            "from physicsnemo.models.mlp._own import _hidden",
            {"physicsnemo.models.mlp._own._hidden"},
        ),
        ("from physicsnemo.models.mlp import _own", set()),
    ],
)
def test_a_private_name_of_another_is_seen(line: str, found: set[str], tmp_path: Path):
    folder = tmp_path / "src" / "physicsnemo" / "models" / "mlp"
    folder.mkdir(parents=True)
    (folder / "_own.py").write_text("shown = _me = 1\n")
    (folder / "__init__.py").write_text(f"from physicsnemo import Module\n{line}\n")
    package = replace(WORKSPACE["physicsnemo-mlp"], folder=tmp_path)
    assert private(package, OWNERS | dict.fromkeys(package.modules, package.name)) == found


def test_core_imports_late_only_what_is_slow_or_needs_an_extra():
    late = late_imports(WORKSPACE["physicsnemo-core"])
    slow = [f"physicsnemo.core.{name}" for name in ("format.files", "base", "rebuild.contents")]
    own = ["physicsnemo.cli", "physicsnemo.cli.page.web.server"]
    assert sorted(late) == sorted([*own, *slow])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_names_the_licence(path: Path):
    assert path.read_text().startswith("# SPDX-License-Identifier: Apache-2.0\n")
