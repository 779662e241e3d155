# SPDX-License-Identifier: Apache-2.0
"""Go the way of a user through three releases of one family.

All packages are built at their version, at the next patch and at the next minor version, and appear
one release after the other in an index on this machine. From there a family is installed by its
name, upgraded, used with a core that is too new for it, mended and removed.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

from tools.environment import CommandError, Environment, build_wheels
from tools.isolation import probe
from tools.set_version import set_version
from tools.workspace import PREFIX, ROOT, closure, minor_range, packages

PROBE = ROOT / "tools" / "_release_probe.py"


def main() -> int:
    """Check the family named on the command line and return 1 if a step fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", nargs="?", default="physicsnemo-fno", metavar="PACKAGE")
    parser.add_argument("--borrow", action="store_true", help="as in tools.isolation")
    options = parser.parse_args()
    with TemporaryDirectory() as scratch:
        steps = Journey(options.family, Path(scratch), borrow=options.borrow).steps
        passed = 0
        # Each step needs those before it.
        while passed < len(steps) and passes(steps[passed]):
            passed += 1
    for step in steps[passed + 1 :]:
        print(f"not reached: {step.__doc__}")
    print(f"{passed} passed, {len(steps) - passed} failed")
    return int(passed < len(steps))


def passes(step: Callable[[], None]) -> bool:
    """Run a step, and print what it shows or what went wrong."""
    start, problem = time.perf_counter(), ""
    try:
        step()
    except CommandError as error:
        problem = f"\n{error}"
    seconds = time.perf_counter() - start
    verdict = "failed" if problem else "passed"
    print(f"{verdict}: {step.__doc__} ({seconds:.0f} s){problem}", flush=True)
    return not problem


class Journey:
    """An environment in which a family meets its releases, and the steps there in their order."""

    def __init__(self, family: str, scratch: Path, borrow: bool = False) -> None:
        self._parts = closure(family, packages())
        self._core, self._family = self._parts[0], self._parts[-1]
        self._first, self._patch, self._minor = releases(self._family.version)
        self._index = Index(scratch / "simple")
        self._environment = Environment.create(scratch / "environment")
        self._scratch, self._borrow = scratch, borrow
        self.steps = [
            self.build,
            self.install,
            self.upgrade,
            self.refuse_newer_core,
            self.name_newer_core,
            self.mend,
            self.uninstall,
        ]

    def build(self) -> None:
        """Build every package at this version, the next patch and the next minor version."""
        versions = (self._first, self._patch, self._minor)
        self._wheels = {it: build_release(it, self._scratch / it) for it in versions}

    def install(self) -> None:
        """Install the family by its name: its and its neighbours' models are listed and run."""
        needs = {text for part in self._parts for text in part.dependencies}
        others = sorted(text for text in needs if not text.startswith(PREFIX))
        (self._environment.borrow if self._borrow else self._environment.install)(*others)
        self._index.publish(self._wheels[self._first])
        self._pip_install(self._family.name)
        self._check_versions(self._first)
        probe(self._parts, self._environment)

    def upgrade(self) -> None:
        """Upgrade the family to a patch, which works with the neighbours that are there."""
        self._index.publish(self._wheels[self._patch])
        self._pip_install("--upgrade", self._family.name)
        self._check_versions(self._first, family=self._patch)
        probe(self._parts, self._environment)

    def refuse_newer_core(self) -> None:
        """See pip refuse the family beside the next minor version of core."""
        self._index.publish(self._wheels[self._minor])
        both = (f"{self._core.name}=={self._minor}", f"{self._family.name}=={self._patch}")
        try:
            self._pip_install(*both)
        except CommandError as error:
            if "conflict" not in str(error):
                raise
        else:
            raise CommandError(f"nobody objects to {' and '.join(both)}")

    def name_newer_core(self) -> None:
        """Force that: models are listed as before, and the registry says what does not fit."""
        self._pip_install("--no-deps", f"{self._core.name}=={self._minor}")
        requirement = Requirement(f"{self._core.name}{minor_range(self._patch)}")
        text = (
            f"{self._family.name} {self._patch} requires {requirement}, but {self._minor} is "
            f"installed: run 'pip install --upgrade {self._family.name}'"
        )
        self._probe(misfits=dict.fromkeys(self._family.models, text))

    def mend(self) -> None:
        """Upgrade the family, as the registry advises: everything fits."""
        self._pip_install("--upgrade", self._family.name)
        self._check_versions(self._minor)
        probe(self._parts, self._environment)

    def uninstall(self) -> None:
        """Uninstall the family: its models are gone, and its neighbours' run."""
        self._environment.uninstall(self._family.name)
        missing = dict.fromkeys(self._family.models, self._family.name)
        probe(self._parts[:-1], self._environment, missing=missing)

    def _pip_install(self, *arguments: str) -> None:
        # From no other index, so that none can substitute what is asked for by name.
        self._environment.install("--index-url", self._index.url, *arguments)

    def _check_versions(self, version: str, family: str | None = None) -> None:
        expected = {part.name: version for part in self._parts}
        self._probe(versions=expected | {self._family.name: family or version})

    def _probe(self, **plan: Any) -> None:
        self._environment.run("-W", "error", PROBE, json.dumps(plan))


class Index:
    """A package index of static files, as PEP 503 has it; empty at first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def url(self) -> str:
        """What pip takes as ``--index-url``."""
        return self._folder.as_uri()

    def publish(self, wheels: Mapping[str, Path]) -> None:
        """Add a wheel to each project that is named."""
        for name, wheel in wheels.items():
            project = self._folder / name
            project.mkdir(parents=True, exist_ok=True)
            shutil.copy(wheel, project)
            files = sorted(path.name for path in project.glob("*.whl"))
            links = "\n".join(f'<a href="{file}">{file}</a>' for file in files)
            page = f"<!DOCTYPE html>\n<title>{name}</title>\n{links}\n"
            (project / "index.html").write_text(page, encoding="utf-8")


def releases(version: str) -> tuple[str, str, str]:
    """Return a version, the next patch and the next minor version."""
    major, minor, patch = Version(version).release
    return version, f"{major}.{minor}.{patch + 1}", f"{major}.{minor + 1}.0"


def build_release(version: str, scratch: Path) -> dict[str, Path]:
    """Build the wheels of all packages at some version, and return them by name."""
    shutil.copytree(ROOT / "packages", scratch / "packages")
    set_version(version, scratch)
    folders = {name: package.folder for name, package in packages(scratch).items()}
    return build_wheels(folders, scratch / "wheels")


if __name__ == "__main__":
    sys.exit(main())
