# SPDX-License-Identifier: Apache-2.0
"""FNO against a reference implementation, and what follows from its mathematics."""

import math

import pytest
import torch
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd
from torch.nn import functional
from torch.utils import _pytree as pytree

from physicsnemo import Module
from physicsnemo.models.fno import FNO, FNO1DEncoder, FNO2DEncoder, FNO3DEncoder, FNO4DEncoder
from physicsnemo.nn.fourier import transforms

SMALL = {
    "in_channels": 2,
    "out_channels": 3,
    "decoder_layer_size": 5,
    "latent_channels": 4,
    "num_fno_layers": 3,
    "num_fno_modes": 2,
    "padding": 2,
}
PERIODIC = SMALL | {"padding": 0, "coord_features": False}
GRID = {1: (9,), 2: (6, 7), 3: (5, 4, 6), 4: (3, 4, 5, 4)}
ENCODERS = {1: FNO1DEncoder, 2: FNO2DEncoder, 3: FNO3DEncoder, 4: FNO4DEncoder}
CORNERS = {
    1: [""],
    2: ["+", "-"],
    3: ["++", "-+", "+-", "--"],
    4: ["+++", "-++", "+-+", "++-", "--+", "-+-", "+--", "---"],
}


def randomized(dimension, **arguments) -> FNO:
    """Build a model none of whose weights has a special value."""
    model = FNO(dimension=dimension, **SMALL | arguments).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def random_field(dimension, batch=2):
    return torch.randn(batch, 2, *GRID[dimension], dtype=torch.float64)


def pointwise(weights, name, x):
    matrix = weights[f"{name}.weight"].flatten(1)
    return (torch.einsum("bi...,oi->b...o", x, matrix) + weights[f"{name}.bias"]).movedim(-1, 1)


def append_points(x, axis, count, padding_type):
    """Pad one axis by looking up which point stands in for each new one."""
    n = x.shape[axis]
    source = {
        "constant": lambda j: 0,
        "reflect": lambda j: n - 2 - j,
        "replicate": lambda j: n - 1,
        "circular": lambda j: j,
    }[padding_type]
    index = torch.tensor([source(j) for j in range(count)], dtype=torch.int64)
    appended = x.index_select(axis, index)
    return torch.cat((x, 0 * appended if padding_type == "constant" else appended), dim=axis)


def spectral(weights, name, x, modes):
    axes = tuple(range(2, x.ndim))
    spectrum = torch.fft.rfftn(x, dim=axes)
    mixed = torch.zeros_like(spectrum)
    for number, signs in enumerate(CORNERS[len(modes)], start=1):
        weight = weights[f"{name}.weights{number}"]
        index = [slice(None), slice(None)]
        for sign, m in zip(signs + "+", modes, strict=True):
            index.append(slice(-m, None) if sign == "-" else slice(0, m))
        matrix = torch.complex(weight[..., 0], weight[..., 1])
        mixed[tuple(index)] = (spectrum[tuple(index)].unsqueeze(2) * matrix).sum(dim=1)
    return torch.fft.irfftn(mixed, s=x.shape[2:], dim=axes)


def reference_implementation(
    model, x, *, padding, modes, padding_type="constant", act=functional.gelu
):
    """Compute the model from its state dictionary."""
    weights, grid = model.state_dict(), x.shape[2:]
    nested = ".conv" if len(grid) == 4 else ""
    if model.spec_encoder.coord_features:
        for axis, n in enumerate(grid):
            ramp = torch.arange(n, dtype=x.dtype) / (n - 1)
            shape = [n if other == axis else 1 for other in range(len(grid))]
            coordinate = ramp.reshape(1, 1, *shape).expand(x.shape[0], 1, *grid)
            x = torch.cat((x, coordinate), dim=1)
    x = act(pointwise(weights, f"spec_encoder.lift_network.0.conv{nested}", x))
    x = pointwise(weights, f"spec_encoder.lift_network.2.conv{nested}", x)
    for axis, count in enumerate(padding, start=2):
        x = append_points(x, axis, count, padding_type)
    for k in range(3):
        skip = pointwise(weights, f"spec_encoder.conv_layers.{k}{nested}", x)
        x = skip + spectral(weights, f"spec_encoder.spconv_layers.{k}", x, modes)
        x = act(x) if k < 2 else x
    for axis, n in enumerate(grid, start=2):
        x = x.narrow(axis, 0, n)
    x = functional.silu(pointwise(weights, "decoder_net.layers.0.linear", x))
    return pointwise(weights, "decoder_net.final_layer.linear", x)


