# SPDX-License-Identifier: Apache-2.0
"""Truncated transforms against torch.fft in float64, by products of any order and by FFTs."""

import pytest
import torch

from physicsnemo.nn.fourier import choice, to_field, to_modes, transforms


def lowest(n, m):
    """Return the frequencies -m to m - 1; where there are fewer, the negative ones come first."""
    return (*range(min(m, n - m)), *range(-m, 0))


def first(count):
    return tuple(range(count))


CASES = [
    pytest.param((15,), [first(5)], id="1d-odd"),
    pytest.param((16,), [first(9)], id="1d-even-all"),
    pytest.param((7,), [first(4)], id="1d-odd-all"),
    pytest.param((1,), [first(1)], id="1d-one-point"),
    pytest.param((2,), [first(2)], id="1d-two-points"),
    pytest.param((10, 13), [lowest(10, 3), first(4)], id="2d"),
    pytest.param((10, 12), [lowest(10, 7), first(7)], id="2d-both-sides-overlap"),
    pytest.param((1, 6), [lowest(1, 1), first(3)], id="2d-one-row"),
    pytest.param((5, 1), [lowest(5, 2), first(1)], id="2d-one-column"),
    pytest.param((9, 6), [(3, 4, -4, -3), first(2)], id="2d-high"),
    pytest.param((8, 6), [(-2, -1, 0, 1), first(2)], id="2d-from-negative"),
    pytest.param((7, 5), [(3, 4, 5, 6), first(3)], id="2d-counted-on"),
    pytest.param((6, 6), [(2, 0, -1), first(4)], id="2d-out-of-order"),
    pytest.param((6, 5, 8), [lowest(6, 2), lowest(5, 3), first(5)], id="3d"),
    pytest.param((4, 3, 4, 5), [lowest(4, 2), (1,), lowest(4, 2), first(3)], id="4d"),
]
NORMS = ["forward", "ortho"]


@pytest.fixture(params=["product", "first-axis", "fast"], autouse=True)
def _way(request, monkeypatch):
    def first_axis(grid, *_):
        return request.param == "first-axis" and len(grid) > 1

    monkeypatch.setattr(transforms, "prefer_matmul", lambda *_: request.param != "fast")
    monkeypatch.setattr(transforms, "prefer_first_axis", first_axis)
    torch.manual_seed(0)


def random_field(grid, batch=2, channels=3):
    return torch.randn(batch, *grid, channels, dtype=torch.float64)


def random_modes(frequencies, batch=2, channels=3):
    return torch.randn(batch, 2, *map(len, frequencies), channels, dtype=torch.float64)


def position(grid, frequencies):
    """Return the index of the kept modes in half the spectrum of a real field."""
    kept = [torch.tensor(k) % n for k, n in zip(frequencies, grid, strict=True)]
    return (slice(None), *torch.meshgrid(*kept, indexing="ij"))


def is_paired(grid, frequencies):
    """Tell which modes stand for two of a real field, in the shape of modes."""
    return ((2 * torch.tensor(frequencies[-1])) % grid[-1] != 0)[:, None]


def axes(grid):
    return tuple(range(1, len(grid) + 1))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("grid", "frequencies"), CASES)
def test_modes_of_fields(grid, frequencies, norm):
    x = random_field(grid)
    spectrum = torch.fft.rfftn(x, dim=axes(grid), norm=norm)[position(grid, frequencies)]
    modes = to_modes(x, frequencies, norm)
    torch.testing.assert_close(modes, torch.stack((spectrum.real, spectrum.imag), dim=1))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("grid", "frequencies"), CASES)
def test_fields_of_modes(grid, frequencies, norm):
    """Also of modes that no real field has."""
    modes = random_modes(frequencies)
    spectrum = torch.zeros(2, *grid[:-1], grid[-1] // 2 + 1, 3, dtype=torch.complex128)
    spectrum[position(grid, frequencies)] = torch.complex(modes[:, 0], modes[:, 1])
    for axis in axes(grid)[:-1]:
        spectrum = torch.fft.ifft(spectrum, dim=axis, norm=norm)
    expected = torch.fft.irfft(spectrum, n=grid[-1], dim=len(grid), norm=norm)
    torch.testing.assert_close(to_field(modes, grid, frequencies, norm), expected)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("grid", "frequencies"), [c for c in CASES if len(c.values[1][-1]) > 1])
