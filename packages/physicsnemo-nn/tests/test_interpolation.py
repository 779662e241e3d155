# SPDX-License-Identifier: Apache-2.0
"""Interpolation is exact where its weights say so, and agrees with other libraries."""

import pytest
import torch

from physicsnemo.nn.interpolation import interpolation

GRID = [(-1.0, 1.0, 5), (0.0, 3.0, 7)]
TYPES = ["nearest_neighbor", "linear", "smooth_step_1", "smooth_step_2", "gaussian"]


def nodes(grid):
    axes = [torch.linspace(*axis, dtype=torch.float64) for axis in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def points(count=50):
    low, high = (torch.tensor([axis[i] for axis in GRID]).double() for i in (0, 1))
    return low + (high - low) * torch.rand(count, 2, dtype=torch.float64)


@pytest.mark.parametrize("kind", TYPES[:4])
def test_nodes_keep_their_values(kind):
    field = torch.randn(3, 5, 7, dtype=torch.float64)
    at = nodes(GRID).flatten(1).T
    torch.testing.assert_close(interpolation(at, field, GRID, kind), field.flatten(1).T)


@pytest.mark.parametrize("kind", TYPES)
def test_constants_stay(kind):
    field = torch.full((1, 5, 7), 3.0, dtype=torch.float64)
    values = interpolation(points(), field, GRID, kind)
    torch.testing.assert_close(values, torch.full((50, 1), 3.0, dtype=torch.float64))


def test_linear_is_exact_for_bilinear_fields():
    x, y = nodes(GRID)
    at = points()
    values = interpolation(at, (2 + x - 3 * y + x * y)[None], GRID, "linear")
    u, v = at.T
    torch.testing.assert_close(values[:, 0], 2 + u - 3 * v + u * v, rtol=0, atol=1e-12)


def test_linear_agrees_with_grid_sample():
    field, at = torch.randn(2, 5, 7, dtype=torch.float64), points()
    low, high = (torch.tensor([axis[i] for axis in GRID]).double() for i in (0, 1))
    places = (2 * (at - low) / (high - low) - 1).flip(1)  # its coordinates are reversed
    expected = torch.nn.functional.grid_sample(field[None], places[None, None], align_corners=True)
    torch.testing.assert_close(interpolation(at, field, GRID, "linear"), expected[0, :, 0].T)


@pytest.mark.parametrize(
    ("kind", "value"),
    [("linear", 0.25), ("smooth_step_1", 5 / 32), ("smooth_step_2", 53 / 512)],
)
def test_steps(kind, value):
    field = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    at = torch.tensor([[0.25]], dtype=torch.float64)
    assert interpolation(at, field, [(0.0, 1.0, 2)], kind).item() == pytest.approx(value, abs=1e-14)


@pytest.mark.parametrize(("kind", "order"), [("smooth_step_1", 1), ("smooth_step_2", 2)])
def test_derivatives_vanish_at_nodes(kind, order):
    field = torch.randn(1, 6, dtype=torch.float64)
    at = torch.linspace(0, 5, 6, dtype=torch.float64)[:, None].requires_grad_()
    derivative = interpolation(at, field, [(0.0, 5.0, 6)], kind).sum()
    for _ in range(order):
        (slope,) = torch.autograd.grad(derivative, at, create_graph=True)
        torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-12)
        derivative = slope.sum()


def test_gaussian_is_a_weighted_mean_of_five_nodes():
    field = torch.randn(1, 9, dtype=torch.float64)
    at = torch.tensor([[4.3]], dtype=torch.float64)
    weights = torch.exp(-0.5 * (torch.arange(9) - 4.3) ** 2).double()
    expected = (weights * field[0])[2:7].sum() / weights[2:7].sum()
    torch.testing.assert_close(
        interpolation(at, field, [(0, 8, 9)], "gaussian").squeeze(), expected
    )


@pytest.mark.parametrize("kind", TYPES[:4])
def test_beyond_the_ends_the_last_value_goes_on(kind):
    field = torch.tensor([[1.0, 2.0, 5.0]])
    values = interpolation(torch.tensor([[-9.0], [9.0]]), field, [(0.0, 1.0, 3)], kind)
    assert values.flatten().tolist() == [1, 5]


@pytest.mark.parametrize("kind", TYPES)
def test_gradients_of_fields_and_points(kind):
    field = torch.randn(2, 5, 7, dtype=torch.float64, requires_grad=True)
    at = points(4).requires_grad_(kind != "nearest_neighbor")
    assert torch.autograd.gradcheck(lambda *x: interpolation(*x, GRID, kind), (at, field))


def test_bad_arguments():
    field, at = torch.zeros(1, 5, 7), torch.zeros(3, 2)
    with pytest.raises(ValueError, match="interpolation_type to be one of nearest_neighbor"):
        interpolation(at, field, GRID, "cubic")
    with pytest.raises(ValueError, match=r"context_grid of shape \(channels, n1=5, n2=7\)"):
        interpolation(at, field[..., :-1], GRID)
    with pytest.raises(ValueError, match=r"query_points of shape \(points, axes=2\)"):
        interpolation(at[:, :1], field, GRID)
    with pytest.raises(ValueError, match=r"grid\[1\]\[2\] of at least 2"):
        interpolation(at, field, [GRID[0], (0.0, 1.0, 1)])
    with pytest.raises(ValueError, match=r"grid\[0\] to begin below its end"):
        interpolation(at, field, [(1.0, 1.0, 5), GRID[1]])
