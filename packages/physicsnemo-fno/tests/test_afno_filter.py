# SPDX-License-Identifier: Apache-2.0
"""The adaptive filters against the formula of the paper in complex numbers, and its symmetries."""

import math

import pytest
import torch
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd
from torch.nn import functional
from torch.utils import _pytree as pytree

from physicsnemo.models.afno.afno import AFNO2DLayer
from physicsnemo.models.afno.modafno import ModAFNO2DLayer

GRIDS = [(5, 7), (7, 5), (6, 8), (8, 8)]
REFERENCE = "reference-1.2"


def randomized(layer):
    """Give all weights values that no shrinkage or ReLU hides."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(std=0.5)
    return layer.double()


def tokens(*grid, batch=2, channels=12):
    return torch.randn(batch, *grid, channels, dtype=torch.float64)


def kept(grid, fraction, numerics="paper", size=None):
    """Return 1 for each kept mode of half a spectrum, 0 for the others."""
    height, width = grid
    row = torch.arange(height)
    column = torch.arange(width // 2 + 1)
    if numerics == "paper":
        rows = torch.minimum(row, height - row) < int((height // 2 + 1) * fraction)
        columns = column < int((width // 2 + 1) * fraction)
    else:
        total = (size or height) // 2 + 1
        count = int(total * fraction)
        rows = (row >= total - count) & (row < total + count)
        columns = column < count
    return (rows[:, None] & columns).double()


def by_formula(layer, x, mask, scale=1.0, shift=0.0):
    """Compute x + F^-1 S(W2 relu(scale (W1 F x + b1) + shift) + b2) in complex numbers."""
    (w1, b1, w2, b2) = (
        torch.complex(*p.detach()) for p in (layer.w1, layer.b1, layer.w2, layer.b2)
    )
    blocks = torch.fft.rfft2(x, dim=(1, 2), norm="ortho").unflatten(-1, (layer.num_blocks, -1))
    hidden = scale * (torch.einsum("bhwni,nio->bhwno", blocks, w1) + b1) + shift
    hidden = torch.complex(hidden.real.relu(), hidden.imag.relu())
    output = torch.einsum("bhwni,nio->bhwno", hidden, w2) + b2
    shrunk = (
        functional.softshrink(p, layer.sparsity_threshold) for p in (output.real, output.imag)
    )
    output = torch.complex(*shrunk).flatten(-2) * mask[..., None]
    rows = torch.fft.ifft(output, dim=1, norm="ortho")
    return x + torch.fft.irfft(rows, n=x.shape[2], dim=2, norm="ortho")


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("fraction", [1.0, 0.7])
@pytest.mark.parametrize("factor", [1, 3])
def test_formula(grid, fraction, factor):
    layer = randomized(AFNO2DLayer(12, 3, 0.2, fraction, factor))
    x = tokens(*grid)
    torch.testing.assert_close(layer(x), by_formula(layer, x, kept(grid, fraction)))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("fraction", [1.0, 0.7])
@pytest.mark.parametrize("numerics", ["reference-1.2", "reference-2.1"])
def test_formula_of_the_reference_implementation(grid, fraction, numerics):
    layer = randomized(AFNO2DLayer(12, 3, 0.2, fraction, numerics=numerics))
    x = tokens(*grid)
    torch.testing.assert_close(layer(x), by_formula(layer, x, kept(grid, fraction, numerics)))


@pytest.mark.parametrize(
    ("grid", "fraction", "equal"),
    [((8, 8), 1.0, True), ((7, 7), 1.0, True), ((7, 5), 0.7, False), ((5, 7), 1.0, False)],
)
@pytest.mark.parametrize("modulated", [False, True])
def test_where_numerics_differ(grid, fraction, equal, modulated):
    x, mod = tokens(*grid), [torch.randn(2, 4, dtype=torch.float64)] * modulated
    arguments = {"num_blocks": 3, "hard_thresholding_fraction": fraction}
    layers = [
        ModAFNO2DLayer(12, 4, **arguments, numerics=numerics)
        if modulated
        else AFNO2DLayer(12, **arguments, numerics=numerics)
        for numerics in ("paper", REFERENCE, "reference-2.1")
    ]
    randomized(layers[0])
    paper, *references = (layer.double() for layer in layers)
    for other in references:
        other.load_state_dict(paper.state_dict())
    torch.testing.assert_close(references[0](x, *mod), references[1](x, *mod), atol=0, rtol=0)
    assert torch.allclose(paper(x, *mod), references[0](x, *mod)) == equal


def lifted(layer):
    """Choose biases that lift all modes above the ReLU and cancel: what is left is linear."""
    with torch.no_grad():
        layer.b1.fill_(1e3)
        lift = torch.complex(*layer.b1)
        layer.b2.copy_(
            -torch.view_as_real(torch.einsum("ni,nio->no", lift, torch.complex(*layer.w2))).movedim(
                -1, 0
            )
        )
    return layer


def doubling(channels, **arguments):
    """Return a layer that doubles what it keeps."""
    layer = AFNO2DLayer(channels, num_blocks=1, sparsity_threshold=0.0, **arguments).double()
    with torch.no_grad():
        for weight in (layer.w1, layer.w2):
            weight.zero_()[0, 0].fill_diagonal_(1)
    return lifted(layer)


@pytest.mark.parametrize("grid", GRIDS)
def test_identity_filter(grid):
    x = tokens(*grid)
    torch.testing.assert_close(doubling(12)(x), 2 * x)


@pytest.mark.parametrize("numerics", ["paper", REFERENCE])
@pytest.mark.parametrize("fraction", [0.5, 0.7])
def test_waves_pass_if_their_mode_is_kept(numerics, fraction):
    grid = (9, 13)
    layer = doubling(1, hard_thresholding_fraction=fraction, numerics=numerics)
    mask = kept(grid, fraction, numerics)
    y, x = (torch.arange(n, dtype=torch.float64) / n for n in grid)
    for k in range(9):
        for m in range(1, 7):
            wave = torch.cos(2 * math.pi * (k * y[:, None] + m * x) + 0.3)[None, ..., None]
            torch.testing.assert_close(layer(wave), (1 + mask[k, m]) * wave)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("numerics", ["paper", REFERENCE])
def test_translation_of_the_input_translates_the_output(grid, numerics):
    """So it is where the ReLU is open; it acts on parts of modes, which depend on the origin."""
    layer = lifted(randomized(AFNO2DLayer(12, 3, 0.0, 0.7, numerics=numerics)))
    x = tokens(*grid)
    assert not torch.allclose(layer(x), x)
    torch.testing.assert_close(layer(x.roll((1, 2), (1, 2))), layer(x).roll((1, 2), (1, 2)))


def test_blocks_do_not_mix():
    layer = randomized(AFNO2DLayer(12, 3))
    x = tokens(5, 7)
    other = x.clone()
    other[..., 4:8] += 1  # the second block
    changed = (layer(other) != layer(x)).any(0).any(0).any(0)
    assert changed.tolist() == [False] * 4 + [True] * 4 + [False] * 4


def test_a_high_threshold_leaves_the_skip_connection():
    layer = randomized(AFNO2DLayer(12, 3, sparsity_threshold=1e6))
    x = tokens(5, 7)
    torch.testing.assert_close(layer(x), x)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("mode", ["complex", "real"])
@pytest.mark.parametrize("numerics", ["paper", REFERENCE])
def test_formula_with_modulation(grid, mode, numerics):
    layer = randomized(ModAFNO2DLayer(12, 4, 3, 0.2, 0.7, 2, mode, numerics))
    x, mod = tokens(*grid), torch.randn(2, 4, dtype=torch.float64)
    scale, shift = layer.scale_shift(mod)
    if mode == "complex":
        scale, shift = (torch.complex(*part.chunk(2, -1)) for part in (scale, shift))
    else:
        shift = shift * (1 + 1j)
    scale, shift = (part.unflatten(-1, (3, 8))[:, None, None] for part in (scale, shift))
    mask = kept(grid, 0.7, numerics, size=min(grid))
    torch.testing.assert_close(layer(x, mod), by_formula(layer, x, mask, scale, shift))


@pytest.mark.parametrize("mode", ["complex", "real"])
def test_modulation_by_one_and_zero_is_none(mode):
    modulated = randomized(ModAFNO2DLayer(12, 4, 3, scale_shift_mode=mode))
    plain = AFNO2DLayer(12, 3).double()
    plain.load_state_dict({name: getattr(modulated, name) for name in ("w1", "b1", "w2", "b2")})
    last = modulated.scale_shift.net[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.zero_()
        if mode == "complex":
            last.bias[12:24] = -1  # one is added to the imaginary part of the scale too
    x = tokens(5, 7)
    torch.testing.assert_close(modulated(x, torch.randn(2, 4, dtype=torch.float64)), plain(x))


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.bfloat16, 1e-2), (torch.float16, 2e-3), (torch.float32, 1e-6)]
)
def test_accuracy_under_autocast(modulated, dtype, tolerance):
    layer = randomized(ModAFNO2DLayer(12, 4, 3) if modulated else AFNO2DLayer(12, 3))
    inputs = [tokens(45, 26), *[torch.randn(2, 4, dtype=torch.float64)] * modulated]
    exact = layer(*inputs)
    layer, inputs = layer.float(), [tensor.float() for tensor in inputs]
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        output = layer(*inputs)
    assert output.dtype == torch.float32
    assert (output - exact).norm() < tolerance * exact.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_precision_of_the_input_is_that_of_the_output(dtype):
    layer = randomized(AFNO2DLayer(12, 3)).to(dtype)
    x = tokens(9, 7).to(dtype)
    output = layer(x)
    assert output.dtype == dtype
    exact = layer.double()(x.double())
    assert (output - exact).norm() < 4 * torch.finfo(dtype).eps * exact.norm()


@pytest.mark.parametrize("fraction", [1.0, 0.7])
def test_compilers_see_no_complex_numbers(fraction):
    layer = randomized(ModAFNO2DLayer(12, 4, 3, hard_thresholding_fraction=fraction))
    x, mod = tokens(5, 7).requires_grad_(), torch.randn(2, 4, dtype=torch.float64)
    graphs = []

    def look(graph, _):
        graphs.append(graph.graph)
        return make_boxed_func(graph.forward)

    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend=aot_autograd(fw_compiler=look))
    leaves = (x, *layer.parameters())
    eager, ours = (
        torch.autograd.grad(function(x, mod).square().mean(), leaves)
        for function in (layer, compiled)
    )
    torch.testing.assert_close(ours, eager)
    assert len(graphs) == 2  # forward and backward
    values = [node.meta["val"] for graph in graphs for node in graph.nodes if "val" in node.meta]
    tensors = [leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, torch.Tensor)]
    assert len(tensors) > 50
    assert not [tensor for tensor in tensors if tensor.is_complex()]


def test_start_values():
    layer = AFNO2DLayer(64, 2, hidden_size_factor=3)
    shapes = {name: tuple(parameter.shape) for name, parameter in layer.named_parameters()}
    assert shapes == {
        "w1": (2, 2, 32, 96),
        "b1": (2, 2, 96),
        "w2": (2, 2, 96, 32),
        "b2": (2, 2, 32),
    }
    for parameter in (layer.w1, layer.w2):
        assert abs(parameter.std() - 0.02) < 1e-3
        assert abs(parameter.mean()) < 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_blocks": 5}, "num_blocks to divide the channels, got 12 channels and num_blocks=5"),
        ({"num_blocks": 0}, "num_blocks=0"),
        ({"sparsity_threshold": -0.1}, "sparsity_threshold >= 0, got -0.1"),
        ({"hard_thresholding_fraction": 0.0}, "above 0 and up to 1, got 0.0"),
        ({"hard_thresholding_fraction": 1.1}, "above 0 and up to 1, got 1.1"),
        ({"numerics": "1.2"}, "one of paper, reference-1.2, .*, reference-2.2, got '1.2'"),
    ],
)
def test_bad_arguments(arguments, message):
    arguments = {"num_blocks": 3} | arguments
    with pytest.raises(ValueError, match=message):
        AFNO2DLayer(12, **arguments)
    with pytest.raises(ValueError, match=message):
        ModAFNO2DLayer(12, 4, **arguments)


def test_bad_scale_shift_mode():
    with pytest.raises(ValueError, match="one of complex, real, got 'imaginary'"):
        ModAFNO2DLayer(12, 4, 3, scale_shift_mode="imaginary")


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.ones(2, 5, 12), ValueError, r"\(batch, height, width, hidden_size=12\), got"),
        (torch.ones(2, 5, 7, 8), ValueError, "where hidden_size is 8"),
        (torch.ones(2, 5, 7, 12, dtype=torch.complex64), TypeError, "got torch.complex64"),
        (torch.ones(2, 2, 7, 12), ValueError, "leaves no mode of a grid of 2 by 7 tokens"),
    ],
)
def test_bad_inputs(x, error, message):
    with pytest.raises(error, match=message):
        AFNO2DLayer(12, 3, hard_thresholding_fraction=0.3)(x)