def test_modes_survive_the_way_to_the_field_and_back(grid, frequencies, norm):
    """But for those that are their own mirror image along the last axis: others may be lost."""
    modes = random_modes(frequencies) * is_paired(grid, frequencies)
    again = to_modes(to_field(modes, grid, frequencies, norm), frequencies, norm)
    torch.testing.assert_close(again, modes)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("grid", [(7,), (8,), (4, 5), (5, 4), (3, 4, 5), (1, 1), (2, 2, 2, 2)])
def test_fields_survive_the_way_to_all_modes_and_back(grid, norm):
    frequencies = [*map(first, grid[:-1]), first(grid[-1] // 2 + 1)]
    x = random_field(grid)
    torch.testing.assert_close(to_field(to_modes(x, frequencies, norm), grid, frequencies, norm), x)


@pytest.mark.parametrize(("grid", "frequencies"), CASES)
def test_each_is_the_adjoint_of_the_other(grid, frequencies):
    """With paired modes, which stand for two, weighted by two."""
    x, modes = random_field(grid), random_modes(frequencies)
    weighted = torch.where(is_paired(grid, frequencies), 2 * modes, modes)
    over_modes = (to_modes(x, frequencies, "ortho") * weighted).sum()
    over_points = (x * to_field(modes, grid, frequencies, "ortho")).sum()
    torch.testing.assert_close(over_modes, over_points)


@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
@pytest.mark.parametrize(("grid", "frequencies"), CASES)
def test_gradients(grid, frequencies, check):
    x = random_field(grid, batch=1, channels=1).requires_grad_()
    modes = random_modes(frequencies, batch=1, channels=1).requires_grad_()
    assert check(lambda x: to_modes(x, frequencies), x, fast_mode=True)
    assert check(lambda modes: to_field(modes, grid, frequencies), modes, fast_mode=True)


@pytest.mark.parametrize(("grid", "frequencies"), CASES)
def test_function_transforms(grid, frequencies):
    """Derivatives in forward mode, and gradients of each sample."""

    def filtered(x):
        return to_field(to_modes(x, frequencies), grid, frequencies)

    x, direction = random_field(grid), random_field(grid)
    _, slope = torch.func.jvp(filtered, (x,), (direction,))
    torch.testing.assert_close(slope, filtered(direction))
    gradient = torch.func.grad(lambda x: filtered(x[None]).square().sum())
    alone = torch.stack([gradient(sample) for sample in x])
    torch.testing.assert_close(torch.func.vmap(gradient)(x), alone)


def test_any_memory_layout():
    grid, frequencies = (6, 5), [lowest(6, 2), first(3)]
    x = random_field(grid).movedim(-1, 1).contiguous().movedim(1, -1)
    modes = to_modes(x, frequencies)
    torch.testing.assert_close(modes, to_modes(x.contiguous(), frequencies))
    scattered = modes.movedim(0, -1).contiguous().movedim(-1, 0)
    torch.testing.assert_close(
        to_field(scattered, grid, frequencies), to_field(modes, grid, frequencies)
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_types_of_floating_point_numbers(dtype):
    grid, frequencies = (6, 5), [lowest(6, 2), first(3)]
    x = random_field(grid)
    modes = to_modes(x.to(dtype), frequencies)
    field = to_field(modes, grid, frequencies)
    assert (modes.dtype, field.dtype) == (dtype, dtype)
    exact = to_field(to_modes(x, frequencies), grid, frequencies)
    assert (field - exact).norm() < 4 * torch.finfo(dtype).eps * exact.norm()


@pytest.mark.parametrize(
    ("grid", "frequencies", "message"),
    [
        ((6, 5), [first(3)], "each of the 2 axes of the grid, got those of 1"),
        ((6, 5), [(), first(3)], r"one or more frequencies from -6 to 5 along axis 1 .*, got \(\)"),
        ((6, 5), [(-7, 0), first(3)], r"axis 1 of the grid, which has 6 points, got \(-7, 0\)"),
        ((6, 5), [(0, 6), first(3)], r"from -6 to 5 along axis 1 .*, got \(0, 6\)"),
        ((6, 5), [first(3), first(4)], r"0 to 2 along the last .* got \(0, 1, 2, 3\)"),
        ((6, 5), [first(3), (1, 2)], r"0 upwards and none left out, got \(1, 2\)"),
    ],
)
def test_frequencies_that_a_grid_does_not_have(grid, frequencies, message):
    with pytest.raises(ValueError, match=message):
        to_modes(random_field(grid), frequencies)
    with pytest.raises(ValueError, match=message):
        to_field(random_modes(frequencies), grid, frequencies)


@pytest.mark.parametrize("shape", [(1, 2, 3, 4, 5), (1, 1, 4, 3, 5), (1, 2, 4, 3)])
def test_modes_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"shape \(batch, 2, 4, 3, channels\), got \(1, "):
        to_field(torch.zeros(shape), (6, 5), [lowest(6, 2), first(3)])


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64])
def test_other_numbers(dtype):
    with pytest.raises(TypeError, match=f"expected real floating-point numbers, got {dtype}"):
        to_modes(torch.zeros(1, 5, 1, dtype=dtype), [(0, 1)])
    with pytest.raises(TypeError, match=f"expected real floating-point numbers, got {dtype}"):
        to_field(torch.zeros(1, 2, 2, 1, dtype=dtype), (5,), [(0, 1)])


