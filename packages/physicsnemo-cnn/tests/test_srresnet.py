# SPDX-License-Identifier: Apache-2.0
"""SRResNet against a reference implementation; names of weights; clear errors."""

import inspect

import pytest
import torch
from torch.nn import functional

from physicsnemo.models.srrn import SRResNet

SMALL = {
    "in_channels": 2,
    "out_channels": 3,
    "large_kernel_size": 5,
    "small_kernel_size": 3,
    "conv_layer_size": 4,
    "n_resid_blocks": 2,
    "scaling_factor": 2,
}


def build(**arguments):
    return SRResNet(**SMALL | arguments)


def randomized(model):
    """Give the normalizations statistics and weights that they do not start from."""
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor + 0.3 * torch.rand_like(tensor))
    return model.double().eval()


def reference_implementation(weights, x, blocks, doublings):
    def convolve(name, x):
        weight = weights[f"{name}.weight"]
        return functional.conv3d(x, weight, weights[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def normalize(name, x):
        mean, variance, weight, bias = (
            weights[f"{name}.{part}"].reshape(-1, 1, 1, 1)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    def normalized(name, x):
        return normalize(f"{name}.conv_block.1", convolve(f"{name}.conv_block.0", x))

    def activate(name, x):
        return torch.where(x > 0, x, weights[f"{name}.weight"] * x)

    lifted = activate("conv_block1.activation_fn", convolve("conv_block1.conv_block.0", x))
    x = lifted
    for block in range(blocks):
        name = f"residual_blocks.{block}.conv_layers"
        hidden = activate("conv_block1.activation_fn", normalized(f"{name}.0", x))
        x = x + normalized(f"{name}.1", hidden)
    x = lifted + normalized("conv_block2", x)
    for doubling in range(doublings):
        name = f"subpixel_convolutional_blocks.{doubling}"
        x = convolve(f"{name}.conv", x)
        finer = x.new_empty(x.shape[0], x.shape[1] // 8, *(2 * n for n in x.shape[2:]))
        for i, j, k in torch.cartesian_prod(*[torch.arange(2)] * 3).tolist():
            finer[:, :, i::2, j::2, k::2] = x[:, 4 * i + 2 * j + k :: 8]
        x = activate(f"{name}.prelu", finer)
    return convolve("conv_block3.conv_block.0", x)


def test_signature():
    assert {name: p.default for name, p in inspect.signature(SRResNet).parameters.items()} == {
        "in_channels": inspect.Parameter.empty,
        "out_channels": inspect.Parameter.empty,
        "large_kernel_size": 7,
        "small_kernel_size": 3,
        "conv_layer_size": 32,
        "n_resid_blocks": 8,
        "scaling_factor": 8,
        "activation_fn": "prelu",
    }


@pytest.mark.parametrize(("scaling_factor", "doublings"), [(2, 1), (4, 2), (8, 3)])
@pytest.mark.parametrize("blocks", [0, 2])
def test_network_equals_the_reference_implementation(scaling_factor, doublings, blocks):
    model = randomized(build(scaling_factor=scaling_factor, n_resid_blocks=blocks))
    x = torch.randn(2, 2, 1, 3, 2, dtype=torch.float64)
    expected = reference_implementation(model.state_dict(), x, blocks, doublings)
    assert expected.shape == (2, 3, *(scaling_factor * n for n in (1, 3, 2)))
    torch.testing.assert_close(model(x), expected)


def test_layers_share_the_activation():
    model = build()
    names = [name for name in model.state_dict() if "activation_fn" in name]
    blocks = [f"residual_blocks.{i}.conv_layers.0.activation_fn.weight" for i in range(2)]
    assert names == ["conv_block1.activation_fn.weight", *blocks]
    assert len({id(model.get_parameter(name)) for name in names}) == 1
    assert not any("activation_fn" in name for name in build(activation_fn="silu").state_dict())


def test_activation_of_the_user():
    with pytest.warns(UserWarning, match="cannot be stored in a checkpoint"):
        model = build(activation_fn=torch.nn.Tanh())
    twin = build(activation_fn="tanh")
    twin.load_state_dict(model.state_dict())
    x = torch.randn(1, 2, 2, 3, 2)
    assert torch.equal(model.eval()(x), twin.eval()(x))


def test_a_trace_serves_other_grids():
    model = build().eval()
    traced, x = torch.jit.trace(model, torch.randn(1, 2, 2, 3, 2)), torch.randn(2, 2, 1, 4, 3)
    torch.testing.assert_close(traced(x), model(x))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"scaling_factor": 3}, ValueError, "expected scaling_factor 2, 4 or 8, got 3"),
        ({"scaling_factor": 1}, ValueError, "expected scaling_factor 2, 4 or 8, got 1"),
        ({"in_channels": 0}, ValueError, "in_channels of at least 1, got 0"),
        ({"out_channels": -1}, ValueError, "out_channels of at least 1, got -1"),
        ({"conv_layer_size": 0}, ValueError, "conv_layer_size of at least 1, got 0"),
        ({"n_resid_blocks": -1}, ValueError, "n_resid_blocks of at least 0, got -1"),
        ({"large_kernel_size": 4}, ValueError, "odd kernel_size, which keeps the grid, got 4"),
        ({"small_kernel_size": 2}, ValueError, "odd kernel_size, which keeps the grid, got 2"),
        ({"activation_fn": "prellu"}, KeyError, "did you mean prelu"),
    ],
)
def test_options_that_there_are_not(arguments, error, text):
    with pytest.raises(error, match=text):
        build(**arguments)


@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        (torch.zeros(1, 3, 4, 4, 4), ValueError, r"\(batch, in_channels=2, n1, n2, n3\), got"),
        (torch.zeros(1, 2, 4, 4), ValueError, "which has 4 dimensions"),
        (torch.zeros(1, 2, 4, 4, 4, dtype=torch.int64), TypeError, "floating-point numbers"),
    ],
)
def test_inputs_that_do_not_fit(x, error, text):
    with pytest.raises(error, match=text):
        build()(x)
