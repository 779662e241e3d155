# SPDX-License-Identifier: Apache-2.0
"""Set the one version of all packages, and the range in which they ask for each other.

``python -m tools.set_version 0.2.0`` rewrites every ``packages/*/pyproject.toml``.
"""

import re
import sys
from pathlib import Path

from packaging.version import Version

from tools.workspace import PREFIX, ROOT, minor_range, packages

VERSION = re.compile(r'^version = ".*"$', re.MULTILINE)
PIN = re.compile(rf'(?<=")({PREFIX}[a-z]+)[<>=].*?(?=")')


def main() -> None:
    """Set the version that the command line names."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tools.set_version VERSION")
    set_version(str(Version(sys.argv[1])))


def set_version(version: str, root: Path = ROOT) -> None:
    """Set the version of all packages of a repository."""
    for package in packages(root).values():
        path = package.folder / "pyproject.toml"
        path.write_text(at_version(path.read_text(encoding="utf-8"), version), encoding="utf-8")


def at_version(pyproject: str, version: str) -> str:
    """Return a ``pyproject.toml`` with another version and the pins that belong to it."""
    literal = VERSION.sub(f'version = "{version}"', pyproject, count=1)
    return PIN.sub(rf"\1{minor_range(version)}", literal)


if __name__ == "__main__":
    main()