@pytest.mark.parametrize(("grid", "frequencies"), CASES)
def test_an_empty_batch_has_empty_modes_and_gradients(grid, frequencies):
    field = random_field(grid, batch=0).requires_grad_()
    modes = to_modes(field, frequencies)
    back = to_field(modes, grid, frequencies)
    assert modes.shape == (0, 2, *map(len, frequencies), 3)
    assert back.shape == field.shape
    assert torch.autograd.grad(back.sum(), field)[0].shape == field.shape


@pytest.mark.parametrize("n", [1, 2, 9, 10, 2**7, 2**7 + 1])
def test_what_a_real_field_cannot_have_has_no_effect_and_no_gradient(n):
    """The imaginary parts of mode 0 and of the highest mode of an even number of points."""
    modes = random_modes([first(n // 2 + 1)])
    alone = [0, n // 2] if n % 2 == 0 else [0]
    other = modes.clone()
    other[:, 1, alone] += 100
    other.requires_grad_()
    field = to_field(other, (n,), [first(n // 2 + 1)])
    torch.testing.assert_close(field, to_field(modes, (n,), [first(n // 2 + 1)]))
    (gradient,) = torch.autograd.grad(field.square().sum(), other)
    assert gradient[:, 0].abs().min() > 0
    assert not gradient[:, 1, alone].any()


@pytest.mark.parametrize(
    ("grid", "kept", "channels", "device", "expected"),
    [
        ((136, 136), (32, 16), 32, "cuda", True),
        ((68, 68, 68), (24, 24, 12), 32, "cuda", True),
        ((136, 136), (32, 16), 32, "cpu", False),
        ((136,), (16,), 32, "cuda", False),
        ((136, 136), (32, 16), 256, "cuda", False),
        ((40, 40), (32, 16), 32, "cuda", False),
        ((2048, 2048), (32, 1000), 32, "cuda", False),
    ],
)
def test_products_begin_with_the_first_axis_where_the_last_would_be_small(
    grid, kept, channels, device, expected
):
    assert choice.prefer_first_axis(grid, kept, channels, device) == expected


@pytest.mark.parametrize("rows", [(0, 4), (4, 9), (0, 9)])
def test_parts_of_a_field(rows):
    grid, frequencies = (9, 6, 5), [lowest(9, 3), lowest(6, 2), first(3)]
    part = (*rows, grid[0])
    x, modes = random_field(grid), random_modes(frequencies)
    alone = torch.zeros_like(x)
    alone[:, slice(*rows)] = x[:, slice(*rows)]
    torch.testing.assert_close(
        to_modes(x[:, slice(*rows)], frequencies, rows=part), to_modes(alone, frequencies)
    )
    torch.testing.assert_close(
        to_field(modes, grid, frequencies, rows=part),
        to_field(modes, grid, frequencies)[:, slice(*rows)],
    )
