# SPDX-License-Identifier: Apache-2.0
"""Write down which package ships which model, where users without that package need to know.

Three files follow from the entry points in ``packages/*/pyproject.toml`` and from what the packages
ship: ``families.json`` and ``owners.json`` in core, for error texts, and the extras of
``physicsnemo-models``.
"""

import argparse
import ast
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import tomlkit

from tools.workspace import PREFIX, ROOT, Package, packages

FAMILIES = Path("packages/physicsnemo-core/src/physicsnemo/core/install/families.json")
OWNERS = FAMILIES.with_name("owners.json")
CORE = "physicsnemo-core"
EXTRAS = Path("packages/physicsnemo-models/pyproject.toml")


def main() -> None:
    """Write the files, or with ``--check`` only tell whether they are current."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    families = [package for package in packages().values() if package.models]
    extras = (ROOT / EXTRAS).read_text(encoding="utf-8")
    texts = {
        FAMILIES: families_json(families),
        OWNERS: owners_json(packages()),
        EXTRAS: with_extras(extras, families),
    }
    for path, text in texts.items():
        if not check:
            (ROOT / path).write_text(text, encoding="utf-8")
        elif (ROOT / path).read_text(encoding="utf-8") != text:
            sys.exit(f"{path} is not current: run 'python -m tools.families'")


def families_json(families: Sequence[Package]) -> str:
    """Return the distribution, the module and a summary of each model, as JSON."""
    shipped = {
        model: {
            "distribution": package.name,
            "module": module,
            "summary": summary(package, module, model),
        }
        for package in families
        for model, module in package.models.items()
    }
    return json.dumps(shipped, indent=2, sort_keys=True) + "\n"


def summary(package: Package, module: str, model: str) -> str:
    """Return the first sentence of a model's docstring, which is a line, as plain text."""
    texts = [
        path.read_text(encoding="utf-8")
        for name, path in package.modules.items()
        if f"{name}.".startswith(f"{module}.")
    ]
    nodes = (node for text in texts for node in ast.parse(text).body)
    (found,) = [it for it in nodes if isinstance(it, ast.ClassDef) and it.name == model]
    line = (ast.get_docstring(found) or "").partition("\n")[0]
    return re.sub(r":\w+:`~?([^`]*)`", r"\1", line).replace("`", "")


def owners_json(workspace: Mapping[str, Package]) -> str:
    """Return the distribution of each package that lies in one of core's, as JSON."""
    shared = workspace[CORE].modules
    owners = {
        module: package.name
        for package in workspace.values()
        for module in package.modules
        if module not in shared and module.rpartition(".")[0] in shared
    }
    return json.dumps(owners, indent=2, sort_keys=True) + "\n"


def with_extras(pyproject: str, families: Sequence[Package]) -> str:
    """Return a ``pyproject.toml`` with one extra for each family, and ``all``."""
    document = tomlkit.parse(pyproject)
    pins = {package.name.removeprefix(PREFIX): package.pin for package in families}
    extras = tomlkit.table()
    for name, pin in pins.items():
        extras[name] = [pin]
    extras["all"] = tomlkit.array().multiline(True)
    extras["all"].extend(pins.values())
    document["project"]["optional-dependencies"] = extras
    return tomlkit.dumps(document)


if __name__ == "__main__":
    main()
