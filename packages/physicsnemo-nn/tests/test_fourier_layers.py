# SPDX-License-Identifier: Apache-2.0
"""Fourier features and filters against their formulas."""

import math

import pytest
import torch

from physicsnemo.nn.fourier_layers import FourierFilter, FourierLayer, GaborFilter


def test_features_are_sines_and_cosines():
    layer = FourierLayer(2, [[1.0, 0.0], [0.5, -2.0]]).double()
    x = torch.rand(3, 4, 2, dtype=torch.float64)
    phases = [2 * math.pi * x[..., 0], 2 * math.pi * (0.5 * x[..., 0] - 2 * x[..., 1])]
    expected = [wave(phase) for wave in (torch.sin, torch.cos) for phase in phases]
    torch.testing.assert_close(layer(x), torch.stack(expected, dim=-1), rtol=0, atol=1e-12)
    assert layer.out_features() == 4


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        ("axis", [[1, 0], [3, 0], [0, 1], [0, 3]]),
        ("diagonal", [[1, 1], [3, 3]]),
        ("full", [[1, 1], [1, 3], [3, 1], [3, 3]]),
        ("axis,diagonal", [[1, 0], [3, 0], [0, 1], [0, 3], [1, 1], [3, 3]]),
    ],
)
def test_choices_of_frequencies(kind, rows):
    assert FourierLayer(2, (kind, [1.0, 3.0])).frequencies.tolist() == rows


def test_full_frequencies_of_one_coordinate():
    assert FourierLayer(1, ("full", [1.0, 3.0])).frequencies.tolist() == [[1], [3]]


def test_gaussian_frequencies():
    rows = FourierLayer(3, ("gaussian", 5.0, 4000)).frequencies
    assert rows.shape == (4000, 3)
    # Four standard errors of a mean, and of a standard deviation.
    assert abs(rows.mean()) < 4 * 5 / math.sqrt(12000)
    assert abs(rows.std() - 5) < 4 * 5 / math.sqrt(2 * 12000)


def test_frequencies_are_saved_and_not_trained():
    layer = FourierLayer(2, ("gaussian", 1.0, 8))
    assert list(layer.state_dict()) == ["frequencies"]
    assert not list(layer.parameters())


def test_bad_frequencies():
    with pytest.raises(ValueError, match="one of gaussian, axis, diagonal, full, got 'spiral'"):
        FourierLayer(2, ("spiral", [1.0]))
    with pytest.raises(ValueError, match=r"shape \(count, in_features=2\), got shape \(1, 3\)"):
        FourierLayer(2, [[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match="in_features=2"):
        FourierLayer(2, [[1.0, 2.0]])(torch.zeros(5, 3))


def test_a_filter_is_a_wave():
    layer = FourierFilter(2, layer_size=5, num_layers=3, input_scale=8.0).double()
    x = torch.randn(4, 2, dtype=torch.float64)
    expected = torch.sin(x @ (8.0 / 2 * layer.frequency).T + layer.phase)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


def test_the_product_of_two_filters_is_two_waves():
    """What networks of such filters rest on: sums and differences of their frequencies."""
    one, two = (FourierFilter(2, 5, num_layers=0, input_scale=1.0).double() for _ in range(2))
    x = torch.randn(4, 2, dtype=torch.float64)
    difference = x @ (one.frequency - two.frequency).T + one.phase - two.phase
    total = x @ (one.frequency + two.frequency).T + one.phase + two.phase
    torch.testing.assert_close(
        one(x) * two(x), (difference.cos() - total.cos()) / 2, rtol=0, atol=1e-12
    )


def test_a_gabor_filter_fades():
    layer = GaborFilter(2, layer_size=5, num_layers=1, input_scale=3.0).double()
    x = torch.randn(4, 2, dtype=torch.float64)
    wave = torch.sin(x @ (3.0 / math.sqrt(2) * layer.frequency).T + layer.phase)
    squares = (x[:, None, 0] - layer.mu[:, 0]) ** 2 + (x[:, None, 1] - layer.mu[:, 1]) ** 2
    expected = wave * torch.exp(-layer.gamma * squares / 2)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


def test_start_values():
    layer = FourierFilter(3, layer_size=2000, num_layers=2, input_scale=1.0)
    assert 0.99 < layer.frequency.abs().max() < 1
    assert 3.1 < layer.phase.abs().max() < math.pi
    gabor = GaborFilter(
        3, 2000, num_layers=2, input_scale=1.0, alpha=6.0, beta=2.0, center_range=(2, 3)
    )
    # Gamma(6 / 3, rate 2) has mean 1 and variance 1 / 2.
    assert abs(gabor.gamma.mean() - 1) < 4 * math.sqrt(0.5 / 2000)
    assert 2 <= gabor.mu.min() < gabor.mu.max() <= 3
    assert (gabor.frequency.abs() <= gabor.gamma.sqrt()[:, None]).all()
