# SPDX-License-Identifier: Apache-2.0
"""What checks of inputs take of a training step is added up once."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tools.bench import checks
from tools.bench.checks import is_check, share_of

FORWARD = ("/src/physicsnemo/models/mlp/model.py", 5, "forward")
CHECK = ("/src/physicsnemo/nn/checks.py", 7, "check_input")
WITHIN = ("/src/physicsnemo/nn/checks.py", 30, "is_integer")
OTHERS = ("/lib/torch/checks.py", 7, "check_input")


def test_a_check_inside_of_a_check_is_a_part_of_it() -> None:
    entry = (1, 1, 0.0, 0.0)
    calls = {
        FORWARD: (*entry, {}),
        CHECK: (*entry, {FORWARD: (4, 4, 0.1, 0.6), OTHERS: (2, 2, 0.1, 0.2)}),
        WITHIN: (*entry, {CHECK: (9, 9, 0.3, 0.3), FORWARD: (2, 2, 0.1, 0.1)}),
        OTHERS: (*entry, {FORWARD: (1, 1, 3.0, 3.0)}),
    }
    share = share_of("case", cast(Any, SimpleNamespace(stats=calls, total_tt=10.0)), steps=2)
    assert share.checks_s == pytest.approx((0.6 + 0.2 + 0.1) / 2)
    assert (share.step_s, share.share) == (5, pytest.approx(0.09))
    assert (share.calls, share.largest) == (4, "check_input in checks.py")


def test_checks_are_those_of_this_library() -> None:
    assert [is_check(it) for it in (FORWARD, CHECK, WITHIN, OTHERS)] == [False, True, True, False]


def test_a_case_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "LIMIT", 1.0)
    path = tmp_path / "checks.json"
    options = ("--device", "cpu", "--case", "FullyConnected-32", "--steps", "2")
    checks.main([*options, "--json", str(path)])
    (row,) = json.loads(path.read_text())["results"]
    assert 0 < row["checks_s"] < row["step_s"]
    assert row["share"] == pytest.approx(row["checks_s"] / row["step_s"])
    assert row["calls"] >= 1
    monkeypatch.setattr(checks, "LIMIT", 0.0)
    with pytest.raises(SystemExit, match="more than 0% of a step: FullyConnected-32"):
        checks.main(options)
