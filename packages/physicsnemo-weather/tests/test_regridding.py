# SPDX-License-Identifier: Apache-2.0
"""Places of cells are those the models' padding takes them for, and interpolation is accurate."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from astropy_healpix import healpix_to_lonlat
from scipy.interpolate import RegularGridInterpolator

from physicsnemo.models.dlwp._cubed_sphere import around_cube
from physicsnemo.models.dlwp_healpix_layers import HEALPixPadding
from physicsnemo.utils.weather import (
    FacesRegridder,
    LatLonRegridder,
    cubed_sphere_points,
    healpix_points,
)

GRIDS = {
    "poles": lambda n: (np.linspace(90, -90, n + 1), np.arange(2 * n) * 180 / n),
    "no poles": lambda n: (np.arange(n) * 180 / n + 90 / n - 90, np.arange(2 * n) * 180 / n - 180),
    "one pole": lambda n: (90 - np.arange(n) * 180 / n, np.arange(2 * n)[::-1] * 180 / n + 7.1),
    "odd": lambda n: (np.linspace(-90, 90, n), np.arange(2 * n + 1) * 360 / (2 * n + 1) + 359),
    "gaussian": lambda n: (
        np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(n)[0])),
        np.arange(2 * n) * 180 / n,
    ),
}
POINTS = {"cubed sphere": cubed_sphere_points, "HEALPix": healpix_points}

each_grid = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
each_points = pytest.mark.parametrize("points", POINTS.values(), ids=POINTS.keys())


def vectors(latitudes, longitudes):
    """Return the three coordinates of places on the unit sphere, along the first axis."""
    latitudes, longitudes = torch.as_tensor(latitudes), torch.as_tensor(longitudes)
    latitudes, longitudes = torch.broadcast_tensors(latitudes.deg2rad(), longitudes.deg2rad())
    radius = latitudes.cos()
    return torch.stack((radius * longitudes.cos(), radius * longitudes.sin(), latitudes.sin()))


def smooth(latitudes, longitudes):
    x, y, z = vectors(latitudes, longitudes)
    return x * y + z**3 + torch.sin(2 * x + 1)


def apart(xyz, axis):
    """Return the distances between neighbours along an axis of points (3, faces, rows, columns)."""
    return xyz.diff(dim=axis).norm(dim=0)


def assert_second_order(error):
    coarse, fine = error(16), error(32)
    assert fine < 0.006
    assert coarse / fine > 3.4


def test_cubed_sphere_goes_on_as_the_model_pads_it():
    size = 6
    xyz = vectors(*cubed_sphere_points(size))
    stored = torch.cat((xyz[:, :5], xyz[:, 5:].flip(-1)), dim=1)  # as the model turns face 5
    padded = stored.flatten(1)[:, around_cube(size, 1)[:, 0]].reshape(3, 6, size + 2, size + 2)
    padded = torch.cat((padded[:, :5], padded[:, 5:].flip(-1)), dim=1)
    angle = torch.pi / 2 / size
    for axis, steps in ((2, padded[..., 1:-1]), (3, padded[:, :, 1:-1])):
        assert apart(steps, axis).max() < 1.1 * angle
        assert apart(steps, axis).min() > 0.7 * angle


@pytest.mark.parametrize("size", [4, 8])
def test_healpix_goes_on_as_the_models_pad_it(size):
    xyz = vectors(*healpix_points(size))
    padded = HEALPixPadding(1)(xyz.movedim(0, 1)).movedim(1, 0)
    spacing = (torch.pi / 3) ** 0.5 / size
    for axis, steps in ((2, padded[..., 1:-1]), (3, padded[:, :, 1:-1])):
        assert apart(steps, axis).max() < 1.5 * spacing
        assert apart(steps, axis).min() > 0.6 * spacing


def test_faces_of_the_cubed_sphere():
    size = 5
    latitudes, longitudes = cubed_sphere_points(size)
    middle = size // 2
    around = torch.arange(-2, 3, dtype=torch.float64) * 90 / size
    for face in range(4):
        expected = (90 * face + around) % 360
        torch.testing.assert_close(longitudes[face], expected.expand(size, size))
        torch.testing.assert_close(latitudes[face, :, middle], around)
    torch.testing.assert_close(latitudes[4, :, middle], around.abs() - 90)
    torch.testing.assert_close(latitudes[5, :, middle], 90 - around.abs())
    assert longitudes[4, -1, middle] == longitudes[5, 0, middle] == 0  # towards face 0
    assert (longitudes[4:, middle, -1] == 90).all()  # towards face 1


@pytest.mark.parametrize("size", [1, 2, 8])
def test_places_of_healpix_cells(size):
    latitudes, longitudes = healpix_points(size)
    for face in range(12):
        for row in range(size):
            for column in range(size):
                # From the southern corner, rows count to the north-east, columns to the north-west.
                north_east, north_west = size - 1 - row, size - 1 - column
                bits = sum(
                    (north_east >> bit & 1) << 2 * bit | (north_west >> bit & 1) << 2 * bit + 1
                    for bit in range(size.bit_length())
                )
                expected = healpix_to_lonlat(face * size**2 + bits, size, order="nested")
                found = longitudes[face, row, column], latitudes[face, row, column]
                np.testing.assert_allclose(found, [it.deg for it in expected], atol=1e-10)


@each_points
@each_grid
def test_from_a_grid_at_second_order(grid, points):
    def error(n):
        latitudes, longitudes = grid(2 * n)
        regrid = LatLonRegridder(latitudes, longitudes, *points(n))
        values = regrid(smooth(latitudes[:, None], longitudes))
        return (values - smooth(*points(n))).abs().max()

    assert_second_order(error)


@each_points
@each_grid
def test_to_a_grid_at_second_order(grid, points):
    def error(n):
        latitudes, longitudes = grid(2 * n)
        regrid = FacesRegridder(*points(n), latitudes[:, None], longitudes)
        values = regrid(smooth(*points(n)))
        return (values - smooth(latitudes[:, None], longitudes)).abs().max()

    assert_second_order(error)


@each_points
def test_there_and_back_at_second_order(points):
    def error(n):
        latitudes, longitudes = GRIDS["poles"](2 * n)
        there = LatLonRegridder(latitudes, longitudes, *points(n))
        back = FacesRegridder(*points(n), latitudes[:, None], longitudes)
        values = smooth(latitudes[:, None], longitudes)
        return (back(there(values)) - values).abs().max()

    assert_second_order(error)


@each_grid
def test_equals_another_library_away_from_the_poles(grid):
    latitudes, longitudes = grid(12)
    rows, columns = latitudes.argsort(), longitudes.argsort()
    rng = np.random.default_rng(0)
    values = rng.standard_normal((len(latitudes), len(longitudes)))
    around = np.concatenate([longitudes[columns] + turn for turn in (-720, -360, 0, 360)])
    library = RegularGridInterpolator(
        (latitudes[rows], around), np.tile(values[np.ix_(rows, columns)], 4)
    )
    places = rng.uniform(latitudes.min(), latitudes.max(), 500), rng.uniform(-180, 360, 500)
    found = LatLonRegridder(latitudes, longitudes, *places)(torch.from_numpy(values))
    np.testing.assert_allclose(found, library(np.stack(places, axis=-1)), atol=1e-6)


def test_across_a_pole():
    latitudes, longitudes = GRIDS["no poles"](4)  # rows at 22.5 and 67.5 degrees
    values = torch.arange(4.0)[:, None] * 100 + torch.arange(8.0)
    regrid = LatLonRegridder(latitudes, longitudes, [90, 78.75, -90], [-180, -135, 0])
    torch.testing.assert_close(regrid(values), torch.tensor([302.0, 302.0, 2.0]))


@each_points
def test_triangles_contain_their_places(points):
    size = 8
    latitudes, longitudes = GRIDS["poles"](24)
    regrid = FacesRegridder(*points(size), latitudes[:, None], longitudes).double()
    found, expected = regrid(vectors(*points(size))), vectors(latitudes[:, None], longitudes)
    length = found.norm(dim=0)
    torch.testing.assert_close(found / length, expected, atol=1e-7, rtol=0)
    assert length.min() > np.cos(1.2 * np.pi / 2 / size)  # corners are no further than a cell
    assert (regrid.weights >= 0).all()
    assert (regrid.weights.sum(dim=0) <= 1).all()


@each_points
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_constants_and_values_at_cells_are_kept(points, dtype):
    places, (latitudes, longitudes) = points(4), GRIDS["poles"](8)
    grid = latitudes[:, None], longitudes
    there, back = LatLonRegridder(latitudes, longitudes, *places), FacesRegridder(*places, *grid)
    for regrid in (there, back):
        constant = torch.full(regrid.source_shape, 0.1, dtype=dtype)
        assert torch.equal(regrid(constant), constant.flatten()[0].expand(regrid.target_shape))
    x = torch.randn(2, *there.source_shape).to(dtype)
    same = LatLonRegridder(latitudes, longitudes, *grid)
    assert torch.equal(same(x), x)
    x = torch.randn(2, *back.source_shape).to(dtype)
    assert torch.equal(FacesRegridder(*places, *places)(x), x)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_goes_no_further_than_its_weight(value):
    latitudes, longitudes = GRIDS["poles"](18)
    x = torch.randn(2, 19, 36, generator=torch.Generator().manual_seed(0))
    x[:, 4:8, 10:15] = value
    x[:, 0, 3] = x[:, -1, 4] = value
    for step in (1, 2):
        # Some meridians are full turns off, with round-off.
        turned = longitudes[::step] - 360 * (np.arange(36 // step) % 3)
        regrid = LatLonRegridder(latitudes, longitudes, latitudes[::step, None], turned)
        torch.testing.assert_close(regrid(x), x[:, ::step, ::step], rtol=0, atol=0, equal_nan=True)
    places = cubed_sphere_points(6)
    faces = torch.randn(2, 6, 6, 6)
    faces[:, 0, 2, 2] = faces[:, 3, 0, 0] = value
    regrid = FacesRegridder(*places, *places)
    torch.testing.assert_close(regrid(faces), faces, rtol=0, atol=0, equal_nan=True)
    # Half way along a meridian, beside cells of weight 0; and half way into the land.
    beside = LatLonRegridder(latitudes, longitudes, 55.0, [90.0, 100.0])(x)
    assert torch.equal(beside[:, 0], (x[:, 3, 9] + x[:, 4, 9]) / 2)
    torch.testing.assert_close(
        beside[:, 1], torch.full((2,), value), rtol=0, atol=0, equal_nan=True
    )
    inside = LatLonRegridder(latitudes, longitudes, [47.0, 43.0], 105.0)(x)
    torch.testing.assert_close(inside, torch.full((2, 2), value), rtol=0, atol=0, equal_nan=True)


def test_gradients_beside_what_is_not_a_number():
    latitudes, longitudes = GRIDS["poles"](4)
    x = torch.randn(5, 8, dtype=torch.float64)
    x[1, 2] = torch.nan
    x.requires_grad_()
    same = LatLonRegridder(latitudes, longitudes, latitudes[:, None], longitudes)(x)
    (gradient,) = torch.autograd.grad(same.nansum(), x)
    torch.testing.assert_close(gradient, (~x.isnan()).double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_places_may_be_parts_of_a_graph(dtype):
    latitudes, longitudes = (torch.tensor(axis, dtype=dtype) for axis in GRIDS["poles"](4))
    axes = latitudes.requires_grad_(), longitudes.requires_grad_()
    regrid = LatLonRegridder(*axes, latitudes[:, None], longitudes)
    x = torch.randn(5, 8)
    assert torch.equal(regrid(x), x)
    places = [place.to(dtype).requires_grad_() for place in cubed_sphere_points(2)]
    x = torch.randn(6, 2, 2)
    assert torch.equal(FacesRegridder(*places, *places)(x), x)


def test_places_without_values():
    latitudes, longitudes = torch.empty(5, device="meta"), torch.arange(8.0) * 45
    with pytest.raises(ValueError, match="places with values, got a tensor on the meta device"):
        LatLonRegridder(latitudes, longitudes, 0, 0)


def test_faces_of_one_kind_to_another():
    regrid = FacesRegridder(*healpix_points(16), *cubed_sphere_points(16))
    found = regrid(smooth(*healpix_points(16)))
    torch.testing.assert_close(found, smooth(*cubed_sphere_points(16)), atol=0.01, rtol=0)


def test_places_may_be_numbers():
    latitudes, longitudes = GRIDS["poles"](8)
    assert LatLonRegridder(latitudes, longitudes, 40.0, 7)(torch.ones(3, 9, 16)).shape == (3,)
    assert FacesRegridder(*healpix_points(2), 40.0, 7)(torch.ones(3, 12, 2, 2)).shape == (3,)


@pytest.fixture(params=["to faces", "back"])
def regrid(request):
    latitudes, longitudes = GRIDS["poles"](4)
    if request.param == "to faces":
        return LatLonRegridder(latitudes, longitudes, *cubed_sphere_points(3))
    return FacesRegridder(*cubed_sphere_points(3), latitudes[:, None], longitudes)


def test_gradients(regrid):
    x = torch.randn(1, *regrid.source_shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(regrid, x)


def test_compiles_and_runs_under_autocast(regrid):
    x = torch.randn(2, *regrid.source_shape)
    expected = regrid(x)
    compiled = torch.compile(regrid, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(regrid(x), expected)
        assert torch.equal(compiled(x), expected)
        half = compiled(x.bfloat16())
    assert torch.equal(half, regrid(x.bfloat16().float()).bfloat16())


def test_double_precision_is_kept(regrid):
    x = torch.randn(2, *regrid.source_shape, dtype=torch.float64)
    expected = regrid(x)
    for _ in range(2):
        assert torch.equal(regrid.double()(x), expected)
        torch.testing.assert_close(regrid(x.float()), expected.float())
        torch.testing.assert_close(regrid.half()(x.float()), expected.float())
        assert regrid.weights.dtype == torch.float32
        assert torch.equal(regrid(x), expected)


def test_double_precision_by_hand():
    latitudes, longitudes = GRIDS["poles"](8)
    x = torch.randn(9, 16, dtype=torch.float64)
    wrapped = np.concatenate([x.numpy()] * 2, axis=1)
    interpolate = RegularGridInterpolator(
        (latitudes[::-1], np.concatenate([longitudes, longitudes + 360])), wrapped[::-1]
    )
    places = np.array([[13.7, 271.3], [-51.1, 350.9], [0.1, 0.2]])
    regrid = LatLonRegridder(latitudes, longitudes, *places.T)
    np.testing.assert_allclose(regrid.double()(x), interpolate(places), rtol=0, atol=1e-14)
    np.testing.assert_allclose(regrid.float()(x), interpolate(places), rtol=0, atol=1e-14)
    found = regrid.half()(x.float())
    np.testing.assert_allclose(found, interpolate(places), rtol=0, atol=1e-6)


def test_from_the_meta_device(regrid):
    x = torch.randn(2, *regrid.source_shape)
    expected = regrid(x)
    back = regrid.to("meta").to_empty(device="cpu")
    assert torch.equal(back(x), expected)
    assert torch.equal(copy.deepcopy(back)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(back))(x), expected)


def test_modules_hold_no_state(regrid):
    assert regrid.state_dict() == {}
    assert regrid.to("meta").cells.is_meta
    assert f"{regrid.source_shape} -> {regrid.target_shape}" in repr(regrid)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([90, 0, -90], [0, 120, 240, 360], 0, 0), "leave out the meridian"),
        (([90, 0, 0, -90], [0, 120, 240], 0, 0), "got some twice"),
        (([30, 40, 50], [0, 120, 240], 0, 0), "around the whole globe.*from 30.0 to 50.0"),
        (([90, 0, -90], [0, 10, 20], 0, 0), "gap of 340.0 degrees"),
        (([[90, 0, -90]], [0, 120, 240], 0, 0), r"got the shape \(1, 3\)"),
        (([90], [0, 120, 240], 0, 0), r"got the shape \(1,\)"),
        (([91, 0, -90], [0, 120, 240], 0, 0), "from -90.0 to 91.0"),
        (([90, 0, -90], [0, 120, 240], 100, 0), "from 100.0 to 100.0"),
        (([90, 0, -90], [0, 120, 240], float("nan"), 0), "latitudes from -90 to 90"),
        (([90, 0, -90], [0, 120, 240], 0, float("inf")), "finite longitudes"),
        (([90, 0, -90], [0, 120, 240], [1, 2], [1, 2, 3]), r"pass latitudes\[:, None\]"),
    ],
)
def test_wrong_grids(arguments, message):
    with pytest.raises(ValueError, match=message):
        LatLonRegridder(*arguments)


@pytest.mark.parametrize(
    ("latitudes", "longitudes", "message"),
    [
        ([0, 0, 0, 0, 0], [0, 72, 144, 216, 288], "got 5 that span no volume"),
        ([90, 0], [0, 0], "got 2 that span no volume"),
        ([90, 10, 10, 10], [0, 0, 120, 240], "on one half of it only"),
    ],
)
def test_points_that_do_not_surround_the_globe(latitudes, longitudes, message):
    with pytest.raises(ValueError, match=message):
        FacesRegridder(latitudes, longitudes, 0, 0)


def test_wrong_fields():
    regrid = LatLonRegridder([90, 0, -90], [0, 120, 240, 300], 0, 0)
    with pytest.raises(ValueError, match=r"shape \(..., 3, 4\).*got \(2, 4, 3\)"):
        regrid(torch.zeros(2, 4, 3))
    with pytest.raises(TypeError, match=r"floating-point numbers, got torch.int64"):
        regrid(torch.zeros(3, 4, dtype=torch.int64))
    with pytest.raises(TypeError, match="in a tensor, got a ndarray"):
        regrid(np.zeros((3, 4)))
    with pytest.raises(
        ValueError, match=r"on meta and the regridder on cpu.*regridder.to\('meta'\)"
    ):
        regrid(torch.zeros(3, 4, device="meta"))


@pytest.mark.parametrize("points", [cubed_sphere_points, healpix_points])
def test_wrong_sizes(points):
    with pytest.raises(ValueError, match="at least 1, got 0"):
        points(0)
    with pytest.raises(TypeError, match="float"):
        points(2.0)


def test_healpix_needs_a_power_of_2():
    with pytest.raises(ValueError, match="power of 2.*got 6"):
        healpix_points(6)


def test_missing_healpix(monkeypatch):
    monkeypatch.setitem(sys.modules, "healpix", None)
    with pytest.raises(ImportError, match=r"pip install 'physicsnemo-weather\[regrid\]'"):
        healpix_points(2)


def test_import_is_light():
    code = "import sys, physicsnemo.utils.weather; print({'scipy', 'healpix'} & {*sys.modules})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"
