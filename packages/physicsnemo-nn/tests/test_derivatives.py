# SPDX-License-Identifier: Apache-2.0
"""Derivatives of waves are known."""

import math

import pytest
import torch

from physicsnemo.nn.derivatives import fourier_derivatives


@pytest.mark.parametrize("sizes", [(16, 12), (15, 13)])
def test_derivatives_of_waves(sizes):
    lengths = (3.0, 0.5)
    u, v = torch.meshgrid(
        *[
            2 * math.pi * torch.arange(n, dtype=torch.float64) / n  # phases of one period
            for n in sizes
        ],
        indexing="ij",
    )
    a, b = (2 * math.pi / length for length in lengths)
    field = torch.stack((torch.sin(2 * u + 3 * v), torch.cos(u)))[None]
    first, second = fourier_derivatives(field, lengths)
    assert first.shape == second.shape == (1, 4, *sizes)
    wave = torch.cos(2 * u + 3 * v)
    expected = [2 * a * wave, -a * torch.sin(u), 3 * b * wave, torch.zeros_like(u)]
    torch.testing.assert_close(first[0], torch.stack(expected), rtol=0, atol=1e-11)
    wave = -torch.sin(2 * u + 3 * v)
    expected = [4 * a**2 * wave, -(a**2) * torch.cos(u), 9 * b**2 * wave, torch.zeros_like(u)]
    torch.testing.assert_close(second[0], torch.stack(expected), rtol=0, atol=1e-9)


def test_the_highest_mode_of_an_even_axis():
    field = torch.tensor([1.0, -1.0] * 4, dtype=torch.float64)[None, None]  # cos 4 x
    first, second = fourier_derivatives(field, [2 * math.pi])
    torch.testing.assert_close(first, torch.zeros_like(field), rtol=0, atol=1e-12)
    torch.testing.assert_close(second, -16 * field, rtol=0, atol=1e-12)


def test_gradients_flow():
    field = torch.randn(1, 1, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: fourier_derivatives(x, [1.0]), field)


def test_half_precision_stays():
    first, second = fourier_derivatives(torch.randn(1, 2, 8).bfloat16(), [1.0])
    assert first.dtype == second.dtype == torch.bfloat16


def test_bad_lengths():
    with pytest.raises(ValueError, match="shape .batch, channels, n1, n2"):
        fourier_derivatives(torch.zeros(1, 1, 8), [1.0, 1.0])
    with pytest.raises(ValueError, match=r"expected ell\[0\] to be a finite number above 0"):
        fourier_derivatives(torch.zeros(1, 1, 8), [0.0])
