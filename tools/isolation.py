# SPDX-License-Identifier: Apache-2.0
"""Prove that each package works with only its wheel and what it declares.

Each package gets a fresh environment. There all its modules are imported, the registry must list
its models and no others, a model runs, and the package's own tests pass. Then the package is
uninstalled, and those that are left must still work.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.environment import CommandError, Environment, build_wheels
from tools.workspace import ROOT, Package, closure, packages

WITH_EXTRAS = ("physicsnemo.cli.migration", "physicsnemo.cli.page")
"""Packages whose one user names the extra that they need."""
PROBE = ROOT / "tools" / "_probe.py"
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml")


def main() -> None:
    """Check the packages named on the command line, by default all that hold code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="PACKAGE")
    parser.add_argument("--borrow", action="store_true", help="see check(); for a quick look")
    options = parser.parse_args()
    workspace = packages()
    names = options.names or [name for name, package in workspace.items() if package.modules]
    with TemporaryDirectory() as scratch:
        folders = {name: package.folder for name, package in workspace.items()}
        wheels = build_wheels(folders, Path(scratch))
        for name in names:
            start = time.perf_counter()
            environment = Environment.create(Path(scratch) / name)
            try:
                check(closure(name, workspace), wheels, environment, borrow=options.borrow)
            except CommandError as error:
                sys.exit(f"{error}\n{name} does not work alone")
            environment.remove()
            print(f"{name} works alone ({time.perf_counter() - start:.0f} s)", flush=True)


def check(
    parts: Sequence[Package],
    wheels: Mapping[str, Path],
    environment: Environment,
    borrow: bool = False,
) -> None:
    """Install a package, use it, test it and uninstall it.

    Parameters
    ----------
    parts
        The package, after those of this repository that it declares.
    wheels
        The wheel of each part, by name.
    environment
        An empty environment.
    borrow
        Whether to borrow other projects' distributions from the running environment instead of
        installing them: seconds instead of a minute, but blind to what pip would have chosen.

    Raises
    ------
    CommandError
        If a step fails; its text says why.
    """
    *others, package = parts
    if borrow:
        environment.borrow(*(text for part in parts for text in part.dependencies))
    # By path, since an index could substitute a wheel that is asked for by name.
    environment.install(*(wheels[part.name] for part in parts), *(["--no-deps"] if borrow else []))
    probe(parts, environment)

    (environment.borrow if borrow else environment.install)(*package.tests_need)
    environment.run(*PYTEST, package.folder / "README.md", package.folder / "tests")

    if package.models:
        environment.uninstall(package.name)
        probe(others, environment, missing=dict.fromkeys(package.models, package.name))


def probe(
    parts: Sequence[Package], environment: Environment, missing: Mapping[str, str] | None = None
) -> None:
    """Import every module of some installed packages, and list and run their models.

    Parameters
    ----------
    parts
        All packages of this repository that are installed.
    environment
        Where they are installed.
    missing
        Models that are not installed, with the package that the error for them must name.
    """
    plan = {
        "modules": [it for part in parts for it in part.modules if not it.startswith(WITH_EXTRAS)],
        "models": sorted(model for part in parts for model in part.models),
        "cases": [str(part.folder / "tests" / "cases.py") for part in parts if part.models],
        "missing": missing or {},
    }
    environment.run(PROBE, json.dumps(plan))


if __name__ == "__main__":
    main()
