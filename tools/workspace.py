# SPDX-License-Identifier: Apache-2.0
"""The packages of this repository, read from their own files: nothing lists them by hand."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PREFIX = "physicsnemo-"


@dataclass(frozen=True)
class Package:
    """One folder of ``packages/``, which is one distribution to pip.

    Parameters
    ----------
    folder
        Where it lies.
    name, version
        What the package index calls it.
    dependencies
        The requirements that are always installed with it.
    extras
        The requirements that are installed on demand.
    tests_need
        The requirements of its tests.
    models
        The module of each model that it registers.
    """

    folder: Path
    name: str
    version: str
    dependencies: list[str]
    extras: dict[str, list[str]]
    tests_need: list[str]
    models: dict[str, str]

    @classmethod
    def read(cls, folder: Path) -> "Package":
        """Read a package's ``pyproject.toml``."""
        tables = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
        project = tables["project"]
        models = project.get("entry-points", {}).get("physicsnemo.models", {})
        return cls(
            folder,
            project["name"],
            project["version"],
            project["dependencies"],
            project.get("optional-dependencies", {}),
            tables["dependency-groups"]["test"],
            {name: value.partition(":")[0] for name, value in models.items()},
        )

    @property
    def stem(self) -> str:
        """What the names of its wheel and sdist start with."""
        return f"{self.name.replace('-', '_')}-{self.version}"

    @property
    def pin(self) -> str:
        """The requirement by which other packages of this repository ask for it."""
        return f"{self.name}{minor_range(self.version)}"

    @property
    def files(self) -> list[Path]:
        """What the wheel puts into site-packages, relative to it."""
        source = self.folder / "src"
        found = (path for path in source.rglob("*") if path.is_file())
        return sorted(path.relative_to(source) for path in found if path.suffix != ".pyc")

    @property
    def modules(self) -> dict[str, Path]:
        """The file of each module that it ships, by dotted name."""
        python = (path for path in self.files if path.suffix == ".py")
        return {_dotted(path): self.folder / "src" / path for path in python}


def packages(root: Path = ROOT) -> dict[str, Package]:
    """Return every package of a repository by name."""
    folders = sorted(path.parent for path in root.glob("packages/*/pyproject.toml"))
    found = map(Package.read, folders)
    return {package.name: package for package in found}


def closure(name: str, workspace: Mapping[str, Package]) -> list[Package]:
    """Return a package and those of this repository that it declares, directly or through others.

    Dependencies come before what needs them, so the package itself is the last.
    """
    ordered: dict[str, Package] = {}

    def visit(name: str) -> None:
        for dependency in sorted(names(workspace[name].dependencies) & workspace.keys()):
            visit(dependency)
        ordered.setdefault(name, workspace[name])

    visit(name)
    return list(ordered.values())


def minor_range(version: str) -> str:
    """Return the versions that belong to one minor version, as in ``>=1.2,<1.3``."""
    major, minor = Version(version).release[:2]
    return f">={major}.{minor},<{major}.{minor + 1}"


def names(requirements: Iterable[str]) -> set[str]:
    """Return the names of the distributions that some requirements ask for."""
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def _dotted(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
