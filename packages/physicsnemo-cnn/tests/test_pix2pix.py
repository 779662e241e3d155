# SPDX-License-Identifier: Apache-2.0
"""Pix2Pix against a reference implementation; grids of every size; clear errors."""

import inspect

import pytest
import torch
from torch.nn import functional

from physicsnemo.models.pix2pix import Pix2Pix, ResnetBlock

SMALL = {
    "in_channels": 2,
    "out_channels": 3,
    "dimension": 2,
    "conv_layer_size": 2,
    "n_downsampling": 2,
    "n_upsampling": 3,
    "n_blocks": 2,
}
MODES = {"zero": "constant", "reflect": "reflect", "replicate": "replicate"}
GRIDS = {1: (12,), 2: (7, 12), 3: (5, 8, 6)}


def build(**arguments):
    return Pix2Pix(**SMALL | arguments)


def randomized(model):
    """Give the normalizations statistics and weights that they do not start from."""
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor + 0.3 * torch.rand_like(tensor))
    return model.double().eval()


def reference_implementation(weights, x, padding_type, batch_norm):
    """Halve twice, apply two blocks, double three times; each module counts in the names."""
    dimension = x.ndim - 2
    step, first = 2 + batch_norm, int(padding_type != "zero")

    def padded(x, width, kind):
        return functional.pad(x, [width] * 2 * dimension, MODES[kind])

    def convolve(name, x, kind="", **options):
        function = getattr(functional, f"conv{kind}{dimension}d")
        return function(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **options)

    def normalize(name, x):
        mean, variance, weight, bias = (
            weights[f"{name}.{part}"].reshape(-1, *[1] * dimension)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    def layer(name, index, x, kind="", **options):
        x = convolve(f"{name}.{index}", x, kind, **options)
        return normalize(f"{name}.{index + 1}", x) if batch_norm else x

    x = layer("model", 1, padded(x, 3, "reflect")).relu()
    for index in (1 + step, 1 + 2 * step):
        x = layer("model", index, x, stride=2, padding=1).relu()
    for index in (1 + 3 * step, 2 + 3 * step):
        name = f"model.{index}.conv_block"
        hidden = layer(name, first, padded(x, 1, padding_type)).relu()
        x = x + layer(name, step + 2 * first, padded(hidden, 1, padding_type))
    for index in range(3 + 3 * step, 3 + 6 * step, step):
        x = layer("model", index, x, "_transpose", stride=2, padding=1, output_padding=1).relu()
    return convolve(f"model.{4 + 6 * step}", padded(x, 3, "reflect"))


def test_signature():
    assert {name: p.default for name, p in inspect.signature(Pix2Pix).parameters.items()} == {
        "in_channels": inspect.Parameter.empty,
        "out_channels": inspect.Parameter.empty,
        "dimension": inspect.Parameter.empty,
        "conv_layer_size": 64,
        "n_downsampling": 3,
        "n_upsampling": 3,
        "n_blocks": 3,
        "activation_fn": "relu",
        "batch_norm": False,
        "padding_type": "reflect",
    }


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("padding_type", MODES)
@pytest.mark.parametrize("dimension", GRIDS)
def test_network_equals_the_reference_implementation(dimension, padding_type, batch_norm):
    model = randomized(build(dimension=dimension, padding_type=padding_type, batch_norm=batch_norm))
    x = torch.randn(2, 2, *GRIDS[dimension], dtype=torch.float64)
    torch.testing.assert_close(
        model(x), reference_implementation(model.state_dict(), x, padding_type, batch_norm)
    )


@pytest.mark.parametrize(
    ("arguments", "grid", "expected"),
    [
        ({"n_upsampling": 2}, (8, 12), (8, 12)),
        ({"n_upsampling": 0}, (8, 12), (8, 12)),
        ({"n_upsampling": 4}, (8, 12), (32, 48)),
        ({"n_upsampling": 2}, (9, 11), (12, 12)),  # 9 points are halved to 5, and to 3
        ({"n_upsampling": 3}, (9, 11), (24, 24)),
        ({"n_upsampling": 2}, (13, 5), (16, 8)),
        ({"n_downsampling": 0, "n_upsampling": 0, "n_blocks": 0}, (7, 5), (7, 5)),
        ({"n_downsampling": 0, "n_upsampling": 1}, (7, 5), (14, 10)),
    ],
)
def test_grid_of_the_output(arguments, grid, expected):
    assert build(**arguments)(torch.randn(1, 2, *grid)).shape == (1, 3, *expected)


def test_layers_share_the_activation():
    model = build(activation_fn="prelu")
    names = [name for name, tensor in model.state_dict().items() if tensor.shape == (1,)]
    places = [f"model.{place}.weight" for place in (2, 4, 6, "7.conv_block.2", "8.conv_block.2")]
    assert names == [*places, *(f"model.{place}.weight" for place in (10, 12, 14))]
    assert sum(parameter.shape == (1,) for parameter in model.parameters()) == 1


def test_activation_of_the_user():
    with pytest.warns(UserWarning, match="cannot be stored in a checkpoint"):
        model = build(activation_fn=torch.nn.Tanh())
    twin = build(activation_fn="tanh")
    twin.load_state_dict(model.state_dict())
    x = torch.randn(1, 2, 8, 8)
    assert torch.equal(model(x), twin(x))


def test_a_trace_serves_other_grids():
    model = build().eval()
    traced, x = torch.jit.trace(model, torch.randn(1, 2, 8, 9)), torch.randn(3, 2, 13, 10)
    torch.testing.assert_close(traced(x), model(x))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"dimension": 4}, NotImplementedError, "expected dimension 1, 2 or 3, got 4"),
        ({"dimension": 0}, NotImplementedError, "got 0"),
        ({"in_channels": 0}, ValueError, "in_channels of at least 1, got 0"),
        ({"out_channels": 0}, ValueError, "out_channels of at least 1, got 0"),
        ({"conv_layer_size": 0}, ValueError, "conv_layer_size of at least 1, got 0"),
        ({"n_downsampling": -1}, ValueError, "n_downsampling of at least 0, got -1"),
        ({"n_upsampling": -1}, ValueError, "n_upsampling of at least 0, got -1"),
        ({"n_blocks": -1}, ValueError, "n_blocks of at least 0, got -1"),
        ({"padding_type": "circular", "n_blocks": 0}, ValueError, "zero, reflect, replicate, got"),
        ({"activation_fn": "rellu"}, KeyError, "did you mean relu"),
    ],
)
def test_options_that_there_are_not(arguments, error, text):
    with pytest.raises(error, match=text):
        build(**arguments)


