# SPDX-License-Identifier: Apache-2.0
"""The tools of the release check; the check itself is a session, since it takes a minute."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools import _release_probe, release_check
from tools.environment import CommandError
from tools.release_check import Index, passes, releases

OURS = "physicsnemo-core"


def test_the_releases_that_follow_one():
    assert releases("0.1.0") == ("0.1.0", "0.1.1", "0.2.0")
    assert releases("2.9.13") == ("2.9.13", "2.9.14", "2.10.0")


def test_pip_finds_what_is_published_in_the_index(tmp_path: Path):
    index = Index(tmp_path / "simple")
    for version in ("0.1.0", "0.1.1"):
        wheel = tmp_path / f"weather_lab-{version}-py3-none-any.whl"
        wheel.touch()
        index.publish({"weather-lab": wheel})
    pip = (sys.executable, "-m", "pip", "--isolated", "index", "versions", "weather-lab")
    command = [*pip, "--index-url", index.url]
    listed = subprocess.run(command, check=True, text=True, capture_output=True).stdout
    assert "Available versions: 0.1.1, 0.1.0" in listed


def step_that_works():
    """Work."""


def step_that_fails():
    """Fail."""
    raise CommandError("what pip said")


def test_a_step_leaves_a_line(capsys: pytest.CaptureFixture[str]):
    assert passes(step_that_works)
    assert not passes(step_that_fails)
    said = capsys.readouterr().out
    assert re.fullmatch(
        r"passed: Work\. \(\d+ s\)\nfailed: Fail\. \(\d+ s\)\nwhat pip said\n", said
    )


@pytest.mark.parametrize(
    ("steps", "code", "end"),
    [
        ([step_that_works] * 3, 0, "3 passed, 0 failed\n"),
        ([step_that_works, step_that_fails, step_that_works], 1, "1 passed, 2 failed\n"),
    ],
)
def test_nothing_follows_a_failure(steps, code, end, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["release_check"])
    monkeypatch.setattr(release_check, "Journey", lambda *a, **k: SimpleNamespace(steps=steps))
    assert release_check.main() == code
    said = capsys.readouterr().out
    assert said.endswith(end)
    assert ("not reached: Work." in said) == bool(code)


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        ({"versions": {OURS: "0.0.0"}}, r"expected the versions .*0\.0\.0.*, got"),
        ({"misfits": {"Absent": "too new"}}, r"does not list \['Absent'\]"),
        ({"misfits": {"FNO": "too new"}}, "expected .* to say of FNO: too new; got nothing"),
    ],
)
def test_the_probe_sees_what_is_wrong(plan, text):
    with pytest.raises(SystemExit, match=text):
        _release_probe.main(**plan)
