# SPDX-License-Identifier: Apache-2.0
"""Averages of weights: power-function profiles, and any other from them."""

import pytest
import torch

from physicsnemo.diffusion import PowerEMA, combined
from physicsnemo.diffusion.averages import exponent


class Weight(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))


def trained(steps, widths, every=None):
    """Return averages of weights that are the step's number, and snapshots."""
    model = Weight()
    averages, kept = PowerEMA(model, widths), []
    for step in range(1, steps + 1):
        torch.nn.init.constant_(model.weight, float(step))
        model.count.fill_(step)
        averages.update(model)
        if every and step % every == 0:
            kept += averages.snapshots()
    return averages, kept


@pytest.mark.parametrize("width", [0.05, 0.1, 0.25])
def test_a_profile_has_its_mean_and_width(width):
    """Of the profile tau^gamma over [0, 1]: by integration, the mean is (g + 1) / (g + 2)."""
    gamma = exponent(width)
    mean = (gamma + 1) / (gamma + 2)
    variance = (gamma + 1) / (gamma + 3) - mean**2
    assert variance**0.5 == pytest.approx(width, rel=1e-10)
    steps = 4000
    averages, _ = trained(steps, [width])
    assert averages.models[0].weight.item() / steps == pytest.approx(mean, rel=1e-3)
    assert averages.models[0].count.item() == steps


def test_the_first_weights_do_not_count():
    model = Weight()
    averages = PowerEMA(model, [0.1])
    torch.nn.init.constant_(model.weight, 7.0)
    averages.update(model)
    assert averages.models[0].weight.item() == 7.0


def test_any_width_after_training():
    _, snapshots = trained(2000, [0.05, 0.1], every=100)
    for width in (0.07, 0.15):
        direct = trained(2000, [width])[0].models[0].weight.item()
        state = combined(snapshots, width)
        assert state["weight"].item() == pytest.approx(direct, rel=2e-3)
        assert state["count"].item() == 2000
    earlier = trained(1500, [0.1])[0].models[0].weight.item()
    assert combined(snapshots, 0.1, step=1500)["weight"].item() == pytest.approx(earlier, rel=1e-6)


def test_training_goes_on_from_a_checkpoint(tmp_path):
    whole, _ = trained(20, [0.05, 0.2])
    first, _ = trained(10, [0.05, 0.2])
    torch.save(first.state_dict(), tmp_path / "averages.pt")
    model = Weight()
    second = PowerEMA(model, [0.05, 0.2])
    second.load_state_dict(torch.load(tmp_path / "averages.pt"))
    for step in range(11, 21):
        torch.nn.init.constant_(model.weight, float(step))
        second.update(model)
    for one, other in zip(whole.models, second.models, strict=True):
        torch.testing.assert_close(one.weight, other.weight)
    with pytest.raises(ValueError, match="widths"):
        PowerEMA(model, [0.1]).load_state_dict(first.state_dict())


def test_what_is_refused():
    for width in (0.0, 0.3):
        with pytest.raises(ValueError, match="width above 0"):
            PowerEMA(Weight(), [width])
    with pytest.raises(ValueError, match="snapshots"):
        combined([], 0.1)