@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
@pytest.mark.parametrize("coord_features", [True, False])
@pytest.mark.parametrize("padding", [0, 2])
def test_network_equals_the_reference_implementation(dimension, coord_features, padding):
    model = randomized(dimension, coord_features=coord_features, padding=padding)
    x = random_field(dimension)
    expected = reference_implementation(
        model, x, padding=[padding] * dimension, modes=[2] * dimension
    )
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize("padding_type", ["reflect", "replicate", "circular"])
def test_padding_types(dimension, padding_type):
    model = randomized(dimension, padding_type=padding_type)
    x = random_field(dimension)
    settings = {"padding": [2] * dimension, "modes": [2] * dimension}
    expected = reference_implementation(model, x, **settings, padding_type=padding_type)
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize(
    ("dimension", "padding", "applied"),
    [
        (1, [3], [3]),
        (2, [1, 3], [1, 3]),
        (2, [3], [3, 0]),
        (3, [0, 1], [0, 1, 0]),
        (4, [], [0] * 4),
    ],
)
def test_padding_axis_by_axis(dimension, padding, applied):
    model = randomized(dimension, padding=padding)
    x = random_field(dimension)
    torch.testing.assert_close(
        model(x), reference_implementation(model, x, padding=applied, modes=[2] * dimension)
    )


def test_surplus_padding_is_announced_and_not_used():
    with pytest.warns(UserWarning, match=r"3 entries for dimension=2; not used: \[9\]"):
        model = randomized(2, padding=[1, 3, 9])
    x = random_field(2)
    torch.testing.assert_close(
        model(x), reference_implementation(model, x, padding=[1, 3], modes=[2, 2])
    )


@pytest.mark.parametrize(
    ("dimension", "modes"),
    [(1, [5]), (2, [4, 3]), (2, [6, 1]), (3, [1, 3, 2]), (4, [2, 1, 3, 2])],
)
def test_modes_axis_by_axis_also_where_corners_overlap(dimension, modes):
    model = randomized(dimension, num_fno_modes=modes, padding=0)
    x = random_field(dimension)
    torch.testing.assert_close(
        model(x), reference_implementation(model, x, padding=[0] * dimension, modes=modes)
    )


@pytest.mark.parametrize(("name", "act"), [("tanh", torch.tanh), ("identity", lambda x: x)])
def test_activation_by_name(name, act):
    model = randomized(2, activation_fn=name)
    x = random_field(2)
    torch.testing.assert_close(
        model(x), reference_implementation(model, x, padding=[2, 2], modes=[2, 2], act=act)
    )


def test_parametric_activation_is_one_module_under_three_names(tmp_path):
    model = randomized(2, activation_fn="prelu")
    names = [name for name in model.state_dict() if "activation_fn" in name or "network.1" in name]
    assert names == [
        "activation_fn.weight",
        "spec_encoder.activation_fn.weight",
        "spec_encoder.lift_network.1.weight",
    ]
    assert len({model.state_dict()[name].data_ptr() for name in names}) == 1
    slope = model.activation_fn.weight.detach()
    x = random_field(2)
    expected = reference_implementation(
        model, x, padding=[2, 2], modes=[2, 2], act=lambda x: torch.where(x > 0, x, slope * x)
    )
    torch.testing.assert_close(model(x), expected)
    model.float().save(tmp_path / "model.mdlus")
    loaded = Module.from_checkpoint(tmp_path / "model.mdlus")
    torch.testing.assert_close(loaded(x.float()), model(x.float()), atol=0, rtol=0)
    assert loaded.spec_encoder.lift_network[1] is loaded.activation_fn


