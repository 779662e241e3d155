# SPDX-License-Identifier: Apache-2.0
"""What the next release will say, for the site's page on changes."""

import re
import subprocess
import sys

from tools.workspace import ROOT

RELEASE = re.compile(r"^## (\S+) \(.*\)$", re.MULTILINE)


def next_release() -> str:
    """Return the changes that wait in ``packages/*/changes``, as Markdown."""
    command = [sys.executable, "-m", "tools.changelog", "--draft"]
    draft = subprocess.run(command, check=True, text=True, capture_output=True, cwd=ROOT).stdout
    return RELEASE.sub(r"## \1, not released yet", draft)
