# SPDX-License-Identifier: Apache-2.0
"""The spherical harmonic transforms against closed forms and against torch-harmonics."""

import math
import pickle

import pytest
import torch
import torch_harmonics
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from physicsnemo.models.sfno import InverseRealSHT, RealSHT, SphericalGrid

GRIDS = [
    SphericalGrid(nlat, nlon, grid_type)
    for grid_type in ("equiangular", "legendre-gauss", "lobatto")
    for nlat, nlon in ((17, 32), (16, 31), (9, 40))
]
each_grid = pytest.mark.parametrize("grid", GRIDS, ids=str)

# Orthonormal harmonics by degree and order: what belongs to exp(i m longitude), of the cosine x of
# the colatitude.
HARMONICS = {
    (0, 0): lambda x: math.sqrt(1 / (4 * math.pi)) * torch.ones_like(x),
    (1, 0): lambda x: math.sqrt(3 / (4 * math.pi)) * x,
    (1, 1): lambda x: -math.sqrt(3 / (8 * math.pi)) * (1 - x**2).sqrt(),
    (2, 1): lambda x: -math.sqrt(15 / (8 * math.pi)) * x * (1 - x**2).sqrt(),
    (3, 2): lambda x: math.sqrt(105 / (32 * math.pi)) * x * (1 - x**2),
}


def modes(grid):
    return min(grid.degrees, grid.orders)


def pair(grid, lmax, mmax):
    """Return both transforms in float64."""
    return (
        RealSHT(grid, lmax, mmax).double(),
        InverseRealSHT(grid, lmax, mmax).double(),
    )


def random_spectrum(*shape):
    """Return the coefficients of real fields."""
    spectrum = torch.randn(*shape, 2, dtype=torch.float64)
    spectrum[..., 0, 1] = 0
    above = torch.ones(shape[-2:]).triu(diagonal=1).bool()
    return spectrum.masked_fill(above[..., None], 0)


def harmonic(grid, degree, order):
    """Return the real and the imaginary part of a harmonic on a grid, by its formula."""
    x = grid.nodes()[:, None]
    angle = order * 2 * math.pi * torch.arange(grid.nlon, dtype=torch.float64) / grid.nlon
    part = HARMONICS[degree, order](x)
    return torch.stack((part * angle.cos(), part * angle.sin()))


@each_grid
def test_agrees_with_torch_harmonics(grid):
    n = modes(grid)
    analysis, synthesis = pair(grid, n, n)
    size = {"lmax": n, "mmax": n, "grid": grid.grid_type}
    x = torch.randn(2, 3, grid.nlat, grid.nlon, dtype=torch.float64)
    spectrum = torch_harmonics.RealSHT(grid.nlat, grid.nlon, **size)(x)
    field = torch_harmonics.InverseRealSHT(grid.nlat, grid.nlon, **size)(spectrum)
    parts = torch.view_as_real(spectrum)
    torch.testing.assert_close(analysis(x), parts, rtol=0, atol=1e-13)
    torch.testing.assert_close(synthesis(parts), field, rtol=0, atol=1e-12)


@each_grid
def test_agrees_with_torch_harmonics_where_degrees_and_orders_differ(grid):
    size = {"lmax": modes(grid), "mmax": 3, "grid": grid.grid_type}
    x = torch.randn(grid.nlat, grid.nlon, dtype=torch.float64)
    expected = torch.view_as_real(torch_harmonics.RealSHT(grid.nlat, grid.nlon, **size)(x))
    analysis, _ = pair(grid, modes(grid), 3)
    torch.testing.assert_close(analysis(x), expected, rtol=0, atol=1e-13)


@each_grid
@pytest.mark.parametrize(("degree", "order"), HARMONICS)
def test_harmonics_are_those_of_the_formulas(grid, degree, order):
    analysis, synthesis = pair(grid, 5, 5)
    real, imaginary = harmonic(grid, degree, order)
    spectrum = torch.zeros(5, 5, 2, dtype=torch.float64)
    spectrum[degree, order, 0] = 1
    # The field is the sum of the harmonic and its conjugate, which are one for order 0.
    field = real if order == 0 else 2 * real
    torch.testing.assert_close(synthesis(spectrum), field)
    torch.testing.assert_close(analysis(field), spectrum, rtol=0, atol=1e-14)
    if order:
        shifted = spectrum.roll(1, dims=-1)
        torch.testing.assert_close(synthesis(shifted), -2 * imaginary)
        torch.testing.assert_close(analysis(-2 * imaginary), shifted, rtol=0, atol=1e-14)


