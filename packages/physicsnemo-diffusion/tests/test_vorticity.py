# SPDX-License-Identifier: Apache-2.0
"""The gradient of the residual is that of autograd, and vanishes where the equations hold."""

import math

import pytest
import torch

from physicsnemo.models.diffusion.preconditioning._vorticity import residual_gradient

REYNOLDS, STEP = 40.0, 1 / 32


def draw(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def waves(size):
    return torch.fft.fftfreq(size, 1 / size, dtype=torch.float64)


def residual(w):
    """Return the residual term by term, from derivatives by real Fourier transforms."""
    height, width = w.shape[-2:]
    k_x, k_y = waves(height)[:, None], waves(width)[None, : width // 2 + 1].abs()
    square = k_x**2 + k_y**2
    modes = torch.fft.rfft2(w[:, 1:-1])
    stream = modes / torch.where(square == 0, 1.0, square)

    def field(modes):
        return torch.fft.irfft2(modes, s=(height, width))

    u, v = field(1j * k_y * stream), field(-1j * k_x * stream)
    advection = u * field(1j * k_x * modes) + v * field(1j * k_y * modes)
    y = 2 * math.pi * torch.arange(width, dtype=torch.float64) / width
    change = (w[:, 2:] - w[:, :-2]) / (2 * STEP)
    damping = 0.1 * w[:, 1:-1] - field(-square * modes) / REYNOLDS
    return change + advection + damping + 4 * torch.cos(4 * y)


@pytest.mark.parametrize("shape", [(2, 3, 16, 16), (1, 5, 12, 20), (3, 4, 9, 15), (2, 3, 10, 13)])
def test_autograd_agrees(shape):
    w = draw(*shape).requires_grad_()
    (expected,) = torch.autograd.grad(residual(w).square().mean(), w)
    got = residual_gradient(w.detach(), REYNOLDS, STEP, samples_apart=False)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


def test_samples_apart_do_not_see_each_other():
    w = draw(3, 3, 8, 8)
    together = residual_gradient(w, REYNOLDS, STEP, samples_apart=True)
    alone = [residual_gradient(sample[None], REYNOLDS, STEP, samples_apart=True) for sample in w]
    torch.testing.assert_close(together, torch.cat(alone))
    shared = residual_gradient(w, REYNOLDS, STEP, samples_apart=False)
    torch.testing.assert_close(together, 3 * shared)


def laminar(height, width):
    """Return the steady flow in which friction balances the force."""
    y = 2 * math.pi * torch.arange(width, dtype=torch.float64) / width
    profile = -4 / (16 / REYNOLDS + 0.1) * torch.cos(4 * y)
    return profile.expand(1, 3, height, width)


def test_a_solution_has_no_residual():
    w = laminar(16, 24)
    gradient = residual_gradient(w, REYNOLDS, STEP, samples_apart=True)
    assert gradient.abs().max() < 1e-14
    off = residual_gradient(1.1 * w, REYNOLDS, STEP, samples_apart=True)
    assert off.abs().max() > 1e-5


def test_two_times_are_too_few():
    with pytest.raises(ValueError, match="at least 3 successive times as channels, got 2"):
        residual_gradient(draw(1, 2, 8, 8), REYNOLDS, STEP, samples_apart=True)
