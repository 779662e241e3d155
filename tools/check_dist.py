# SPDX-License-Identifier: Apache-2.0
"""Check what ``hatch build`` left in ``dist/``: complete, rebuildable from source, and working."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from tools.environment import Environment, build_wheels
from tools.isolation import probe
from tools.workspace import ROOT, packages


def main() -> None:
    """Check the files of every package, then install all wheels into a fresh environment."""
    workspace = packages()
    dist = ROOT / "dist"
    stems = {name: package.stem for name, package in workspace.items()}
    wheels = {name: dist / f"{stem}-py3-none-any.whl" for name, stem in stems.items()}
    sdists = {name: dist / f"{stem}.tar.gz" for name, stem in stems.items()}
    expected, found = {*wheels.values(), *sdists.values()}, set(dist.iterdir())
    if found != expected:
        sys.exit(f"dist/ lacks {expected - found} and should not hold {found - expected}")
    with TemporaryDirectory() as scratch:
        rebuilt = build_wheels(sdists, Path(scratch))
        for name in workspace:
            if contents(rebuilt[name]) != contents(wheels[name]):
                sys.exit(f"the sdist of {name} does not build the wheel that lies beside it")
        environment = Environment.create(Path(scratch) / "environment")
        environment.install(*wheels.values())
        probe(list(workspace.values()), environment)
    print(f"{len(workspace)} packages build, install and work")


def contents(wheel: Path) -> dict[str, int]:
    """Return the checksum of each file in a wheel."""
    with ZipFile(wheel) as archive:
        return {member.filename: member.CRC for member in archive.infolist()}


if __name__ == "__main__":
    main()
