# SPDX-License-Identifier: Apache-2.0
"""The sessions, and that every text that names one names it rightly."""

import re
import subprocess
import sys

import pytest

from tools.workspace import ROOT, packages

PROMISED = {
    "quickstart",
    "tests",
    "torch-versions",
    "isolation",
    "lint",
    "types",
    "build",
    "release-check",
    "docs",
    "examples",
    "bench",
}
TEXTS = ["README.md", "CONTRIBUTING.md", ".ci/run"]


@pytest.fixture(scope="module")
def sessions() -> dict[str, str]:
    """The description of each session, by its name."""
    command = [sys.executable, "-m", "nox", "--list", "--nocolor", "-f", str(ROOT / "noxfile.py")]
    listed = subprocess.run(command, check=True, text=True, capture_output=True).stdout
    return dict(re.findall(r"^[*-] ([\w-]+) -> (.+)$", listed, re.MULTILINE))


def test_the_list_of_sessions_reads_as_a_table_of_contents(sessions: dict[str, str]):
    assert sessions.keys() >= PROMISED
    for description in sessions.values():
        assert re.fullmatch(r"[A-Z].{20,90}\.", description)


@pytest.mark.parametrize("path", TEXTS)
def test_texts_name_sessions_that_exist(path: str, sessions: dict[str, str]):
    named = re.findall(r"nox -s ([\w-]+)", (ROOT / path).read_text())
    assert named
    assert set(named) <= sessions.keys()


def test_continuous_integration_runs_the_command_of_the_readme():
    [command] = (line for line in (ROOT / ".ci" / "run").read_text().splitlines() if "nox" in line)
    assert command.startswith("python -m pip install nox && python -m nox -s tests")
    assert f"\n{command}\n" in (ROOT / "README.md").read_text()


def test_the_oldest_pytorch_that_is_tested_is_the_one_declared():
    [torch] = (it for it in packages()["physicsnemo-core"].dependencies if it.startswith("torch>="))
    oldest = torch.replace(">=", "==") + ".*"
    assert f'("{oldest}", "{torch}")' in (ROOT / "noxfile.py").read_text()
