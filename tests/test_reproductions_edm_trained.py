# SPDX-License-Identifier: Apache-2.0
"""Random fields of a known law, what is measured of them, and the pace of trainings."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from physicsnemo import Module
from physicsnemo.diffusion import sample
from physicsnemo.models.diffusion import SongUNet
from physicsnemo.models.diffusion.layers import Conv2d
from reproductions import edm_trained, pace
from reproductions.edm_trained import DEVIATION, Fields, binned, statistics
from reproductions.periodic import PeriodicConv2d, PeriodicUNet
from reproductions.table import written

LAW = Fields(16)


def fields(number, seed=0, law=LAW):
    return law.draw(number, torch.Generator().manual_seed(seed))


def test_fields_have_the_power_that_is_said():
    assert LAW.power.sum().item() == pytest.approx(DEVIATION**2)
    assert LAW.power.min() > 0 or LAW.power[0, 0] < 1e-4
    drawn = fields(20_000)[:, 0].double()
    power = torch.fft.fft2(drawn, norm="forward").abs() ** 2
    errors = power.std(dim=0) / len(power) ** 0.5
    assert ((power.mean(0) - LAW.power).abs() < 5 * errors).all()


def test_a_normal_law_has_the_covariance_of_its_operator():
    law = Fields(16, skew=1e-6)
    k = 2 * np.pi * np.fft.fftfreq(16, 1 / 16)
    expected = (k[:, None] ** 2 + k**2 + law.tau**2) ** -law.alpha
    expected[0, 0] = 0
    found = law.power.numpy()
    np.testing.assert_allclose(found, 0.25 * expected / expected.sum(), rtol=1e-6, atol=1e-12)


def test_values_have_the_distribution_that_is_said():
    values = fields(4000, law=Fields(8))[:, 0, 0, 0].double().numpy()
    for y in (-0.5, 0.0, 0.7, 1.5):
        share = (values < y).mean()
        right = LAW.cumulative(np.array([y]))[0]
        assert share == pytest.approx(right, abs=5 * (right * (1 - right) / 4000) ** 0.5)
    assert LAW.cumulative(np.array([-9.0, 9.0])) == pytest.approx([0, 1])


def test_statistics_of_the_law_and_of_others():
    found = statistics(fields(2000), LAW)
    assert found["mean_error_in_sampling_errors"] < 2
    assert found["largest_relative_error"] < 0.1
    assert found["kolmogorov_distance"] < 1.3 * found["kolmogorov_bound_95"]
    assert found["skewness"] == pytest.approx(
        LAW.skewness, abs=5 * found["skewness_sampling_error"]
    )
    other = statistics(fields(4000, law=Fields(16, alpha=2.5, skew=0.01)), LAW)
    assert other["mean_error_in_sampling_errors"] > 5
    assert other["kolmogorov_distance"] > other["kolmogorov_bound_95"]
    assert other["skewness"] < 0.3


def test_rings_hold_whole_wave_numbers():
    x = 2 * np.pi * torch.arange(16, dtype=torch.float64) / 16
    wave = torch.cos(3 * x)[:, None] * torch.ones(16)
    power = binned(torch.fft.fft2(wave, norm="forward").abs() ** 2)
    assert power.argmax() == 2  # of the rings 1, 2, 3
    # Two modes of 1/4, among those from 2.5 to 3.5 away.
    k = np.fft.fftfreq(16, 1 / 16)
    count = (np.round(np.hypot(k[:, None], k)) == 3).sum()
    assert power[2].item() == pytest.approx(0.5 / count)


def test_a_small_run_learns_and_its_file_samples(tmp_path, monkeypatch):
    size = replace(edm_trained.SMALL, channels=8, batch=16, samples=16)
    monkeypatch.setattr(edm_trained, "SMALL", size)
    given = ["--small", "--device", "cpu", "--output", str(tmp_path)]
    edm_trained.main([*given, "--steps", "40", "--compile"])
    metrics = json.loads((tmp_path / "metrics.json").read_text("utf-8"))
    assert metrics["steps"] == 40
    assert np.mean(metrics["losses"][-10:]) < 0.97 * np.mean(metrics["losses"][:10])
    found = metrics["statistics"]["samples of the model"]
    assert len(found["spectrum"]) == len(metrics["exact"]["spectrum"]) == 8
    assert found["deviation"] < 1
    text = written("<!-- begin: edm_trained -->\n<!-- end: edm_trained -->", tmp_path)
    assert f"| 16 samples of the model | 40 of {metrics['batch']} | 159 | " in text
    assert "| exact | - | - | 0 | 0 | 0.5000 | 0.590 | below 0.3395 in 95 % |" in text
    of_sampler = metrics["spectrum_relative_error_of_sampler"]
    assert (
        f"| the sampler with the best estimate | - | 159 | {max(map(abs, of_sampler)):.1%} |"
        in text
    )
    assert (tmp_path / "samples.png").stat().st_size > 10_000
    edm_trained.main([*given, "--trained", "--seed", "1"])
    again = json.loads((tmp_path / "metrics.json").read_text("utf-8"))
    for name in ("losses", "steps", "batch", "compiled"):
        assert again[name] == metrics[name]
    assert again["compiled"]
    assert again["statistics"] != metrics["statistics"]
    model = Module.from_checkpoint(tmp_path / "edm.mdlus")
    assert isinstance(model.network, PeriodicUNet)
    with torch.no_grad():
        assert sample(model, (2, 1, 16, 16), steps=3).isfinite().all()


@pytest.mark.parametrize(("steps", "error"), [(18, 0.26), (40, 0.04), (edm_trained.STEPS, 0.0075)])
def test_what_the_steps_of_the_sampler_cost(steps, error):
    relative = edm_trained.error_of_sampler(Fields(64), steps)
    assert relative.max().item() == pytest.approx(error, rel=0.1)
    assert relative.argmax() > 24


def test_what_a_jump_between_opposite_sides_adds_to_the_spectrum():
    law = Fields(64)
    k = 2 * np.pi * np.fft.fftfreq(256, 1 / 256) / 4  # of fields four times as wide
    wide = (k[:, None] ** 2 + k**2 + law.tau**2) ** -law.alpha
    wide[0, 0] = 0
    covariance = np.fft.fft2(wide / wide.sum()).real
    covariance = (covariance + 2 * law.skew**2 * covariance**2) / (1 + 2 * law.skew**2) / 4
    lag = np.arange(-63, 64)
    shares = (1 - abs(lag) / 64)[:, None] * (1 - abs(lag) / 64)  # of pairs in a part cut out
    folded = np.zeros((64, 64))
    np.add.at(folded, np.ix_(lag % 64, lag % 64), shares * covariance[np.ix_(lag, lag)])
    relative = binned(torch.from_numpy(np.fft.ifft2(folded).real)) / binned(law.power) - 1
    assert relative[[9, 19, 30, 31]].tolist() == pytest.approx([0.25, 0.68, 1.66, 1.15], abs=0.01)


def network(kind):
    torch.manual_seed(0)
    result = kind(16, 1, 1, model_channels=8, channel_mult=[1, 2], num_blocks=1).eval()
    for parameter in result.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return result.double()


@pytest.mark.parametrize(("kind", "joined"), [(PeriodicUNet, True), (SongUNet, False)])
def test_a_periodic_network_does_not_know_where_the_sides_are(kind, joined):
    net, x, level = network(kind), fields(1).double(), torch.tensor([0.3])
    moved = net(x.roll((2, 6), (2, 3)), level)
    assert torch.allclose(moved, net(x, level).roll((2, 6), (2, 3))) == joined


def test_away_from_the_sides_a_periodic_convolution_is_the_other_one():
    for options in ({}, {"up": True}, {"down": True}):
        torch.manual_seed(0)
        layer = Conv2d(2, 3, 3, **options)
        x = torch.randn(1, 2, 16, 16)
        expected = layer(x)[..., 1:-1, 1:-1]
        layer.__class__ = PeriodicConv2d
        torch.testing.assert_close(layer(x)[..., 1:-1, 1:-1], expected)


def rates(steps, seconds):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=2.0)
    found = []
    for _ in pace.paced(optimizer, steps, seconds):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
    return found


def test_learning_rates_rise_and_fall():
    found = rates(100, float("inf"))
    assert len(found) == 100
    assert found[0] == pytest.approx(0.02)
    assert found.index(max(found)) in (5, 6)
    assert found[50] == pytest.approx(1.0)
    assert found[-1] < 0.001


def test_a_training_ends_when_its_time_is_over(monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr(pace.time, "perf_counter", lambda: next(clock))
    found = rates(10_000, 100.0)
    assert pace.WARM + 98 <= len(found) <= pace.WARM + 101
    assert found[-1] < 0.01


def test_learning_rates_halve_each_fifth():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=1.6)
    found = []
    for _ in pace.halved(optimizer, 10):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
    assert found == pytest.approx([1.6, 1.6, 0.8, 0.8, 0.4, 0.4, 0.2, 0.2, 0.1, 0.1])


def test_tests_are_not_in_the_time_of_a_training(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(pace.time, "perf_counter", lambda: clock[0])

    def losses():
        for number in range(1, 6):
            clock[0] += 1.0
            yield torch.tensor(float(number))

    def test():
        clock[0] += 100.0
        return 0.5

    records = list(pace.recorded(losses(), 2, test))
    assert [it["count"] for it in records] == [2, 4, 5]
    assert [it["seconds"] for it in records] == [2, 4, 5]
    assert [it["train"] for it in records] == [1.5, 3.5, 5]


def test_a_filter_of_other_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="expected no resample_filter"):
        PeriodicUNet(16, 1, 1, resample_filter=[1, 3, 3, 1])
