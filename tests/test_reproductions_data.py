# SPDX-License-Identifier: Apache-2.0
"""The samples of reproductions: against closed forms and the solvers of SciPy."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve
from scipy.special import iv

from reproductions.data import burgers, darcy, navier_stokes
from reproductions.data.cache import cache_folder, cached
from reproductions.data.random_fields import neumann_field, periodic_field, white_noise

SAMPLES = 4000


def grid(points):
    return torch.arange(points, dtype=torch.float64) / points


@pytest.mark.parametrize("shape", [(32,), (8, 8)])
def test_periodic_fields_have_the_spectrum(shape):
    fields = periodic_field(white_noise((SAMPLES, *shape), seed=1), scale=625.0, tau=5.0, alpha=2.0)
    axes = tuple(range(1, fields.ndim))
    power = (torch.fft.fftn(fields, dim=axes, norm="forward").abs() ** 2).mean(0)
    k = [np.fft.fftfreq(n, 1 / n) for n in shape]
    squares = sum((2 * np.pi * it) ** 2 for it in np.meshgrid(*k, indexing="ij"))
    expected = torch.from_numpy(625 * (squares + 25) ** -2.0 * (squares > 0))
    # A real mode is a chi-square of one degree of freedom, a complex one of two.
    assert ((power - expected).abs() <= 5 * math.sqrt(2 / SAMPLES) * expected + 1e-30).all()
    assert fields.mean(0).abs().max() < 5 * math.sqrt(expected.sum() / SAMPLES)


def test_neumann_fields_have_the_covariance():
    modes, points = 12, 7
    fields = neumann_field(white_noise((SAMPLES, modes, modes), seed=2), points, 3.0, 2.0)
    x = np.linspace(0, 1, points)
    expected = np.zeros((points**2, points**2))
    for i in range(modes):
        for j in range(i == 0, modes):
            norm = (2 if i else 1) * (2 if j else 1)
            wave = np.outer(np.cos(np.pi * i * x), np.cos(np.pi * j * x)).ravel()
            expected += norm * (np.pi**2 * (i**2 + j**2) + 9) ** -2.0 * np.outer(wave, wave)
    found = np.cov(fields.flatten(1).T.numpy())
    deviation = np.sqrt(
        (np.outer(expected.diagonal(), expected.diagonal()) + expected**2) / SAMPLES
    )
    assert (abs(found - expected) < 5 * deviation).all()


def cole_hopf(x, viscosity, time):
    """Return the solution that starts as sin(2 pi x)."""
    z = 1 / (4 * np.pi * viscosity)
    wave, slope = np.full_like(x, iv(0, z)), np.zeros_like(x)
    for n in range(1, 60):
        k = 2 * np.pi * n
        size = 2 * iv(n, z) * np.exp(-(k**2) * viscosity * time)
        wave += size * np.cos(k * x)
        slope -= size * k * np.sin(k * x)
    return -2 * viscosity * slope / wave


def test_diffusion_alone_is_what_remains_of_small_states():
    start = periodic_field(white_noise((2, 64), seed=8), 625.0, 5.0, 2.0)
    found = burgers.diffused(start, viscosity=0.02, time=0.5)
    small = burgers.solve(1e-6 * start, viscosity=0.02, time=0.5, steps=50) * 1e6
    torch.testing.assert_close(found, small, rtol=0, atol=1e-5)
    assert (found - start).abs().max() > 0.1


def burgers_error(points, steps, viscosity=0.02, time=0.5):
    x = grid(points)
    found = burgers.solve((2 * math.pi * x).sin()[None], viscosity, time, steps)[0].numpy()
    return abs(found - cole_hopf(x.numpy(), viscosity, time)).max()


def test_burgers_converges_in_resolution_exponentially():
    errors = [burgers_error(points, 400) for points in (24, 48, 96)]
    assert errors[1] < errors[0] / 30
    assert errors[2] < errors[1] / 300
    assert burgers_error(192, 400) < 1e-9


def test_burgers_converges_in_time_at_fourth_order():
    errors = [burgers_error(128, steps) for steps in (20, 40, 80)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(3.6 < order < 4.6 for order in orders), orders


def test_burgers_samples_agree_with_scipy():
    points = 64
    [start], [later] = (it[0] for it in burgers.samples(1, 256, seed=3))
    # Differentiation of the trigonometric interpolant (Trefethen 2000), in convective form.
    difference = np.subtract.outer(np.arange(points), np.arange(points))
    with np.errstate(divide="ignore"):
        first = np.pi * (-1.0) ** difference / np.tan(np.pi * difference / points)
    np.fill_diagonal(first, 0)
    second = (
        -2
        * np.pi**2
        * (-1.0) ** difference
        / np.sin(np.pi * difference / points + np.pi / 2 * (difference == 0)) ** 2
    )
    np.fill_diagonal(second, -(np.pi**2) * (points**2 / 3 + 2 / 3))
    # What the coarser grid cannot hold of the start is smoothed away within a moment.
    modes = np.fft.rfft(start.numpy(), norm="forward")[: points // 2 + 1]
    begin = np.fft.irfft(modes, points, norm="forward")
    found = solve_ivp(
        lambda t, u: 0.1 * second @ u - u * (first @ u),
        (0, 1),
        begin,
        method="BDF",
        rtol=1e-8,
        atol=1e-10,
    ).y[:, -1]
    assert abs(later.numpy()[:: 256 // points] - found).max() < 2e-6


def smooth_darcy_error(points):
    """Return the error for the pressure sin(pi x) sin(2 pi y)."""
    x, y = torch.meshgrid(*2 * [torch.linspace(0, 1, points, dtype=torch.float64)], indexing="ij")
    pi = math.pi
    u = (pi * x).sin() * (2 * pi * y).sin()
    u_x, u_y = (
        pi * (pi * x).cos() * (2 * pi * y).sin(),
        2 * pi * (pi * x).sin() * (2 * pi * y).cos(),
    )
    a, a_x, a_y = 2 + (pi * x).cos() * y, -pi * (pi * x).sin() * y, (pi * x).cos()
    source = 5 * pi**2 * a * u - a_x * u_x - a_y * u_y
    return (darcy.solve(a[None], source[None])[0] - u).abs().max().item()


def test_darcy_converges_in_resolution_at_second_order():
    errors = [smooth_darcy_error(points) for points in (17, 33, 65)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(1.9 < order < 2.1 for order in orders), orders


def test_darcy_samples_agree_with_scipy():
    points = 22
    coefficients, pressures = darcy.samples(2, points, seed=4)
    assert coefficients.unique().tolist() == [3.0, 12.0]
    a, number = coefficients[1, 0].double().numpy(), points - 2
    matrix = lil_matrix((number**2, number**2))
    for i in range(number):
        for j in range(number):
            row = i * number + j
            for di, dj in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                edge = (a[i + 1, j + 1] + a[i + 1 + di, j + 1 + dj]) / 2 * (points - 1) ** 2
                matrix[row, row] += edge
                if 0 <= i + di < number and 0 <= j + dj < number:
                    matrix[row, row + di * number + dj] -= edge
    expected = spsolve(matrix.tocsr(), np.ones(number**2)).reshape(number, number)
    found = pressures[1, 0].numpy()
    assert abs(found[1:-1, 1:-1] - expected).max() < 1e-9 * expected.max()
    assert not (found[[0, -1]].any())
    assert not (found[:, [0, -1]].any())


def test_darcy_has_both_coefficients_in_equal_parts():
    share = (darcy.samples(200, 30, seed=6)[0] == 12.0).double().mean((1, 2, 3))
    assert share.mean().item() == pytest.approx(0.5, abs=0.03)
    assert share.std() < 0.2


def test_darcy_says_when_a_solve_fails():
    coefficient = torch.full((1, 9, 9), -1.0, dtype=torch.float64)
    with pytest.raises(RuntimeError, match=r"relative residual of 1e-10 after 500 iterations, got"):
        darcy.solve(coefficient, torch.ones_like(coefficient))


def test_vortices_decay_as_taylor_and_green_say():
    x = grid(16)
    start = ((2 * math.pi * x).cos()[:, None] + (2 * math.pi * x).cos())[None]
    still = torch.zeros(16, 16, dtype=torch.float64)
    found = navier_stokes.solve(start, still, viscosity=0.01, time=2.0, steps=7)
    torch.testing.assert_close(found, start * math.exp(-4 * math.pi**2 * 0.01 * 2.0))


def test_the_forcing_drives_a_shear_flow():
    force = navier_stokes.forcing(16, torch.device("cpu"))
    rate = 1e-3 * 8 * math.pi**2
    found = navier_stokes.solve(torch.zeros_like(force)[None], force, time=3.0, steps=5)
    torch.testing.assert_close(found[0], force * (1 - math.exp(-3 * rate)) / rate)


def vorticity_start(points):
    x, y = torch.meshgrid(*2 * [2 * math.pi * grid(points)], indexing="ij")
    return 3 * ((x + 2 * y).sin() + (2 * x - y + 1).cos() + 0.5 * (3 * x).sin())[None]


def test_the_vorticity_agrees_with_scipy():
    points = 32
    start = vorticity_start(points)
    force = navier_stokes.forcing(points, torch.device("cpu"))
    k = 2 * np.pi * np.fft.fftfreq(points, 1 / points)
    kx, ky = np.meshgrid(k, k, indexing="ij")
    squares = kx**2 + ky**2
    poisson = np.where(squares > 0, 1 / np.where(squares > 0, squares, 1), 0)
    kept = np.maximum(abs(kx), abs(ky)) <= 2 * np.pi * ((points - 1) // 3) + 0.5

    def right(t, flat):
        modes = np.fft.fft2(flat.reshape(points, points)) * kept
        w, psi = np.fft.ifft2(modes).real, modes * poisson
        u, v = np.fft.ifft2(1j * ky * psi).real, np.fft.ifft2(-1j * kx * psi).real
        flux = 1j * kx * np.fft.fft2(u * w) + 1j * ky * np.fft.fft2(v * w)
        return np.fft.ifft2(
            kept * (np.fft.fft2(force) - flux - 1e-3 * squares * modes)
        ).real.ravel()

    expected = solve_ivp(right, (0, 1), start.numpy().ravel(), "DOP853", rtol=1e-9, atol=1e-9)
    found = navier_stokes.solve(start, force, steps=100)[0].numpy()
    assert abs(found - expected.y[:, -1].reshape(points, points)).max() < 1e-6
    assert abs(found - start[0].numpy()).max() > 1  # or there would be nothing to see


def test_the_vorticity_converges_in_time_at_fourth_order():
    start = vorticity_start(32)
    force = navier_stokes.forcing(32, start.device)
    fine = navier_stokes.solve(start, force, steps=160)
    errors = [
        (navier_stokes.solve(start, force, steps=steps) - fine).abs().max()
        for steps in (10, 20, 40)
    ]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(3.5 < order < 4.7 for order in orders), orders


def test_the_vorticity_is_recorded_at_each_unit_of_time():
    start, later = navier_stokes.samples(2, 32, seed=5, kept=16, records=2)
    assert (start.shape, later.shape) == ((2, 1, 16, 16), (2, 2, 16, 16))
    again = navier_stokes.samples(2, 32, seed=5, kept=32, records=2)
    assert torch.equal(later, again[1][..., ::2, ::2])
    force = navier_stokes.forcing(32, start.device)
    at_two = navier_stokes.solve(again[0][:, 0], force, time=2.0, steps=50)
    torch.testing.assert_close(again[1][:, 1], at_two, rtol=0, atol=1e-10)


def test_the_sampled_vorticity_has_converged():
    noise = white_noise((1, 256, 256), seed=7)
    fine = periodic_field(noise, scale=7.0**3, tau=7.0, alpha=2.5)
    # The same start on half the points: its modes, but for those that the solver drops anyway.
    kept = torch.arange(-63, 64)
    modes = torch.zeros(1, 128, 65, dtype=torch.complex128)
    modes[:, kept, :64] = torch.fft.rfft2(fine, norm="forward")[:, kept, :64]
    coarse = torch.fft.irfft2(modes, (128, 128), norm="forward")
    found, best = (
        navier_stokes.solve(start, navier_stokes.forcing(n, start.device), steps=steps)
        for start, n, steps in ((coarse, 128, navier_stokes.STEPS), (fine, 256, 60))
    )
    assert (found - best[:, ::2, ::2]).norm() < 1e-7 * found.norm()


def test_samples_belong_to_their_seed():
    once, twice, other = (darcy.samples(1, 9, seed)[0] for seed in (0, 0, 1))
    assert torch.equal(once, twice)
    assert not torch.equal(once, other)


def test_samples_are_computed_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls = []

    def make():
        calls.append(1)
        return torch.ones(2, 3, dtype=torch.float64), torch.arange(4.0)[::2]

    for _ in range(2):
        inputs, outputs = cached("name", make)
        assert inputs.dtype == torch.float32
        assert outputs.tolist() == [0, 2]
    assert len(calls) == 1


def test_what_fails_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("reproductions.data.cache.os.replace", lambda *paths: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cached("name", lambda: (torch.ones(1), torch.ones(1)))
    assert list(cache_folder().iterdir()) == []


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_samples_that_are_not_finite_are_refused(tmp_path, monkeypatch, value):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(FloatingPointError, match="samples name: outputs are not finite"):
        cached("name", lambda: (torch.ones(2), torch.tensor([1.0, value])))
    assert list(cache_folder().iterdir()) == []
