# SPDX-License-Identifier: Apache-2.0
"""Interpolation from the nearest points: closed forms, samples apart, gradients, errors."""

import pytest
import torch

from physicsnemo.models.gnn_layers import Graph
from physicsnemo.models.mesh_reduced import Mesh_Reduced, interpolation, knn_interpolate


def points(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def by_definition(x, pos_x, pos_y, k):
    """Sort all distances to each point, and take the mean of the first k."""
    results = []
    for point in pos_y:
        squared = (pos_x - point).square().sum(1)
        nearest = squared.argsort()[:k]
        weights = 1 / squared[nearest].clamp(min=1e-16)
        results.append((weights[:, None] * x[nearest]).sum(0) / weights.sum())
    return torch.stack(results)


@pytest.mark.parametrize("k", [1, 3, 8])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_it_is_the_weighted_mean_of_the_k_nearest(dimensions, k):
    x, pos_x, pos_y = points(20, 4), points(20, dimensions, seed=1), points(9, dimensions, seed=2)
    result = knn_interpolate(x, pos_x, pos_y, k=k)
    torch.testing.assert_close(result.y, by_definition(x, pos_x, pos_y, k))
    # The parts give the whole.
    total = torch.zeros(9, 4).double().index_add(0, result.y_idx, result.weights * x[result.x_idx])
    mass = torch.zeros(9, 1).double().index_add(0, result.y_idx, result.weights)
    torch.testing.assert_close(total / mass, result.y)
    distance = (pos_x[result.x_idx] - pos_y[result.y_idx]).norm(dim=1).view(9, k)
    assert (distance.diff(dim=1) >= 0).all()


@pytest.mark.parametrize("k", [1, 2, 5, 50])
def test_constants_stay(k):
    y = knn_interpolate(torch.full((20, 2), 3.7), points(20, 2), points(30, 2, seed=1), k=k).y
    torch.testing.assert_close(y, torch.full((30, 2), 3.7))


def test_a_point_that_is_there_keeps_its_features():
    x, pos = points(20, 3), points(20, 2)
    torch.testing.assert_close(knn_interpolate(x, pos, pos).y, x, rtol=0, atol=1e-10)


def test_the_middle_of_two_points_has_their_mean():
    pos = torch.tensor([[0.0], [2.0], [100.0]])
    x = torch.tensor([[1.0], [4.0], [-50.0]])
    assert knn_interpolate(x, pos, torch.tensor([[1.0]]), k=2).y.item() == 2.5


def test_close_points_far_from_the_origin_keep_their_distances():
    pos = torch.tensor([[1000.0, 1000.0], [1000.01, 1000.0], [1000.0, 1000.03]])
    new = torch.tensor([[1000.0, 1000.01]])
    expected = by_definition(torch.eye(3).double(), pos.double(), new.double(), 2)
    torch.testing.assert_close(
        knn_interpolate(torch.eye(3), pos, new, k=2).y, expected.float(), rtol=1e-3, atol=1e-3
    )


def test_blocks_do_not_matter(monkeypatch):
    arguments = (points(20, 4), points(20, 2, seed=1), points(31, 2, seed=2))
    batches = (torch.arange(20) // 7, torch.arange(31) // 11)
    whole = [knn_interpolate(*arguments), knn_interpolate(*arguments, *batches)]
    for size in (1, 50, 200):
        monkeypatch.setattr(interpolation, "_CHUNK", size)
        parts = [knn_interpolate(*arguments), knn_interpolate(*arguments, *batches)]
        for one, other in zip(whole, parts, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_samples_are_kept_apart():
    sizes, new = (5, 2, 9), (3, 4, 1)  # the second has fewer points than k
    x, pos_x, pos_y = points(16, 4), points(16, 2, seed=1), points(8, 2, seed=2)
    samples = torch.arange(3)
    batches = [samples.repeat_interleave(torch.tensor(count)) for count in (sizes, new)]
    result = knn_interpolate(x, pos_x, pos_y, *batches)
    parts = zip(x.split(sizes), pos_x.split(sizes), pos_y.split(new), strict=True)
    expected = [knn_interpolate(*part) for part in parts]
    torch.testing.assert_close(result.y, torch.cat([part.y for part in expected]))
    torch.testing.assert_close(result.weights, torch.cat([part.weights for part in expected]))
    assert torch.equal(batches[0][result.x_idx], batches[1][result.y_idx])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_weighs_nothing_goes_nowhere(bad):
    sizes, new = (5, 2, 9), (3, 4, 1)  # the second has fewer points than k
    x, pos_x, pos_y = points(16, 4), points(16, 2, seed=1), points(8, 2, seed=2)
    samples = torch.arange(3)
    batches = [samples.repeat_interleave(torch.tensor(count)) for count in (sizes, new)]
    clean = knn_interpolate(x, pos_x, pos_y, *batches).y
    dirty = x.clone()
    dirty[[0, 1, 2, 3, 4, 7, 8, 9, 10, 11, 12, 13, 14, 15]] = bad
    leaf = dirty.requires_grad_()
    y = knn_interpolate(leaf, pos_x, pos_y, *batches).y
    of_second = batches[1] == 1
    assert torch.equal(y[of_second], clean[of_second])
    assert not y[~of_second].isfinite().any()
    (gradient,) = torch.autograd.grad(y[of_second].sum(), leaf)
    assert gradient.isfinite().all()


def test_gradients_pass_to_features_alone():
    x, pos_x, pos_y = (
        tensor.requires_grad_() for tensor in (points(9, 2), points(9, 2), points(4, 2))
    )
    assert torch.autograd.gradcheck(lambda x: knn_interpolate(x, pos_x, pos_y).y, x)
    knn_interpolate(x, pos_x, pos_y).y.sum().backward()
    assert x.grad.sum().item() == pytest.approx(8)  # of weights that sum to 1
    assert (pos_x.grad, pos_y.grad) == (None, None)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_result_has_the_type_of_the_features(dtype):
    x, pos_x, pos_y = points(20, 4), points(20, 2, seed=1), points(9, 2, seed=2)
    y = knn_interpolate(x.to(dtype), pos_x.float(), pos_y.float()).y
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), by_definition(x, pos_x, pos_y, 3), rtol=0.02, atol=0.02)


def test_no_new_point():
    result = knn_interpolate(points(5, 2), points(5, 3), points(0, 3))
    assert [tuple(part.shape) for part in result] == [(0, 2), (0,), (0,), (0, 1)]


def test_it_is_a_method_too():
    arguments = (points(5, 2), points(5, 3), points(4, 3))
    assert torch.equal(Mesh_Reduced.knn_interpolate(*arguments).y, knn_interpolate(*arguments).y)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 0}, "k of at least 1, got 0"),
        ({"x": torch.zeros(4, 2)}, r"5 points as pos_x has, got \(4, 2\)"),
        ({"pos_y": torch.zeros(6, 2)}, r"equally many dimensions, got \(5, 3\) and \(6, 2\)"),
        ({"pos_y": torch.zeros(3)}, r"shape \(points, dimensions\)"),
        ({"batch_x": torch.zeros(5)}, "both batch_x and batch_y or neither"),
        (
            {"batch_x": torch.zeros(5), "batch_y": torch.zeros(4)},
            r"batch_y of shape \(6,\), got \(4,\)",
        ),
        (
            {"x": torch.zeros(0, 2), "pos_x": torch.zeros(0, 3)},
            "points to interpolate from, got positions",
        ),
        ({"pos_y": torch.zeros(6, 3, device="meta")}, "on one device, got cpu and meta"),
        (
            {"pos_x": torch.full((5, 3), torch.nan)},
            "finite positions, got NaN or infinity in the first",
        ),
        ({"pos_y": torch.full((6, 3), torch.inf)}, "NaN or infinity in the second"),
    ],
)
def test_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        knn_interpolate(**arguments() | changes)


def arguments():
    return {"x": torch.zeros(5, 2), "pos_x": torch.zeros(5, 3), "pos_y": torch.zeros(6, 3)}


@pytest.mark.parametrize("name", ["x", "pos_x", "pos_y"])
def test_no_tensors(name):
    numbers = arguments()[name].tolist()
    with pytest.raises(TypeError, match=rf"{name} .*, got list; .* torch.as_tensor\({name}\)$"):
        knn_interpolate(**arguments() | {name: numbers})


@pytest.mark.parametrize("name", ["pos_x", "pos_y"])
def test_a_graph_in_place_of_positions(name):
    graph = Graph(torch.zeros(2, 1, dtype=torch.long), 5)
    with pytest.raises(
        TypeError, match=f"expected {name} to be a tensor, got Graph; pass its pos$"
    ):
        knn_interpolate(**arguments() | {name: graph})
