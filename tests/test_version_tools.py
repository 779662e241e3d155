# SPDX-License-Identifier: Apache-2.0
"""The tools that a release uses."""

import subprocess
import sys
import tomllib

import pytest

from tools.families import families_json, with_extras
from tools.set_version import at_version
from tools.workspace import ROOT, minor_range, packages

WORKSPACE = packages()


@pytest.mark.parametrize("package", WORKSPACE.values(), ids=lambda package: package.name)
def test_setting_a_version_changes_the_literal_and_the_pins_only(package):
    text = (package.folder / "pyproject.toml").read_text()
    assert at_version(text, package.version) == text
    changed = at_version(text, "3.14.1")
    assert tomllib.loads(changed)["project"]["version"] == "3.14.1"
    pins = changed.count(">=3.14,<3.15")
    assert pins == text.count(minor_range(package.version))
    assert at_version(changed, package.version) == text


@pytest.mark.parametrize(
    ("version", "expected"),
    [("0.1.0", ">=0.1,<0.2"), ("1.9.3", ">=1.9,<1.10"), ("2.0.0rc1", ">=2.0,<2.1")],
)
def test_the_range_of_a_minor_version(version, expected):
    assert minor_range(version) == expected


def test_every_model_is_written_down_with_its_package():
    families = [WORKSPACE["physicsnemo-mlp"], WORKSPACE["physicsnemo-fno"]]
    assert families_json(families).startswith(
        '{\n  "AFNO": {\n    "distribution": "physicsnemo-fno"'
    )


def test_the_extras_are_rewritten_and_the_rest_is_left():
    before = (
        "[project]\nname = 'x'  # kept\n[project.optional-dependencies]\nold = []\n\n[tool.y]\n"
    )
    after = with_extras(before, [WORKSPACE["physicsnemo-mlp"]])
    assert "name = 'x'  # kept" in after
    assert "[tool.y]" in after
    pin = WORKSPACE["physicsnemo-mlp"].pin
    extras = tomllib.loads(after)["project"]["optional-dependencies"]
    assert extras == {"mlp": [pin], "all": [pin]}


def test_the_changelog_shows_every_fragment_under_its_package():
    command = [sys.executable, "-m", "tools.changelog", "--draft"]
    draft = subprocess.run(command, cwd=ROOT, check=True, text=True, capture_output=True).stdout
    for package in WORKSPACE.values():
        section = draft.partition(f"\n### {package.name}\n")[2].partition("\n### ")[0]
        fragments = list((package.folder / "changes").glob("*.md"))
        assert section
        for fragment in fragments:
            assert " ".join(fragment.read_text().split()) in " ".join(section.split())
        assert bool(fragments) != ("No significant changes" in section)