@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        (torch.zeros(1, 3, 8, 8), ValueError, r"\(batch, in_channels=2, n1, n2\), got"),
        (torch.zeros(2, 8, 8), ValueError, "which has 3 dimensions"),
        (torch.zeros(1, 2, 8, 8, dtype=torch.int64), TypeError, "floating-point numbers"),
    ],
)
def test_inputs_that_do_not_fit(x, error, text):
    with pytest.raises(error, match=text):
        build()(x)


@pytest.mark.parametrize(
    ("arguments", "least"),
    [
        ({}, 5),
        ({"n_downsampling": 3}, 9),
        ({"n_downsampling": 1}, 4),
        ({"n_blocks": 0}, 4),
        ({"padding_type": "zero"}, 4),
        ({"padding_type": "replicate", "n_downsampling": 3}, 4),
    ],
)
def test_smallest_grid(arguments, least):
    model = build(**arguments)
    assert model(torch.randn(1, 2, least, least)).isfinite().all()
    message = rf"at least {least} points along each axis, got .*\(1, 2, {least - 1}, 9\); the model"
    with pytest.raises(ValueError, match=message):
        model(torch.randn(1, 2, least - 1, 9))


def test_block_has_an_activation_of_its_own_by_default():
    first, second = ResnetBlock(1, 2), ResnetBlock(1, 2)
    assert isinstance(first.conv_block[2], torch.nn.ReLU)
    assert first.conv_block[2] is not second.conv_block[2]
