# SPDX-License-Identifier: Apache-2.0
"""Render the fragments in ``packages/*/changes`` into ``CHANGELOG.md``, one section a package.

Arguments go to ``towncrier build``: ``--draft`` shows the text and changes nothing.
"""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.workspace import ROOT, Package, packages

SECTION = """
[[tool.towncrier.section]]
name = "{name}"
path = "{name}/changes"
"""


def main() -> None:
    """Run towncrier on all packages at their version."""
    found = list(packages().values())
    with TemporaryDirectory() as folder:
        config = Path(folder) / "towncrier.toml"
        config.write_text(configuration(found), encoding="utf-8")
        towncrier = (sys.executable, "-m", "towncrier", "build", "--version", found[0].version)
        arguments = ("--dir", str(ROOT), "--config", str(config), *sys.argv[1:])
        sys.exit(subprocess.run([*towncrier, *arguments]).returncode)


def configuration(packages: Iterable[Package]) -> str:
    """Return the settings of the root ``pyproject.toml`` with a section for each package."""
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return settings + "".join(SECTION.format(name=package.name) for package in packages)


if __name__ == "__main__":
    main()