def test_decoder_is_the_fully_connected_network_of_each_point():
    model = randomized(2, decoder_layers=3, decoder_layer_size=7, decoder_activation_fn="tanh")
    x = random_field(2)
    latent = model.spec_encoder(x)
    assert model(x).shape == (2, 3, 6, 7)
    torch.testing.assert_close(model(x)[1, :, 2, 3], model.decoder_net(latent[1, :, 2, 3]))
    assert repr(model.decoder_net.layers[2].activation_fn) == "Tanh()"


@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
def test_names(dimension):
    model = FNO(dimension=dimension, **SMALL)
    nested = ".conv" if dimension == 4 else ""
    corners = range(1, 2 ** (dimension - 1) + 1)
    decoder = [f"decoder_net.{part}.linear" for part in ("layers.0", "final_layer")]
    lift = [f"spec_encoder.lift_network.{k}.conv{nested}" for k in (0, 2)]
    spectral = [f"spec_encoder.spconv_layers.{k}.weights{n}" for k in range(3) for n in corners]
    skip = [f"spec_encoder.conv_layers.{k}{nested}" for k in range(3)]
    pairs = [f"{name}.{part}" for name in decoder + lift + skip for part in ("weight", "bias")]
    markers = ["device_buffer", "decoder_net.device_buffer"]
    assert sorted(model.state_dict()) == sorted(markers + pairs + spectral)
    assert type(model.spec_encoder) is ENCODERS[dimension]


@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
def test_every_parameter_learns(dimension):
    model = randomized(dimension)
    model(random_field(dimension)).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_gradients():
    model = randomized(2, num_fno_layers=2, latent_channels=2, activation_fn="tanh")
    names, weights = zip(*model.named_parameters(), strict=True)

    def call(x, *values):
        return torch.func.functional_call(model, dict(zip(names, values, strict=True)), x)

    x = torch.randn(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(call, (x, *weights), fast_mode=True)


def smooth_field(n, dimension):
    """Return two channels with frequencies up to 2, sampled on a periodic grid."""
    circle = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
    axes = torch.meshgrid(*[circle] * dimension, indexing="ij")
    first = sum(torch.sin(2 * x + k) for k, x in enumerate(axes))
    second = math.prod(torch.cos(x - k) for k, x in enumerate(axes))
    return 0.3 * torch.stack((first, second)).unsqueeze(0)


def coarsened(model, dimension, fine, coarse):
    """Return the outputs on a coarse grid, and on a fine one at the points of the coarse one."""
    step = slice(None, None, fine // coarse)
    on_fine = model(smooth_field(fine, dimension))[(..., *[step] * dimension)]
    return model(smooth_field(coarse, dimension)), on_fine


@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
def test_linear_model_is_independent_of_the_resolution(dimension):
    model = randomized(dimension, **PERIODIC | {"activation_fn": "identity", "num_fno_modes": 3})
    on_coarse, on_fine = coarsened(model, dimension, fine=14, coarse=7)
    torch.testing.assert_close(on_coarse, on_fine)


@pytest.mark.parametrize("dimension", [1, 2])
def test_outputs_converge_with_the_resolution(dimension):
    model = randomized(dimension, **PERIODIC | {"num_fno_modes": 3})
    errors = []
    for coarse in (8, 16, 32):
        on_coarse, on_fine = coarsened(model, dimension, fine=128, coarse=coarse)
        errors.append(((on_coarse - on_fine).norm() / on_fine.norm()).item())
    # The fields are smooth, so the error falls faster than any power of the spacing.
    assert 1e-3 > errors[0] > 1e3 * errors[1]
    assert errors[2] < 1e-12


@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
def test_translation_of_a_periodic_input_translates_the_output(dimension):
    model = randomized(dimension, **PERIODIC)
    x = random_field(dimension)
    shifts, axes = tuple(range(1, dimension + 1)), tuple(range(2, x.ndim))
    torch.testing.assert_close(model(x.roll(shifts, axes)), model(x).roll(shifts, axes))


def test_coordinates_break_translation_symmetry():
    model = randomized(1, **PERIODIC | {"coord_features": True})
    x = random_field(1)
    assert not torch.allclose(model(x.roll(1, 2)), model(x).roll(1, 2))


@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
def test_samples_of_a_batch_do_not_mix(dimension):
    model = randomized(dimension)
    x = random_field(dimension, batch=3)
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]))


