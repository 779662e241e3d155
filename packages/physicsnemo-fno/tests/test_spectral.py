# SPDX-License-Identifier: Apache-2.0
"""The spectral convolution against Fourier sums written out, and against exact solutions."""

import itertools
import math
from copy import deepcopy

import pytest
import torch

from physicsnemo.models.fno import SpectralConv

# Which corner each weight acts on, as files of nvidia-physicsnemo have it: signs of the
# frequencies along all axes but the last.
CORNER_OF_WEIGHT = {
    1: [()],
    2: [(1,), (-1,)],
    3: [(1, 1), (-1, 1), (1, -1), (-1, -1)],
    4: [
        (1, 1, 1),
        (-1, 1, 1),
        (1, -1, 1),
        (1, 1, -1),
        (-1, -1, 1),
        (-1, 1, -1),
        (1, -1, -1),
        (-1, -1, -1),
    ],
}

GRIDS = [
    pytest.param((8,), [3], id="1d-even"),
    pytest.param((7,), [4], id="1d-odd-all-modes"),
    pytest.param((8,), [5], id="1d-even-all-modes"),
    pytest.param((1,), [1], id="1d-one-point"),
    pytest.param((6, 8), [2, 3], id="2d"),
    pytest.param((7, 5), [3, 2], id="2d-odd"),
    pytest.param((5, 6), [4, 4], id="2d-overlap"),
    pytest.param((4, 4), [4, 3], id="2d-overlap-complete"),
    pytest.param((4, 5, 6), [2, 1, 3], id="3d"),
    pytest.param((3, 4, 5), [2, 3, 3], id="3d-overlap"),
    pytest.param((4, 3, 4, 5), [2, 1, 2, 2], id="4d"),
    pytest.param((3, 3, 2, 4), [2, 2, 2, 3], id="4d-overlap"),
]


def random_layer(in_channels, out_channels, modes):
    layer = SpectralConv(in_channels, out_channels, modes).double()
    for weight in layer.parameters():
        torch.nn.init.normal_(weight)
    return layer


def waves(n):
    """Return the matrix of exp(2 pi i k j / n) for all pairs of k and j."""
    index = torch.arange(n)
    return torch.exp(2j * math.pi * torch.outer(index, index).double() / n)


def by_fourier_sums(layer, x):
    """Apply the layer by the definition of the Fourier sums, frequency by frequency."""
    spectrum = x.to(torch.complex128)
    for axis, n in enumerate(x.shape[2:], start=2):
        spectrum = torch.tensordot(spectrum, waves(n).conj() / n, ([axis], [0])).movedim(-1, axis)
    matrix_of = {}  # of each retained frequency; where corners overlap, the later one holds
    for number, signs in enumerate(CORNER_OF_WEIGHT[len(layer.modes)], start=1):
        weight = torch.view_as_complex(layer.get_parameter(f"weights{number}").detach())
        for position in itertools.product(*map(range, layer.modes)):
            below = [sign < 0 for sign in (*signs, 1)]
            frequency = tuple(
                n - m + p if b else p
                for n, m, p, b in zip(x.shape[2:], layer.modes, position, below, strict=True)
            )
            matrix_of[frequency] = weight[(..., *position)]
    result = torch.zeros(x.shape[0], layer.out_channels, *x.shape[2:], dtype=torch.float64)
    for frequency, matrix in matrix_of.items():
        amplitude = spectrum[(..., *frequency)] @ matrix
        wave = torch.ones((), dtype=torch.complex128)
        for k, n in zip(frequency, x.shape[2:], strict=True):
            wave = wave[..., None] * waves(n)[k]
        # A wave of a real field comes with its mirror image, but for these two frequencies.
        share = 1 if frequency[-1] in (0, x.shape[-1] / 2) else 2
        product = amplitude[(..., *[None] * len(frequency))] * wave
        result += share * product.real
    return result


@pytest.mark.parametrize(("grid", "modes"), GRIDS)
def test_fourier_sums(grid, modes):
    layer = random_layer(2, 3, modes)
    x = torch.randn(2, 2, *grid, dtype=torch.float64)
    torch.testing.assert_close(layer(x), by_fourier_sums(layer, x))


