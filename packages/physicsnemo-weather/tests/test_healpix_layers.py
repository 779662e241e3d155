# SPDX-License-Identifier: Apache-2.0
"""Layers and blocks on the HEALPix grid: their shapes, their formulas, what they refuse."""

import pytest
import torch
from torch import nn

from physicsnemo.models.dlwp_healpix_layers import (
    AvgPool,
    BasicConvBlock,
    ConvGRUBlock,
    ConvNeXtBlock,
    DoubleConvNeXtBlock,
    HEALPixFoldFaces,
    HEALPixLayer,
    HEALPixPadding,
    HEALPixPaddingv2,
    HEALPixUnfoldFaces,
    Interpolate,
    MaxPool,
    Multi_SymmetricConvNeXtBlock,
    SymmetricConvNeXtBlock,
    TransposedConvUpsample,
)

BLOCKS = [
    BasicConvBlock,
    ConvNeXtBlock,
    DoubleConvNeXtBlock,
    SymmetricConvNeXtBlock,
    Multi_SymmetricConvNeXtBlock,
]


def faces(channels=2, size=4, batch=1):
    shape = (12 * batch, channels, size, size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def conv(x, weight, bias):
    """Convolve faces the long way."""
    size = weight.shape[-1] // 2
    return nn.functional.conv2d(HEALPixPadding(size)(x) if size else x, weight, bias)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("channels", [(2, 3, 4), (3, 3, 3), (3, 3, 4), (3, 2, 3)], ids=str)
@pytest.mark.parametrize("enable_nhwc", [False, True])
def test_blocks_keep_the_grid(block, channels, enable_nhwc):
    before, latent, after = channels
    layer = block(
        in_channels=before,
        latent_channels=latent,
        out_channels=after,
        dilation=2,
        n_layers=2,
        activation="gelu",
        enable_nhwc=enable_nhwc,
    )
    assert layer(faces(before)).shape == (12, after, 4, 4)


def test_nhwc_changes_no_number():
    torch.manual_seed(0)
    plain, nhwc = (ConvNeXtBlock(in_channels=2, enable_nhwc=nhwc) for nhwc in (False, True))
    nhwc.load_state_dict(plain.state_dict())
    weight = nhwc.convblock[0].layers[1].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(nhwc(faces()), plain(faces()))


@pytest.mark.parametrize("dilation", [1, 2])
def test_dilated_convolution_sees_over_edges(dilation):
    layer = HEALPixLayer(
        nn.Conv2d, in_channels=1, out_channels=1, kernel_size=3, dilation=dilation, bias=False
    )
    nn.init.zeros_(layer.layers[1].weight)[0, 0, 0, 1] = 1  # what lies to the north-east
    x = faces(1)
    expected = HEALPixPadding(dilation)(x)[:, :, : 4, dilation:-dilation]
    assert torch.equal(layer(x), expected)


@pytest.mark.parametrize(
    ("layer", "keys"),
    [
        (HEALPixLayer(nn.Conv2d, in_channels=1, out_channels=1, kernel_size=3), "layers.1."),
        (HEALPixLayer(nn.Conv2d, in_channels=1, out_channels=1, kernel_size=1), "layers.0."),
        (
            HEALPixLayer(nn.ConvTranspose2d, in_channels=1, out_channels=1, kernel_size=2),
            "layers.0.",
        ),
        (SymmetricConvNeXtBlock(), "skip_module.layers.0.,convblock.0.layers.1.,convblock.1.layers.0."
         ",convblock.2.layers.0.,convblock.3.layers.1."),
        (ConvNeXtBlock(in_channels=1), "convblock.0.layers.1.,convblock.1.layers.1.,"
         "convblock.2.layers.0."),
        (TransposedConvUpsample(), "upsampler.0.layers.0."),
        (ConvGRUBlock(), "conv_gates.layers.0.,conv_can.layers.0."),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)  # fmt: skip
def test_names_of_weights(layer, keys):
    assert list(layer.state_dict()) == [f"{key}{w}" for key in keys.split(",") for w in ("weight", "bias")]


def test_names_of_weights_of_several_blocks():
    double = DoubleConvNeXtBlock(in_channels=2, latent_channels=3, out_channels=4)
    parts = {name.partition(".")[0] for name in double.state_dict()}
    assert parts == {"skip_module1", "skip_module2", "convblock1", "convblock2"}
    multi = Multi_SymmetricConvNeXtBlock(n_layers=3)
    assert {name[:9] for name in multi.state_dict()} == {"blocks.0.", "blocks.1.", "blocks.2."}


def test_gated_memory_by_its_formula():
    torch.manual_seed(0)
    block, x = ConvGRUBlock(in_channels=2, kernel_size=3), faces()
    weights = block.state_dict()

    def step(h):
        gates = conv(torch.cat((x, h), 1), *list(weights.values())[:2]).sigmoid()
        reset, update = gates[:, :2], gates[:, 2:]
        new = conv(torch.cat((x, reset * h), 1), *list(weights.values())[2:]).tanh()
        return h + update * (new - h)

    first = step(torch.zeros_like(x))
    torch.testing.assert_close(block(x), x + first)
    torch.testing.assert_close(block(x), x + step(first))
    assert "h" not in weights
    block.reset()
    torch.testing.assert_close(block(x), x + first)
    assert block(faces(batch=2)).shape[0] == 24  # the memory of another batch is no use


def test_double_block_by_its_formula():
    torch.manual_seed(0)
    block = DoubleConvNeXtBlock(
        in_channels=2, latent_channels=3, out_channels=2, upscale_factor=2, activation="silu"
    )
    x, act = faces(), nn.functional.silu

    def part(chain, x):
        for index in (0, 2, 4):
            layer = chain[index].layers[-1]
            x = act(conv(x, layer.weight, layer.bias))
        return x

    half = block.skip_module1(x) + part(block.convblock1, x)
    expected = block.skip_module2(half) + part(block.convblock2, half)
    torch.testing.assert_close(block(x), expected)
    assert [chain[2].layers[-1].out_channels for chain in (block.convblock1, block.convblock2)] == [6, 6]


def test_pooling_and_refinement():
    x = faces()
    cells = x.unflatten(3, (2, 2)).unflatten(2, (2, 2)).transpose(3, 4).flatten(-2)
    torch.testing.assert_close(AvgPool()(x), cells.mean(-1))
    assert torch.equal(MaxPool()(x), cells.amax(-1))
    assert torch.equal(MaxPool(pooling=2)(Interpolate(2)(x)), x)
    assert Interpolate(2, mode="bilinear")(x).shape == (12, 2, 8, 8)
    up = TransposedConvUpsample(in_channels=2, out_channels=3, upsampling=4, activation="relu")
    assert up(x).shape == (12, 3, 16, 16)
    assert up(x).min() == 0


def test_folding():
    x = torch.randn(2, 12, 3, 4, 4)
    folded = HEALPixFoldFaces()(x)
    assert torch.equal(folded[12], x[1, 0])
    assert torch.equal(HEALPixUnfoldFaces()(folded), x)
    assert HEALPixPaddingv2 is HEALPixPadding


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: HEALPixLayer(nn.Conv2d, in_channels=1, out_channels=1), KeyError, "kernel_size"),
        (lambda: BasicConvBlock(kernel_size=4), ValueError, "odd number, as in 3, got 4"),
        (lambda: Interpolate(2, in_channels=2, out_channels=3), ValueError, "in_channels=2"),
        (lambda: HEALPixFoldFaces()(torch.ones(1, 6, 1, 2, 2)), ValueError, "12 faces.*got 6"),
        (lambda: HEALPixFoldFaces()(torch.ones(12, 1, 2, 2)), ValueError, r"got \(12, 1, 2, 2\)"),
        (lambda: HEALPixUnfoldFaces()(torch.ones(13, 1, 2, 2)), ValueError, "got 13 faces"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
