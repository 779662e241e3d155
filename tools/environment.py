# SPDX-License-Identifier: Apache-2.0
"""Virtual environments that are filled from outside and hold nothing else, not even pip."""

import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

from tools.workspace import PREFIX, ROOT


class CommandError(RuntimeError):
    """A command failed; the text is its output."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment in a folder."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> "Environment":
        """Make a new, empty environment."""
        venv.create(folder, symlinks=True)
        return cls(folder)

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self._path("scripts") / Path(sys.executable).name

    @property
    def site_packages(self) -> Path:
        """Where its distributions are installed."""
        return self._path("purelib")

    def install(self, *arguments: str | Path) -> None:
        """Run ``pip install``, at the versions in ``constraints.txt``."""
        self._pip("install", "--no-compile", "-c", ROOT / "constraints.txt", *arguments)

    def uninstall(self, name: str) -> None:
        """Run ``pip uninstall``."""
        self._pip("uninstall", "--yes", name)

    def borrow(self, *requirements: str) -> None:
        """Show installed distributions, and all that they need, without installing them again.

        This repository's own are left out: they come as wheels.

        Parameters
        ----------
        requirements
            What to borrow from the environment that runs this, as ``pip install`` takes it.

        Raises
        ------
        PackageNotFoundError
            If one of them is not installed there.
        """
        for found in _with_dependencies(requirements):
            for name in {path.parts[0] for path in found.files or ()} - {"..", "__pycache__"}:
                link = self.site_packages / name
                if not link.exists():  # several distributions can share a folder, like `nvidia`
                    link.symlink_to(str(found.locate_file(name)))

    def run(self, *arguments: str | Path) -> None:
        """Run the interpreter, blind to the caller's folder and Python variables."""
        _run(self.python, "-I", *arguments)

    def remove(self) -> None:
        """Delete the environment."""
        shutil.rmtree(self.folder)

    def _pip(self, *arguments: str | Path) -> None:
        _run(sys.executable, "-m", "pip", "--quiet", "--python", self.python, *arguments)

    def _path(self, key: str) -> Path:
        base = str(self.folder)
        return Path(sysconfig.get_path(key, "venv", {"base": base, "platbase": base}))


def build_wheels(sources: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """Build wheels with the hatchling that is installed.

    Parameters
    ----------
    sources
        Source folder or sdist of each distribution, by its name.
    folder
        Where to put the wheels.

    Returns
    -------
    dict
        The wheel of each distribution, by its name.
    """
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    _run(sys.executable, "-m", "pip", "wheel", *options, *sources.values())
    return {name: next(folder.glob(f"{name.replace('-', '_')}-*.whl")) for name in sources}


def _run(*command: str | Path) -> None:
    result = subprocess.run(command, text=True, capture_output=True)
    if result.returncode:
        raise CommandError(f"{result.stdout}{result.stderr}\nfailed: {command}")


def _with_dependencies(requirements: Iterable[str]) -> Iterator[Distribution]:
    waiting = [Requirement(text) for text in requirements]
    seen: set[str] = set()
    while waiting:
        wanted = waiting.pop()
        if str(wanted) in seen:
            continue
        seen.add(str(wanted))
        found = distribution(wanted.name)
        if not wanted.name.startswith(PREFIX):
            yield found
        extras = wanted.extras or {""}
        for need in map(Requirement, found.requires or ()):
            if not need.marker or any(need.marker.evaluate({"extra": name}) for name in extras):
                waiting.append(need)
