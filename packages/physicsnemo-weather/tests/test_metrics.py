# SPDX-License-Identifier: Apache-2.0
"""Areas, scores and losses by their formulas, and by other libraries."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine

from physicsnemo.metrics.weather import (
    LatitudeWeightedLoss,
    acc,
    cubed_sphere_weights,
    latitude_weights,
    rmse,
)
from physicsnemo.utils.weather import cubed_sphere_points

WEIGHTS = latitude_weights(torch.linspace(90, -90, 7))


def fields(*shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(3, *shape, generator=generator).to(dtype)


@pytest.mark.parametrize("number", [2, 3, 19, 721])
def test_a_grid_with_poles(number):
    latitudes = torch.linspace(90, -90, number, dtype=torch.float64)
    weights = latitude_weights(latitudes)
    half = np.pi / (number - 1) / 2
    assert weights.shape == (number, 1)
    torch.testing.assert_close(weights.mean().item(), 1.0)
    cap = (1 - np.cos(half)) / 2  # of the sphere
    torch.testing.assert_close((weights[[0, -1], 0] / number).tolist(), [cap, cap])
    inner = 2 * np.sin(half) * latitudes[1:-1].deg2rad().cos() / 2
    torch.testing.assert_close(weights[1:-1, 0] / number, inner)
    assert torch.equal(latitude_weights(latitudes.flip(0)), weights.flip(0))


def test_a_grid_without_poles():
    weights = latitude_weights(torch.tensor([-60.0, 0.0, 60.0]))
    torch.testing.assert_close(weights.flatten(), torch.tensor([0.75, 1.5, 0.75]))


def test_gaussian_latitudes():
    sines, expected = np.polynomial.legendre.leggauss(64)
    weights = latitude_weights(torch.from_numpy(np.rad2deg(np.arcsin(sines))))
    np.testing.assert_allclose(weights[:, 0], expected / expected.mean(), rtol=0, atol=0.004)


@pytest.mark.parametrize(
    ("latitudes", "bounds"),
    [
        ([-80.0, -30.0, 10.0, 70.0], [-90, -55, -10, 40, 90]),
        ([60.0, 50.0, 40.0], [65, 55, 45, 35]),
        ([0.0, 30.0, 60.0, 90.0], [-15, 15, 45, 75, 90]),
        ([-90.0, -80.0], [-90, -85, -75]),
    ],
    ids=["globe", "region", "hemisphere", "cap"],
)
def test_bounds_of_cells(latitudes, bounds):
    areas = np.abs(np.diff(np.sin(np.deg2rad(bounds))))
    weights = latitude_weights(np.array(latitudes))
    np.testing.assert_allclose(weights[:, 0], areas / areas.mean())


@pytest.mark.parametrize(
    ("latitudes", "dtype"),
    [
        (torch.tensor([-90, 0, 90]), torch.float32),
        (torch.tensor([-90.0, 0.0, 90.0], dtype=torch.float64), torch.float64),
        (np.array([-90.0, 0.0, 90.0])[::-1], torch.float64),
        ([-90, 0, 90], torch.float32),
    ],
)
def test_type_of_weights(latitudes, dtype):
    assert latitude_weights(latitudes).dtype == dtype


@pytest.mark.parametrize(
    ("latitudes", "message"),
    [
        ([90.0], r"got \(1,\)"),
        ([[90.0, 0.0]], r"got \(1, 2\)"),
        ([0.0, 90.0, 45.0], "rise or fall"),
        ([0.0, 0.0], "rise or fall"),
        ([0.0, 100.0], "from -90 to 90"),
        ([0.0, float("nan")], "from -90 to 90"),
    ],
)
def test_wrong_latitudes(latitudes, message):
    with pytest.raises(ValueError, match=message):
        latitude_weights(torch.tensor(latitudes))


def test_areas_of_the_cubed_sphere():
    size = 6
    angle = np.linspace(-np.pi / 4, np.pi / 4, size + 1)
    a, b = np.tan(np.meshgrid(angle, angle))
    corner = np.stack((np.ones_like(a), a, b))
    corner /= np.linalg.norm(corner, axis=0)

    def solid_angle(p, q, r):  # Van Oosterom and Strackee 1983
        volume = np.einsum("i...,i...->...", p, np.cross(q, r, axis=0))
        dots = sum(np.einsum("i...,i...->...", *pair) for pair in ((p, q), (q, r), (r, p)))
        return 2 * np.arctan2(np.abs(volume), 1 + dots)

    p, q, r, s = corner[:, 1:, 1:], corner[:, 1:, :-1], corner[:, :-1, :-1], corner[:, :-1, 1:]
    areas = solid_angle(p, q, r) + solid_angle(r, s, p)
    np.testing.assert_allclose(6 * areas.sum(), 4 * np.pi)
    weights = cubed_sphere_weights(size)
    assert weights.shape == (6, size, size)
    for face in weights:
        np.testing.assert_allclose(face, areas / areas.mean(), rtol=1e-5)


def test_means_over_the_cubed_sphere():
    latitudes, _ = cubed_sphere_points(32)
    squares = latitudes.deg2rad().sin().pow(4)
    weights = cubed_sphere_weights(32)
    assert abs((weights * squares).mean() - 1 / 5) < 1e-3
    assert abs(squares.mean() - 1 / 5) > 4e-3


def test_size_of_the_cubed_sphere():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        cubed_sphere_weights(0)


def test_rmse_by_hand():
    x, y = fields(2, 7, 12), fields(2, 7, 12).flip(0)
    found = rmse(x, y, WEIGHTS)
    for index in np.ndindex(3, 2):
        squares = (x - y)[index].square()
        expected = np.average(squares.mean(-1), weights=WEIGHTS[:, 0]) ** 0.5
        np.testing.assert_allclose(found[index], expected, rtol=1e-6)
    over_times = rmse(x, y, WEIGHTS, dim=(0, -2, -1))
    torch.testing.assert_close(over_times, found.square().mean(0).sqrt())
    torch.testing.assert_close(rmse(x, y, 5 * WEIGHTS), found)


def test_rmse_on_faces():
    x, y = fields(4, 6, 5, 5), fields(4, 6, 5, 5).flip(0)
    weights = cubed_sphere_weights(5)
    found = rmse(x, y, weights, dim=(-3, -2, -1))
    torch.testing.assert_close(found, ((x - y).square() * weights).mean((-3, -2, -1)).sqrt())
    faces_first = rmse(x.movedim(2, 1), y.movedim(2, 1), dim=(1, -2, -1))
    torch.testing.assert_close(faces_first, (x - y).square().mean((-3, -2, -1)).sqrt())


def test_acc_equals_another_library():
    x, y, climatology = fields(2, 7, 12), fields(2, 7, 12).flip(0), fields(7, 12)[0]
    found = acc(x, y, climatology, WEIGHTS)
    weights = WEIGHTS.expand(7, 12).flatten()
    for index in np.ndindex(3, 2):
        anomalies = [(it[index] - climatology).flatten() for it in (x, y)]
        np.testing.assert_allclose(found[index], 1 - cosine(*anomalies, weights), rtol=1e-4)


def test_acc_is_not_centred():
    climatology, target = torch.zeros(7, 12), fields(7, 12)[0]
    shifted = target + 3
    assert acc(shifted, target, climatology, WEIGHTS) < 0.6
    torch.testing.assert_close(acc(shifted, target, target - 1, WEIGHTS).item(), 1.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_neither_overflows_nor_is_kept(dtype):
    x, y = 5e4 + fields(2, 7, 12, dtype=dtype), torch.full((3, 2, 7, 12), 4e4, dtype=dtype)
    loss = LatitudeWeightedLoss(WEIGHTS)
    with torch.autocast("cpu", torch.bfloat16):
        found = rmse(x, y, WEIGHTS), acc(x, y, torch.zeros(7, 12)), loss(x, y)
    expected = rmse(x.double(), y.double(), WEIGHTS)
    torch.testing.assert_close(found[0], expected.float())
    torch.testing.assert_close(found[1], torch.ones(3, 2), atol=1e-3, rtol=0)
    torch.testing.assert_close(found[2], expected.square().mean().float())


@pytest.mark.parametrize(("error", "function"), [("mse", torch.square), ("mae", torch.abs)])
def test_loss_by_hand(error, function):
    x, y = fields(2, 7, 12).requires_grad_(), fields(2, 7, 12).flip(0)
    channels = torch.tensor([1.0, 0.1])
    expected = (function(x - y) * WEIGHTS * channels[:, None, None]).mean()
    loss = LatitudeWeightedLoss(WEIGHTS, channels, error)
    torch.testing.assert_close(loss(x, y), expected)
    gradients = [torch.autograd.grad(it, x)[0] for it in (loss(x, y), expected)]
    torch.testing.assert_close(*gradients)
    assert loss.state_dict() == {}


def test_loss_on_faces():
    x, y = fields(2, 6, 5, 5), fields(2, 6, 5, 5).flip(0)
    weights, channels = cubed_sphere_weights(5), torch.tensor([2.0, 3.0])
    parts = ((x - y).square() * weights).mean((0, 2, 3, 4))
    found = LatitudeWeightedLoss(weights, channels)(x, y)
    torch.testing.assert_close(found, (parts * channels).mean())


def test_loss_is_of_the_type_of_the_fields():
    loss = LatitudeWeightedLoss(WEIGHTS.double())
    assert loss(fields(2, 7, 12), fields(2, 7, 12)).dtype == torch.float32
    assert loss(fields(2, 7, 12).double(), fields(2, 7, 12)).dtype == torch.float64


def masked():
    """Return fields in double precision, a climatology, and targets that are unknown over land."""
    prediction, target = fields(2, 7, 12).double(), fields(2, 7, 12).roll(1, 0).double()
    land = torch.rand(7, 12, generator=torch.Generator().manual_seed(0)) < 0.4
    return prediction, target.masked_fill(land, torch.nan), fields(7, 12)[0].double(), land


def by_numpy(prediction, target, climatology, weights, land):
    """Compute scores of what is known alone: RMSE, ACC, and the mean squared error."""
    known, weights = ~land.numpy(), weights.expand(7, 12).numpy()[~land.numpy()]
    rows = []
    for index in np.ndindex(3, 2):
        x, y = (it[index].numpy()[known] for it in (prediction, target))
        mean = np.average((x - y) ** 2, weights=weights)
        anomalies = [it - climatology.numpy()[known] for it in (x, y)]
        rows.append((mean**0.5, 1 - cosine(*anomalies, weights), mean))
    return torch.tensor(rows, dtype=torch.float64).T.unflatten(-1, (3, 2))


@pytest.mark.parametrize("by", ["weights", "skipna"])
def test_what_is_unknown_is_left_out(by):
    prediction, target, climatology, land = masked()
    areas = latitude_weights(torch.linspace(90, -90, 7, dtype=torch.float64))
    weights = areas.expand(7, 12).masked_fill(land, 0) if by == "weights" else areas
    skipna = by == "skipna"
    prediction.requires_grad_()
    found = (
        rmse(prediction, target, weights, skipna=skipna),
        acc(prediction, target, climatology, weights, skipna=skipna),
        LatitudeWeightedLoss(weights, skipna=skipna)(prediction, target),
    )
    expected = by_numpy(prediction.detach(), target, climatology, areas, land)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-12, atol=0)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-10, atol=1e-12)
    share = 1 if skipna else weights.sum() / areas.expand(7, 12).sum()
    torch.testing.assert_close(found[2], share * expected[2].mean(), rtol=1e-12, atol=0)
    for score in found:
        (gradient,) = torch.autograd.grad(score.sum(), prediction)
        assert gradient.isfinite().all()
        assert not gradient[..., land].any()
        assert gradient[..., ~land].all()


def test_without_weights_what_is_unknown_counts_nothing():
    prediction, target, climatology, land = masked()
    expected = by_numpy(prediction, target, climatology, torch.ones(7, 12), land)
    torch.testing.assert_close(rmse(prediction, target, skipna=True), expected[0])
    torch.testing.assert_close(acc(prediction, target, climatology, skipna=True), expected[1])
    unknown = climatology.masked_fill(land, torch.nan)
    target = target.nan_to_num()
    torch.testing.assert_close(acc(prediction, target, unknown, skipna=True), expected[1])


@pytest.mark.parametrize("error", ["mse", "mae"])
def test_a_constant_error_is_the_loss_wherever_it_is_known(error):
    _, target, _, _ = masked()
    loss = LatitudeWeightedLoss(WEIGHTS.double(), torch.tensor([1.0, 3.0]), error, skipna=True)
    torch.testing.assert_close(loss(target.nan_to_num() - 1, target).item(), 2.0)


def test_what_is_not_a_number_otherwise_shows():
    prediction, target, climatology, land = masked()
    known = target.nan_to_num()
    wrong = known.masked_fill(land, torch.nan)
    for skipna in (False, True):
        loss = LatitudeWeightedLoss(WEIGHTS.double(), skipna=skipna)
        assert rmse(wrong, known, WEIGHTS, skipna=skipna).isnan().all()
        assert acc(wrong, known, climatology, WEIGHTS, skipna=skipna).isnan().all()
        assert loss(wrong, known).isnan()
        nothing = torch.full_like(target, torch.nan)
        assert rmse(prediction, nothing, skipna=skipna).isnan().all()
        assert loss(prediction, nothing).isnan()
    assert rmse(prediction, target).isnan().all()
    assert LatitudeWeightedLoss(WEIGHTS)(prediction, target).isnan()


def test_weights_of_the_loss_stay_in_single_precision():
    x, y = fields(2, 7, 12), fields(2, 7, 12).roll(1, 0)
    loss = LatitudeWeightedLoss(WEIGHTS)
    assert torch.equal(loss.half()(x, y), LatitudeWeightedLoss(WEIGHTS)(x, y))
    assert loss.double().weights.dtype == torch.float64


def test_loss_compiles():
    x, y = fields(2, 7, 12), fields(2, 7, 12).flip(0)
    loss = LatitudeWeightedLoss(WEIGHTS)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, y), loss(x, y))


def test_shapes_that_do_not_fit():
    x = fields(2, 7, 12)
    loss = LatitudeWeightedLoss(WEIGHTS, torch.ones(3))
    for score in (lambda x, y: rmse(x, y), lambda x, y: acc(x, y, x[0]), loss):
        with pytest.raises(ValueError, match=r"equal shape, got \(3, 2, 7, 12\) and \(2, 7, 12\)"):
            score(x, x[0])
    with pytest.raises(ValueError, match=r"fields, \(3, 2, 7, 12\), got \(3, 7, 1\)"):
        loss(x, x)
    with pytest.raises(ValueError, match=r"got \(8, 1\)"):
        rmse(x, x, torch.ones(8, 1))
    with pytest.raises(ValueError, match=r"got \(12, 7\)"):
        acc(x, x, torch.ones(12, 7))
    with pytest.raises(ValueError, match=r"got \(1, 3, 2, 7, 12\)"):
        acc(x, x, x[None])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((WEIGHTS, None, "rmse"), r"one of \('mse', 'mae'\), got 'rmse'"),
        ((torch.linspace(90, -90, 7),), r"got the shape \(7,\).*latitude_weights"),
        ((-WEIGHTS,), "none negative"),
        ((WEIGHTS, torch.ones(2, 1)), r"shape \(channels,\).*got the shape \(2, 1\)"),
        ((WEIGHTS, torch.tensor([1.0, -1.0])), "none negative"),
    ],
)
def test_wrong_options_of_the_loss(arguments, message):
    with pytest.raises(ValueError, match=message):
        LatitudeWeightedLoss(*arguments)
