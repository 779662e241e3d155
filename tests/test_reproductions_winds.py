# SPDX-License-Identifier: Apache-2.0
"""Scores that are kept of forecasts of winds."""

import json

import pytest
import torch

from reproductions import winds
from reproductions.table import written

DAYS, DAY = 14, 4
TIMES = DAYS * DAY


def names():
    """Return what the example leaves behind: a forecast that is right, and one that fades."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(3, TIMES, 2, 5, 8, generator=generator)
    share = torch.linspace(1, 0.5, TIMES)[:, None, None, None]
    forecasts = {"DLWP": truth, "HEALPixRecUNet": share * truth, "climatology": 0 * truth}
    by_time = torch.arange(1.0, TIMES + 1)[:, None] * torch.tensor([1.0, 10.0])
    return {
        "truth": truth,
        "forecasts": forecasts,
        "errors": dict.fromkeys(forecasts, by_time),
        "skills": dict.fromkeys(("DLWP", "HEALPixRecUNet"), 1 / by_time),
    }


def test_scores_are_those_at_the_end_of_days(tmp_path):
    found = winds.scores(names(), DAY)
    assert found["DLWP"]["height"]["rmse"] == [DAY * day for day in range(1, DAYS + 1)]
    assert found["DLWP"]["vorticity"]["rmse"][2] == 120
    assert found["DLWP"]["vorticity"]["acc"][0] == pytest.approx(1 / 40)
    assert "acc" not in found["climatology"]["height"]
    assert found["DLWP"]["height"]["relative_deviation"] == [1] * DAYS
    assert found["HEALPixRecUNet"]["vorticity"]["relative_deviation"][-1] == pytest.approx(0.5)
    assert found["climatology"]["height"]["relative_deviation"][0] == 0
    winds.draw(found, tmp_path / "scores.png")
    assert (tmp_path / "scores.png").stat().st_size > 10_000
    metrics = {"problem": "winds", "scores": found, "wall_seconds": 90}
    metrics["environment"] = {"device": "H200"}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    text = written("<!-- begin: winds -->\n<!-- end: winds -->", tmp_path)
    assert "| DLWP, RMSE (m) | 4 | 12 | 20 | 28 | 40 | 56 |" in text
    assert "| climatology, deviation over the truth's | 0.00 |" in text
    assert "climatology, ACC" not in text
    assert "1.5 minutes on H200" in text


def test_forecasts_that_blow_up_have_no_scores(tmp_path):
    given = names()
    given["errors"]["DLWP"] = torch.full((TIMES, 2), torch.inf)
    found = winds.scores(given, DAY)
    assert found["DLWP"]["height"]["rmse"] == [None] * DAYS
    json.dumps(found, allow_nan=False)
    winds.draw(found, tmp_path / "scores.png")


def test_the_example_is_run_with_the_options(tmp_path, monkeypatch):
    example = tmp_path / "example.py"
    example.write_text(
        "import sys\n"
        "import torch\n"
        "truth = torch.randn(2, 56, 2, 5, 8)\n"
        "forecasts = dict.fromkeys(('DLWP', 'HEALPixRecUNet', 'climatology'), truth)\n"
        "errors = dict.fromkeys(forecasts, torch.ones(56, 2))\n"
        "skills = errors\n"
        "numbers, DAY = [144, 48], 4\n"
        "dlwp = recurrent = type('Model', (), {'num_parameters': lambda self: 7})()\n"
        "assert sys.argv[1:4] == ['--size=full', '--days=14', '--epochs=2'], sys.argv\n"
    )
    monkeypatch.setattr(winds, "EXAMPLE", example)
    winds.main(["--epochs", "2", "--device", "cpu", "--output", str(tmp_path)])
    metrics = json.loads((tmp_path / "metrics.json").read_text("utf-8"))
    assert metrics["parameters"] == {"DLWP": 7, "HEALPixRecUNet": 7}
    assert metrics["trajectories"] == {"train": 144, "test": 48}
    assert len(metrics["scores"]["DLWP"]["height"]["rmse"]) == DAYS
