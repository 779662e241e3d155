# SPDX-License-Identifier: Apache-2.0
"""A hash of the code that a model runs, by which a stored proof is known to be current."""

import ast
import hashlib
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

CORE = {f"physicsnemo.models{name}" for name in ("", ".history", ".meta", ".module")}
FAMILIES = ("physicsnemo.models.", "physicsnemo.nn")


def code_hash(model_class: type) -> str:
    """Return a hash of a model's module and of all of its family and of shared layers it imports.

    Comments, docstrings and layout do not count.
    """
    digest = hashlib.sha256()
    for _, tree in sorted(_imported(model_class.__module__).items()):
        digest.update(repr(_plain(_without_docstrings(tree))).encode())
    return digest.hexdigest()[:16]


def _imported(module: str) -> dict[str, ast.Module]:
    trees: dict[str, ast.Module] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in trees or name in CORE or not name.startswith(FAMILIES):
            continue
        spec = _spec(name)
        if spec is None or spec.origin is None:
            continue  # a class or a function rather than a module
        trees[name] = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
        waiting.extend(_imports(trees[name]))
    return trees


def _spec(name: str) -> ModuleSpec | None:
    try:
        return find_spec(name)
    except ModuleNotFoundError:  # what contains it is a module rather than a package
        return None


def _imports(tree: ast.Module) -> list[str]:
    """Return all names that may be modules: of a package, what is imported may be one of its."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
            found.extend(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def _plain(node: object) -> object:
    """Return a syntax tree as nested lists, less what is empty: releases of Python add fields."""
    if isinstance(node, ast.AST):
        fields = [
            (n, _plain(value)) for n, value in ast.iter_fields(node) if value not in (None, [])
        ]
        return [type(node).__name__, *fields]
    return [_plain(item) for item in node] if isinstance(node, list) else node


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:]
    return tree