@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_on_odd_grids(dimension, dtype):
    model = randomized(dimension).float()
    x = random_field(dimension).float()
    expected = model(x)
    with torch.autocast("cpu", dtype):
        output = model(x)
    assert output.dtype == dtype
    assert (output - expected).norm() < 0.03 * expected.norm()
    output.float().square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.bfloat16, 0.02), (torch.float16, 3e-3), (torch.float32, 1e-6)]
)
@pytest.mark.parametrize(("grid", "modes"), [((200,), 16), ((64, 48), 12), ((16, 20, 24), 6)])
def test_accuracy(grid, modes, dtype, tolerance):
    """As the docstring says, with weights that keep the size of fields."""
    model = FNO(3, 3, dimension=len(grid), num_fno_modes=modes, latent_channels=16, padding=4)
    for weight in model.spec_encoder.spconv_layers.parameters():
        torch.nn.init.normal_(weight, std=16**-0.5)
    x = torch.randn(2, 3, *grid)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        output = model(x)
    exact = model.double()(x.double())
    assert (output - exact).norm() < tolerance * exact.norm()


@pytest.mark.parametrize("wins", [True, False])
def test_large_means_do_not_overflow_in_half_precision(wins, monkeypatch):
    monkeypatch.setattr(transforms, "prefer_matmul", lambda *_: wins)
    model = FNO(3, 3, num_fno_modes=12, latent_channels=16)
    for weight in model.spec_encoder.spconv_layers.parameters():
        torch.nn.init.normal_(weight, std=16**-0.5)
    x = 1000 + torch.randn(1, 3, 64, 48)
    with torch.autocast("cpu", torch.float16):
        output = model(x)
    exact = model.double()(x.double())
    assert (output - exact).norm() < 5e-3 * exact.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_module(dtype):
    model, x = randomized(2).float(), random_field(2).float()
    expected = model(x)
    output = model.to(dtype)(x.to(dtype))
    assert output.dtype == dtype
    assert (output - expected).norm() < 0.03 * expected.norm()


@pytest.mark.parametrize(
    ("dimension", "wins"), [(1, True), (2, True), (3, True), (4, True), (1, False), (3, False)]
)
def test_one_graph_without_complex_numbers(dimension, wins, monkeypatch):
    """Whether a product wins, or a fast transform; forward and backward."""
    monkeypatch.setattr(transforms, "prefer_matmul", lambda *_: wins)
    graphs = []

    def look(graph, _):
        graphs.append(graph.graph)
        return make_boxed_func(graph.forward)

    torch.compiler.reset()
    model, x = randomized(dimension, num_fno_layers=1), random_field(dimension)
    compiled = torch.compile(model, fullgraph=True, backend=aot_autograd(fw_compiler=look))
    eager, ours = (
        torch.autograd.grad(function(x).square().mean(), list(model.parameters()))
        for function in (model, compiled)
    )
    torch.testing.assert_close(ours, eager)
    assert len(graphs) == 2
    values = [node.meta["val"] for graph in graphs for node in graph.nodes if "val" in node.meta]
    tensors = [leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, torch.Tensor)]
    assert len(tensors) > 50
    assert not [tensor for tensor in tensors if tensor.is_complex()]


def test_compiled_training_step():
    torch.compiler.reset()
    model, x = randomized(2, num_fno_layers=2).float(), random_field(2).float()
    gradients = []
    for function in (model, torch.compile(model, fullgraph=True)):
        model.zero_grad()
        function(x).square().mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for eager, compiled in zip(*gradients, strict=True):
        torch.testing.assert_close(compiled, eager)


