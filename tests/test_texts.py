# SPDX-License-Identifier: Apache-2.0
"""The texts for readers: their examples run, and their links lead somewhere.

The examples of ``packages/*/README.md`` run with the tests of their package.
"""

import doctest
import re
from pathlib import Path

import pytest

from tools.workspace import ROOT

TEXTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "docs/*/*.md", "packages/*/README.md")
    for path in ROOT.glob(pattern)
    if path.relative_to(ROOT).parts[:2] not in {("docs", "_build"), ("docs", "gallery")}
)
WITH_EXAMPLES = [
    path
    for path in TEXTS
    if "packages" not in path.relative_to(ROOT).parts and ">>> " in path.read_text(encoding="utf-8")
]
LINK = re.compile(r"\]\((?!\w+:|#)([^)#]+)")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_first_texts_have_examples():
    assert {"README.md", "docs/checkpoints.md"} <= set(map(name, WITH_EXAMPLES))


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=name)
def test_examples_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.testfile(str(path), module_relative=False, optionflags=flags)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_relative_links_lead_to_files(path: Path):
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    targets = [path.parent / target for target in LINK.findall(text)]
    assert [str(target) for target in targets if not target.exists()] == []
