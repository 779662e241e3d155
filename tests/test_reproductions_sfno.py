# SPDX-License-Identifier: Apache-2.0
"""The SFNO learns shallow water at small settings, and its errors are those over the sphere."""

import json
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from physicsnemo import Module
from reproductions import sfno
from reproductions.table import written
from tools.bench.host import stand_in

SETTINGS = replace(sfno.SMALL, train=2, test=2, test_hours=2)


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def data():
    return sfno.Data(SETTINGS, 0, torch.device("cpu"))


def test_fields_have_deviation_one(data):
    assert data.train.shape == (2, 5, 3, 32, 64)
    mean_square = (data.train.square() * data.area).sum(-2).mean(-1)
    torch.testing.assert_close(mean_square.mean((0, 1)), torch.ones(3), rtol=1e-4, atol=0)


def test_errors_are_those_over_the_sphere(data):
    latitude = data.sine[0, 0].asin()
    field = latitude.cos().expand(1, 3, 32, 64)
    # The mean of cos² over the sphere is 2 / 3.
    torch.testing.assert_close(data.norm(field), torch.tensor([math.sqrt(2 / 3)]))
    torch.testing.assert_close(data.errors(0.9 * field, field), torch.tensor([0.1]))


def test_predictions_are_predicted_from(data):
    class Halve(nn.Module):
        def forward(self, x):
            assert torch.equal(x[:, 3:], data.sine.expand(len(x), -1, -1, -1))
            return x[:, :3] / 2

    states = list(data.rollout(Halve(), hours=3, samples=2))
    torch.testing.assert_close(states[2], data.test[:, 0] / 8)
    found = sfno.measure(Halve(), data, hours=2)
    truth = data.test[:, 2]
    expected = (data.norm(data.test[:, 0] / 4 - truth) / data.norm(truth)).mean().item()
    assert found["relative_l2"][1] == pytest.approx(expected)
    exploding = sfno.measure(_Exploding(), data, hours=2)
    assert exploding["size"][-1] is None
    json.dumps(exploding, allow_nan=False)


class _Exploding(nn.Module):
    def forward(self, x):
        return x[:, :3] * 1e30


def test_models_have_the_sizes_that_are_said():
    settings = sfno.Settings()
    assert sfno.fno(settings).num_parameters() == pytest.approx(
        sfno.sfno(settings).num_parameters(), rel=0.03
    )


def test_a_small_run_learns_and_gets_a_row(tmp_path, monkeypatch):
    monkeypatch.setattr(sfno, "SMALL", replace(sfno.SMALL, test_hours=10))
    arguments = ["sfno", "--small", "--steps", "120", "--device", "cpu", "--output", str(tmp_path)]
    sfno.main(arguments)
    metrics = json.loads((tmp_path / "metrics.json").read_text("utf-8"))
    errors, before = metrics["relative_l2_by_hour"], metrics["relative_l2_without_model"]
    assert errors["1"] < before["1"] / 2
    assert errors["1"] < errors["5"] < errors["10"]
    assert Module.from_checkpoint(tmp_path / "sfno.mdlus").num_parameters() == metrics["parameters"]
    assert (tmp_path / "prediction.png").stat().st_size > 10_000

    long = {"24": 0.5, "50": 12.0, "100": None}
    for name in ("relative_l2_by_hour", "relative_l2_without_model"):
        metrics[name] |= long
    (tmp_path / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    text = written("<!-- begin: sfno -->\n<!-- end: sfno -->", tmp_path)
    assert "| 0.5000 | 1.2e+01 | beyond all numbers |" in text
    assert text.count("persistence") == 1


def test_steps_are_replays_after_the_first(steps_of):
    steps = steps_of(sfno)
    options = sfno.parse(["sfno", "--device", "cpu"])
    settings = replace(SETTINGS, steps=30)
    data = sfno.Data(settings, 0, torch.device("cpu"))
    with stand_in():
        list(sfno.train(sfno.sfno(settings), data, settings, options))
    assert steps[0].replays() == 30 - 11
