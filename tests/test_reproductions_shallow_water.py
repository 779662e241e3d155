# SPDX-License-Identifier: Apache-2.0
"""The shallow water equations of reproductions: closed forms, invariants, and torch-harmonics."""

import math

import pytest
import torch
from torch_harmonics.examples import ShallowWaterSolver

from reproductions.data.random_fields import white_noise
from reproductions.data.shallow_water import (
    DEPTH,
    GRAVITY,
    RADIUS,
    ROTATION,
    ShallowWater,
    trajectories,
)

DAY = 86400.0


def random_states(solver, samples=2, seed=0):
    shape = (samples, 3, solver.degrees, solver.degrees, 2)
    return solver.random_states(white_noise(shape, seed))


def distance(one, other):
    """Return the largest relative distance of the three fields."""
    return ((one - other).abs().norm(dim=(2, 3)) / other.abs().norm(dim=(2, 3))).max().item()


def test_the_tendency_is_that_of_torch_harmonics():
    degrees = 22
    solver = ShallowWater(degrees, damping=math.inf)
    state = 20 * random_states(solver)  # so that products matter
    other = ShallowWaterSolver(
        40, 80, 1.0, lmax=degrees, mmax=degrees, grid="legendre-gauss"
    ).double()
    signs = (-1.0) ** torch.arange(degrees)  # it leaves the Condon-Shortley phase out
    for own, found in zip(state, solver.tendency(state), strict=True):
        theirs = own * signs
        theirs[0] *= GRAVITY
        theirs[0, 0, 0] += math.sqrt(4 * math.pi) * GRAVITY * DEPTH
        expected = torch.tril(other.dudtspec(theirs)) * signs
        expected[0] /= GRAVITY
        assert distance(found[None], expected[None]) < 1e-6  # its tables are of float32


def zonal_flow(solver, speed):
    """Return the steady state with this wind at the equator (Williamson et al. 1992, case 2)."""
    state = torch.zeros(1, 3, solver.degrees, solver.degrees, dtype=torch.complex128)
    rate = speed / RADIUS
    # Vorticity 2 rate x, and height -(a² rate Omega + speed² / 2) (x² - 1/3) / g, by the sine x.
    state[:, 1, 1, 0] = 2 * rate * math.sqrt(4 * math.pi / 3)
    size = -(RADIUS * ROTATION * speed + speed**2 / 2) / GRAVITY
    state[:, 0, 2, 0] = size * 2 / 3 * math.sqrt(4 * math.pi / 5)
    return state


def test_zonal_flow_in_balance_is_steady():
    solver = ShallowWater(12, damping=math.inf)
    state = zonal_flow(solver, speed=40.0)
    cosine = solver.squared_cosine.sqrt()
    wind = solver.to_grid(torch.stack(solver.wind_modes(state[:, 1], state[:, 2]), 1)) / cosine
    torch.testing.assert_close(wind[0, 0], (40.0 * cosine).expand(solver.grid.nlat, 36))
    later = solver.advance(state, DAY / 4, step=600.0)
    assert distance(later[:, :2], state[:, :2]) < 1e-12
    assert later[:, 2].abs().max() < 1e-12 * later[:, 1].abs().max()


def test_small_waves_oscillate_with_their_frequency():
    degree, order = 5, 3
    solver = ShallowWater(12, rotation=0.0, damping=math.inf)
    state = torch.zeros(1, 3, 12, 12, dtype=torch.complex128)
    state[:, 0, degree, order] = 1e-6 + 2e-6j
    omega = math.sqrt(GRAVITY * DEPTH * degree * (degree + 1)) / RADIUS
    later = solver.advance(state, 6 * 3600.0, step=100.0)
    expected = state[0, 0, degree, order] * math.cos(omega * 6 * 3600.0)
    assert abs(later[0, 0, degree, order] - expected) < 1e-6 * 1e-6
    assert later[0, 1].abs().max() < 1e-6 * later[0, 2].abs().max()


def invariants(solver, state):
    """Return mass, energy and potential enstrophy, as integrals over the unit sphere."""
    u, v = solver.wind_modes(state[:, 1], state[:, 2])
    pad = torch.nn.functional.pad
    modes = torch.stack((*(pad(state[:, i], (0, 0, 0, 1)) for i in (0, 1)), u, v), dim=1)
    height, vorticity, u, v = solver.to_grid(modes).unbind(1)
    depth = DEPTH + height
    kinetic = depth * (u**2 + v**2) / solver.squared_cosine / 2
    enstrophy = (vorticity + solver.coriolis) ** 2 / depth / 2
    area = solver.grid.weights()[:, None] * 2 * math.pi / solver.grid.nlon
    found = (depth, kinetic + GRAVITY * height**2 / 2, enstrophy)
    return [(field * area).sum((1, 2)) for field in found]


def test_mass_energy_and_enstrophy_stay():
    solver = ShallowWater(22, damping=math.inf)
    state = random_states(solver)
    later = solver.advance(state, DAY / 2, step=150.0)
    before, after = invariants(solver, state), invariants(solver, later)
    for one, other, tolerance in zip(before, after, (1e-13, 1e-5, 1e-6), strict=True):
        torch.testing.assert_close(other, one, rtol=tolerance, atol=0)
    assert distance(later, state) > 1


def test_steps_have_converged_at_fourth_order():
    solver = ShallowWater(24)
    state = random_states(solver, samples=1)
    exact = solver.advance(state, 3600.0, step=50.0)
    errors = [distance(solver.advance(state, 3600.0, step=step), exact) for step in (400.0, None)]
    assert 14 < errors[0] / errors[1] < 18  # None for 200 s
    assert errors[1] < 2e-4


def test_trajectories_are_recorded_at_each_hour():
    found = trajectories(2, 8, hours=2, seed=3)
    assert found.shape == (2, 3, 3, 8, 8)
    solver = ShallowWater(8)
    torch.testing.assert_close(found[:, 2], solver.advance(found[:, 0], 7200.0, step=600.0))
    torch.testing.assert_close(found[:, 0], random_states(solver, seed=3))


def test_damping_takes_the_smallest_waves_of_the_wind():
    calm, damped = (ShallowWater(8, damping=it).tendency for it in (math.inf, 7200.0))
    state = random_states(ShallowWater(8))
    change = damped(state) - calm(state)
    torch.testing.assert_close(change[:, 1:, 7], -state[:, 1:, 7] / 7200.0)
    assert not change[:, 0].abs().any()
    assert change[:, 1:, 1].abs().max() < 1e-4 * change[:, 1:, 7].abs().max()


@pytest.mark.parametrize(("field", "size"), [(0, 120.0), (1, 0.2 * 313.15 / RADIUS)])
def test_random_states_have_their_deviation(field, size):
    solver = ShallowWater(24)
    state = random_states(solver, samples=60)
    values = solver.to_grid(torch.nn.functional.pad(state[:, field], (0, 0, 0, 1)))
    area = solver.grid.weights()[:, None] / 2 / solver.grid.nlon
    variance = ((values**2) * area).sum((1, 2)).mean()
    expected = size**2 * (24**2 - 1) / (120 * 121)
    assert variance.item() == pytest.approx(expected, rel=0.02)