@each_grid
def test_round_trip_is_exact_for_as_many_degrees_as_the_grid_says(grid):
    n = modes(grid)
    analysis, synthesis = pair(grid, n, n)
    spectrum = random_spectrum(2, n, n)
    torch.testing.assert_close(analysis(synthesis(spectrum)), spectrum, rtol=0, atol=1e-13)


@pytest.mark.parametrize("nlat", [8, 9])
def test_equiangular_quadrature_is_exact_for_no_more_degrees_than_the_grid_says(nlat):
    grid = SphericalGrid(nlat, 32)
    analysis, synthesis = pair(grid, grid.degrees + 1, 1)
    spectrum = torch.zeros(grid.degrees + 1, 1, 2, dtype=torch.float64)
    spectrum[-1, 0, 0] = 1
    assert (analysis(synthesis(spectrum)) - spectrum).abs().max() > 1e-3


@each_grid
def test_energy_is_that_of_the_coefficients(grid):
    n = modes(grid)
    spectrum = random_spectrum(n, n)
    field = pair(grid, n, n)[1](spectrum)
    area = grid.weights()[:, None] * (2 * math.pi / grid.nlon)
    twice = torch.full((n, 1), 2.0, dtype=torch.float64)
    twice[0] = 1
    torch.testing.assert_close((area * field**2).sum(), (twice * spectrum**2).sum())


@each_grid
def test_weights_add_up_and_nodes_go_south(grid):
    torch.testing.assert_close(grid.weights().sum().item(), 2.0)
    assert (grid.nodes().diff() < 0).all()
    assert grid.nodes().dtype == grid.weights().dtype == torch.float64


def test_grids_of_fake_tensors_leave_no_trace():
    grid = SphericalGrid(23, 44)
    for _ in range(2):
        with FakeTensorMode():
            assert isinstance(RealSHT(grid, 12, 12)(torch.ones(23, 44)), FakeTensor)
        constant = pair(grid, 12, 12)[0](torch.ones(23, 44, dtype=torch.float64))[0, 0]
        expected = torch.tensor([math.sqrt(4 * math.pi), 0], dtype=torch.float64)
        torch.testing.assert_close(constant, expected)


def test_latitudes_are_on_the_cpu_whatever_the_default_device():
    with torch.device("meta"):
        assert SphericalGrid(3, 4).latitudes().tolist() == [90, 0, -90]


@pytest.mark.parametrize("nlat", [9, 12])
@pytest.mark.parametrize("kind", ["equiangular", "legendre-gauss", "lobatto"])
def test_degrees_are_those_of_the_nodes(kind, nlat):
    grid = SphericalGrid(nlat, 5, kind)
    latitudes = grid.latitudes()
    assert latitudes.dtype == torch.float64
    torch.testing.assert_close(latitudes.deg2rad().sin(), grid.nodes(), rtol=0, atol=1e-13)
    assert (latitudes.diff() < 0).all()
    assert (latitudes[0] == 90) == (kind != "legendre-gauss")
    assert grid.longitudes().tolist() == [0, 72, 144, 216, 288]


def test_degrees_of_gaussian_rows():
    zeros = [0.0, math.sqrt(3 / 5)]  # of the third Legendre polynomial
    expected = torch.tensor([math.degrees(math.asin(it)) for it in (zeros[1], 0.0, -zeros[1])])
    found = SphericalGrid(3, 4, "legendre-gauss").latitudes()
    torch.testing.assert_close(found, expected.double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(181, 360), (90, 180)])