@pytest.mark.parametrize(("grid", "modes"), GRIDS)
def test_gradients(grid, modes):
    layer = random_layer(1, 2, modes)
    names, weights = zip(*layer.named_parameters(), strict=True)

    def call(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), x)

    x = torch.randn(1, 1, *grid, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(call, (x, *weights), fast_mode=True)


@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
def test_names_shapes_and_start_values(dimension):
    modes = [5, 4, 3, 2][:dimension]
    layer = SpectralConv(3, 4, modes)
    names = [f"weights{number}" for number in range(1, 2 ** (dimension - 1) + 1)]
    assert list(layer.state_dict()) == names
    for weight in layer.parameters():
        assert weight.shape == (3, 4, *modes, 2)
        assert weight.min() >= 0
        assert 0.8 / 12 < weight.max() < 1 / 12
    assert repr(layer) == f"SpectralConv(3, 4, modes={tuple(modes)})"


def test_only_weights_are_kept_with_the_layer():
    """Whatever a transform needs besides them is no part of it."""
    layer, x = SpectralConv(2, 3, [3, 4]), torch.randn(1, 2, 9, 7)
    before, attributes = layer.state_dict(), set(vars(layer))
    expected = layer(x)
    assert list(layer.state_dict()) == list(before) == ["weights1", "weights2"]
    assert set(vars(layer)) == attributes
    assert not list(layer.buffers())
    torch.testing.assert_close(deepcopy(layer)(x), expected, atol=0, rtol=0)


def test_inference_on_a_grid_before_training_on_it():
    layer, x = SpectralConv(2, 3, [3, 4]), torch.randn(1, 2, 11, 13)
    with torch.inference_mode():
        layer(x)
    layer(x).square().sum().backward()
    assert layer.weights1.grad.abs().max() > 0


def test_second_derivatives():
    layer = random_layer(1, 1, [2, 2])
    x = torch.randn(1, 1, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(layer, x, fast_mode=True)


def test_gradients_of_each_sample():
    layer = random_layer(2, 1, [2, 2])
    weights = dict(layer.named_parameters())
    x = torch.randn(3, 2, 4, 5, dtype=torch.float64)

    def loss(weights, sample):
        return torch.func.functional_call(layer, weights, sample[None]).square().sum()

    gradient = torch.func.grad(loss)
    together = torch.func.vmap(gradient, in_dims=(None, 0))(weights, x)
    for index, sample in enumerate(x):
        alone = gradient(weights, sample)
        torch.testing.assert_close({n: g[index] for n, g in together.items()}, alone)


def set_multiplier(layer, multiplier):
    """Make a layer of one channel multiply the mode of frequency k by ``multiplier(*k)``."""
    for number, signs in enumerate(CORNER_OF_WEIGHT[len(layer.modes)], start=1):
        axes = [
            torch.arange(m, dtype=torch.float64) - (m if sign < 0 else 0)
            for m, sign in zip(layer.modes, (*signs, 1), strict=True)
        ]
        values = multiplier(*torch.meshgrid(*axes, indexing="ij")).to(torch.complex128)
        with torch.no_grad():
            layer.get_parameter(f"weights{number}")[0, 0] = torch.view_as_real(values)


def circle(n):
    return 2 * math.pi * torch.arange(n, dtype=torch.float64) / n


@pytest.mark.parametrize("n", [16, 17])
def test_derivative(n):
    layer = SpectralConv(1, 1, [7]).double()
    set_multiplier(layer, lambda k: 1j * k)
    x = circle(n)
    u = 1 + torch.sin(3 * x) + 2 * torch.cos(6 * x)
    slope = 3 * torch.cos(3 * x) - 12 * torch.sin(6 * x)
    torch.testing.assert_close(layer(u[None, None])[0, 0], slope)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_derivative_along_each_axis(axis):
    layer = SpectralConv(1, 1, [3, 3, 3]).double()
    set_multiplier(layer, lambda *k: 1j * k[axis])
    x, y, z = torch.meshgrid(circle(8), circle(7), circle(9), indexing="ij")
    phase = 2 * x - y + 2 * z
    expected = [2, -1, 2][axis] * torch.cos(phase)
    torch.testing.assert_close(layer(torch.sin(phase)[None, None])[0, 0], expected)


def test_heat_equation():
    def heat(time):
        layer = SpectralConv(1, 1, [5, 5]).double()
        set_multiplier(layer, lambda k, m: torch.exp(-time * (k**2 + m**2)))
        return layer

    x, y = torch.meshgrid(circle(12), circle(15), indexing="ij")
    start = 2 + torch.cos(x) * torch.sin(3 * y) + torch.sin(4 * x)
    end = 2 + math.exp(-1) * torch.cos(x) * torch.sin(3 * y) + math.exp(-1.6) * torch.sin(4 * x)
    torch.testing.assert_close(heat(0.1)(start[None, None])[0, 0], end)
    halfway = heat(0.05)(start[None, None])
    torch.testing.assert_close(heat(0.05)(halfway)[0, 0], end)


def test_frequencies_beyond_the_modes_become_zero():
    layer = SpectralConv(1, 1, [3, 3]).double()
    set_multiplier(layer, lambda k, m: torch.ones_like(k))
    x, y = torch.meshgrid(circle(16), circle(16), indexing="ij")
    low, high = torch.cos(2 * x - 2 * y), torch.cos(5 * x) + torch.sin(4 * y - x)
    torch.testing.assert_close(layer((low + high)[None, None])[0, 0], low)


@pytest.mark.parametrize(("grid", "modes"), GRIDS)
def test_translation_of_the_input_translates_the_output(grid, modes):
    layer = random_layer(2, 2, modes)
    x = torch.randn(1, 2, *grid, dtype=torch.float64)
    shifts, axes = tuple(range(1, len(grid) + 1)), tuple(range(2, x.ndim))
    torch.testing.assert_close(
        layer(x.roll(shifts, axes)), layer(x).roll(shifts, axes), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_precision_of_the_input_is_that_of_the_output(dtype):
    layer = SpectralConv(2, 2, [3, 3])
    x = torch.randn(1, 2, 9, 7).to(dtype)
    exact = layer.double()(x.double())
    for other in (layer.to(dtype), layer.to(torch.promote_types(dtype, torch.float32))):
        output = other(x)
        assert output.dtype == dtype
        error = (output.double() - exact).norm() / exact.norm()
        # Once to round the weights, once to round the output.
        assert error < 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_rounds_factors_of_products_only(dtype):
    layer = SpectralConv(2, 2, [3, 3])
    x = 100 + torch.randn(1, 2, 90, 70)
    exact = layer.double()(x.double())
    layer.float()
    with torch.autocast("cpu", dtype):
        output = layer(x)
    # The five products of two axes round both factors and the result, sums are not rounded.
    assert (output - exact).norm() < 5 * torch.finfo(dtype).eps * exact.norm()


@pytest.mark.parametrize(
    ("grid", "modes", "message"),
    [
        ((6,), [5], "5 modes .* dimension 1, but 6 grid points .* spectrum of 4; .* most 4 modes"),
        ((5, 8), [6, 2], "6 modes .* dimension 1, but 5 grid points .* spectrum of 5;"),
        ((5, 8), [5, 6], "6 modes .* dimension 2, but 8 grid points .* spectrum of 5;"),
        ((4, 4, 4, 4), [1, 1, 5, 1], "5 modes .* dimension 3, but 4 grid points"),
    ],
)
def test_more_modes_than_the_spectrum_has(grid, modes, message):
    layer = SpectralConv(1, 1, modes)
    with pytest.raises(ValueError, match=message):
        layer(torch.zeros(1, 1, *grid))


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.ones(1, 2, 8), ValueError, r"\(batch, in_channels=2, n1, n2\), got .* 3 dimensions"),
        (torch.ones(1, 3, 8, 8), ValueError, "where in_channels is 3"),
        (torch.ones(1, 2, 8, 8, dtype=torch.complex64), TypeError, "got torch.complex64"),
    ],
)
def test_bad_inputs(x, error, message):
    with pytest.raises(error, match=message):
        SpectralConv(2, 2, [3, 3])(x)


@pytest.mark.parametrize("modes", [[], [2] * 5, [3, 0], [-1]])
def test_bad_modes(modes):
    with pytest.raises(ValueError, match="positive numbers of modes for 1 to 4 axes"):
        SpectralConv(2, 2, modes)