def test_runs_on_the_meta_device():
    assert randomized(2).to("meta")(random_field(2).to("meta")).is_meta


def test_trace_serves_other_grids():
    model = randomized(2)
    traced = torch.jit.trace(model, random_field(2))
    x = torch.randn(1, 2, 11, 8, dtype=torch.float64)
    torch.testing.assert_close(traced(x), model(x))


@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
def test_encoder_on_its_own(dimension):
    encoder = ENCODERS[dimension](2, fno_layer_size=6, num_fno_modes=2, activation_fn="tanh")
    x = random_field(dimension).float()
    latent = encoder(x)
    assert latent.shape == (2, 6, *GRID[dimension])
    points, shape = encoder.grid_to_points(latent)
    assert points.shape == (2 * math.prod(GRID[dimension]), 6)
    assert shape == [2, 6, *GRID[dimension]]
    torch.testing.assert_close(points[-1], latent[(1, slice(None), *[-1] * dimension)])
    torch.testing.assert_close(encoder.points_to_grid(points, shape), latent)
    assert encoder.points_to_grid(points[:, :1], shape).shape == (2, 1, *GRID[dimension])


def test_coordinates_of_the_grid_points():
    grid = FNO2DEncoder(fno_layer_size=4).meshgrid([2, 7, 3, 5], torch.device("cpu"))
    assert grid.dtype == torch.float32
    assert grid.shape == (2, 2, 3, 5)
    torch.testing.assert_close(grid[1, 0, :, 2], torch.tensor([0, 0.5, 1]))
    torch.testing.assert_close(grid[0, 1, 1], torch.tensor([0, 0.25, 0.5, 0.75, 1]))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"dimension": 5}, NotImplementedError, "expected dimension 1, 2, 3 or 4, got 5"),
        ({"dimension": 0}, NotImplementedError, "got 0"),
        ({"activation_fn": "sulu"}, KeyError, "no activation is named 'sulu'; did you mean .*silu"),
        ({"decoder_activation_fn": "sulu"}, KeyError, "no activation is named 'sulu'"),
        ({"num_fno_modes": [4]}, ValueError, r"one number, or a list of 2 .* got \[4\]"),
        ({"num_fno_modes": [4, 4, 4]}, ValueError, r"a list of 2 for dimension=2, got \[4, 4, 4\]"),
        ({"num_fno_modes": 0}, ValueError, r"positive numbers of modes .* got \[0, 0\]"),
        ({"padding": [1, -1]}, ValueError, r"padding of at least 0 points, got \[1, -1\]"),
        ({"padding_type": "zeros"}, ValueError, "one of constant, reflect, .*, got 'zeros'"),
        (
            {"padding_type": "circular", "dimension": 4},
            NotImplementedError,
            "'circular' is not available for dimension=4: .*use 'constant', or padding=0",
        ),
        ({"latent_channels": 1}, ValueError, "at least 2 latent channels, got 1"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        FNO(**SMALL | arguments)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.ones(2, 2, 8), ValueError, r"n1, n2\), got \(2, 2, 8\), which has 3 dimensions"),
        (torch.ones(2, 2, 8, 8, 8), ValueError, "which has 5 dimensions"),
        (torch.ones(2, 4, 8, 8), ValueError, r"in_channels=2, n1, n2\).* where in_channels is 4"),
        (torch.ones(2, 2, 8, 8, dtype=torch.int64), TypeError, "numbers, got torch.int64"),
        (torch.ones(2, 2, 8, 8, device="meta"), ValueError, "on meta and the model on cpu"),
        (torch.ones(2, 2, 8, 2), ValueError, "4 modes .* dimension 2, but 4 grid points .* of 3;"),
    ],
)
def test_bad_inputs(x, error, message):
    model = FNO(**SMALL | {"num_fno_modes": 4})
    with pytest.raises(error, match=message):
        model(x)