def test_single_precision_suffices(shape):
    grid = SphericalGrid(*shape)
    x = torch.randn(shape, dtype=torch.float64)
    analysis, synthesis = (
        kind(grid, modes(grid), modes(grid)) for kind in (RealSHT, InverseRealSHT)
    )
    spectrum, field = analysis(x.float()), synthesis(analysis(x.float()))
    assert spectrum.dtype == field.dtype == torch.float32
    exact = analysis.double()(x)
    assert (spectrum - exact).norm() < 1e-6 * exact.norm()
    exact = synthesis.double()(exact)
    assert (field - exact).norm() < 1e-6 * exact.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast_compute_in_single_precision(dtype):
    grid = SphericalGrid(17, 32)
    analysis, synthesis = RealSHT(grid, 9, 9), InverseRealSHT(grid, 9, 9)
    x = torch.randn(2, 17, 32).to(dtype)
    expected = analysis(x.float()), synthesis(analysis(x.float()))
    with torch.autocast("cpu", dtype):
        spectrum = analysis(x)
        torch.testing.assert_close((spectrum, synthesis(spectrum)), expected, rtol=0, atol=0)
    analysis, synthesis = analysis.to(dtype), synthesis.to(dtype)
    torch.testing.assert_close((analysis(x), synthesis(analysis(x))), expected, rtol=0, atol=0)


def test_a_program_in_float64_is_exact_to_float64():
    torch.set_default_dtype(torch.float64)
    try:
        grid = SphericalGrid(16, 31, "legendre-gauss")
        analysis, synthesis = RealSHT(grid, 12, 12), InverseRealSHT(grid, 12, 12)
        spectrum = torch.randn(12, 12, 2)
        spectrum[:, 0, 1] = 0
        spectrum *= (torch.arange(12)[:, None] >= torch.arange(12))[..., None]
        assert (analysis(synthesis(spectrum)) - spectrum).abs().max() < 1e-13
    finally:
        torch.set_default_dtype(torch.float32)


def test_float64_is_not_computed_with_tables_of_float32():
    grid = SphericalGrid(9, 16)
    x = torch.zeros(9, 16, dtype=torch.float64)
    with pytest.raises(TypeError, match=r"float32 or less.*got torch.float64; convert the module"):
        RealSHT(grid, 4, 4)(x)
    with pytest.raises(TypeError, match=r"float32 or less"):
        InverseRealSHT(grid, 4, 4)(RealSHT(grid, 4, 4).double()(x))


def test_tables_are_not_saved_and_come_back_from_the_meta_device():
    analysis = RealSHT(SphericalGrid(17, 32), 9, 9)
    assert analysis.state_dict() == {}
    x = torch.randn(17, 32)
    expected = analysis(x)
    with torch.device("meta"):
        other = RealSHT(SphericalGrid(17, 32), 9, 9)
    assert other.legendre.value.is_meta
    assert torch.equal(other.to_empty(device="cpu")(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(analysis))(x), expected)


def test_gradients():
    grid = SphericalGrid(5, 8, "legendre-gauss")
    analysis, synthesis = pair(grid, 4, 3)
    x = torch.randn(1, 5, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: synthesis(analysis(x)), x)


@pytest.mark.parametrize(
    ("grid", "lmax", "mmax", "message"),
    [
        (SphericalGrid(9, 16), 10, 4, "lmax from 1 to 9 on the equiangular grid of 9 × 16"),
        (SphericalGrid(9, 16, "legendre-gauss"), 10, 4, "lmax from 1 to 9"),
        (SphericalGrid(9, 16, "lobatto"), 9, 4, "lmax from 1 to 8 on the lobatto"),
        (SphericalGrid(9, 16), 9, 9, "mmax from 1 to 8 .*got 9"),
        (SphericalGrid(9, 17), 9, 10, "mmax from 1 to 9"),
        (SphericalGrid(9, 16), 3, 4, "mmax from 1 to 3"),
        (SphericalGrid(9, 16), 0, 1, "lmax from 1 to 9 .*got 0"),
        (SphericalGrid(9, 16), 2, 0, "mmax from 1 to 2"),
    ],
)
@pytest.mark.parametrize("kind", [RealSHT, InverseRealSHT])
def test_unresolved_modes(kind, grid, lmax, mmax, message):
    with pytest.raises(ValueError, match=message):
        kind(grid, lmax, mmax)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((9, 16, "healpix"), "equiangular, legendre-gauss, lobatto, got 'healpix'"),
        ((1, 16), "at least 2 latitudes and 1 longitude, got 1 × 16"),
        ((9, 0), "at least 2 latitudes"),
    ],
)
def test_bad_grids(arguments, message):
    with pytest.raises(ValueError, match=message):
        SphericalGrid(*arguments)
