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
    UNetDecoder,
    UNetEncoder,
)

LAYERS = "physicsnemo.models.dlwp_healpix_layers."
BASIC, POOL, UP, GRU = (
    {"_target_": LAYERS + name}
    for name in ("BasicConvBlock", "AvgPool", "TransposedConvUpsample", "ConvGRUBlock")
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
    nn.init.dirac_(layer.layers[1].weight)
    layer.layers[1].weight.data = layer.layers[1].weight.roll(-1, 2).data  # to the north-east
    x = faces(1)
    expected = HEALPixPadding(dilation)(x)[:, :, :4, dilation:-dilation]
    assert torch.equal(layer(x), expected)


def image(layer, **arguments):
    return HEALPixLayer(layer, in_channels=1, out_channels=1, **arguments)


WEIGHTS = {
    "padded": (image(nn.Conv2d, kernel_size=3), ["layers.1"]),
    "unpadded": (image(nn.Conv2d, kernel_size=1), ["layers.0"]),
    "transposed": (image(nn.ConvTranspose2d, kernel_size=2), ["layers.0"]),
    "upsample": (TransposedConvUpsample(), ["upsampler.0.layers.0"]),
    "memory": (ConvGRUBlock(), ["conv_gates.layers.0", "conv_can.layers.0"]),
    "convnext": (
        ConvNeXtBlock(in_channels=1),
        ["convblock.0.layers.1", "convblock.1.layers.1", "convblock.2.layers.0"],
    ),
    "symmetric": (
        SymmetricConvNeXtBlock(activation="gelu"),
        [
            "skip_module.layers.0",
            "convblock.0.layers.1",
            "convblock.2.layers.0",
            "convblock.4.layers.0",
            "convblock.6.layers.1",
        ],
    ),
}


@pytest.mark.parametrize(("layer", "keys"), WEIGHTS.values(), ids=WEIGHTS)
def test_names_of_weights(layer, keys):
    expected = [f"{key}.{part}" for key in keys for part in ("weight", "bias")]
    assert list(layer.state_dict()) == expected


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


def chain(layers, x, last=True):
    """Apply convolutions and SiLU the long way, and return the widths."""
    convolutions = [layer.layers[-1] for layer in layers if isinstance(layer, HEALPixLayer)]
    for index, layer in enumerate(convolutions):
        x = conv(x, layer.weight, layer.bias)
        if last or index + 1 < len(convolutions):
            x = nn.functional.silu(x)
    return x, [layer.out_channels for layer in convolutions]


# Of blocks from 2 over 3 to 4 channels, with the factor 2: the widths, and kernels, between skips.
PARTS = {
    BasicConvBlock: [([3, 4], [3, 3])],
    ConvNeXtBlock: [([6, 6, 4], [3, 3, 1])],
    DoubleConvNeXtBlock: [([3, 6, 3], [3, 1, 1]), ([3, 6, 4], [3, 1, 1])],
    SymmetricConvNeXtBlock: [([3, 6, 3, 4], [3, 1, 1, 3])],
}


@pytest.mark.parametrize(("block", "parts"), PARTS.items())
def test_blocks_by_their_formulas(block, parts):
    torch.manual_seed(0)
    basic, several = block is BasicConvBlock, len(parts) > 1
    factor = {} if basic else {"upscale_factor": 2}
    layer = block(
        in_channels=2, latent_channels=3, out_channels=4, n_layers=2, activation="silu", **factor
    )
    x = faces()
    output = layer(x)
    for number, (widths, kernels) in enumerate(parts, 1):
        suffix = str(number) if several else ""
        layers = getattr(layer, f"convblock{suffix}")
        change, found = chain(layers, x, last=block is not ConvNeXtBlock)
        assert found == widths
        assert [c.layers[-1].kernel_size[0] for c in layers if hasattr(c, "layers")] == kernels
        x = change if basic else getattr(layer, f"skip_module{suffix}")(x) + change
    torch.testing.assert_close(output, x)


@pytest.mark.parametrize(
    ("block", "channels", "skips"),
    [
        (ConvNeXtBlock, (2, 3, 2), [True]),
        (ConvNeXtBlock, (2, 2, 3), [False]),
        (DoubleConvNeXtBlock, (2, 2, 3), [True, False]),
        (DoubleConvNeXtBlock, (2, 3, 3), [False, True]),
        (SymmetricConvNeXtBlock, (2, 2, 2), [True]),
        (SymmetricConvNeXtBlock, (2, 3, 2), [False]),
        (SymmetricConvNeXtBlock, (2, 2, 3), [False]),
        (Multi_SymmetricConvNeXtBlock, (2, 3, 3), [False, True, True]),
    ],
)
def test_where_a_skip_is_the_input_itself(block, channels, skips):
    before, latent, after = channels
    layer = block(in_channels=before, latent_channels=latent, out_channels=after, n_layers=3)
    found = [part for name, part in layer.named_modules() if "skip_module" in name.split(".")[-1]]
    assert [isinstance(skip, nn.Identity) for skip in found] == skips


def test_several_blocks_follow_each_other():
    torch.manual_seed(0)
    multi = Multi_SymmetricConvNeXtBlock(in_channels=2, out_channels=3, n_layers=2)
    assert torch.equal(multi(faces()), multi.blocks[1](multi.blocks[0](faces())))


def test_encoder_and_decoder_by_their_parts():
    torch.manual_seed(0)
    block, levels = BASIC | {"activation": "silu"}, {"n_layers": [1, 2], "dilations": [2, 1]}
    encoder = UNetEncoder(block, POOL, input_channels=2, n_channels=[3, 4], **levels)
    decoder = UNetDecoder(
        block, UP, BASIC | {"kernel_size": 1}, GRU, n_channels=[4, 3], output_channels=5, **levels
    )
    fine, coarse = encoder(faces())
    assert torch.equal(fine, encoder.encoder[0][0](faces()))
    assert torch.equal(coarse, encoder.encoder[1][1](AvgPool()(fine)))
    outputs, memory = decoder.step([fine, coarse])
    x = coarse
    for number, level in enumerate(decoder.decoder):
        x = torch.cat((level["upsamp"](x), fine), dim=1) if number else x
        x, h = level["recurrent"].step(level["conv"](x), None)
        assert torch.equal(memory[number], h)
    assert torch.equal(outputs, decoder.output_layer(x))
    assert outputs.shape == (12, 5, 4, 4)
    for half, dilations in ((encoder, [2, 1, 1]), (decoder, [2, 1, 1])):
        wide = [m.dilation[0] for m in half.modules() if getattr(m, "kernel_size", 0) == (3, 3)]
        assert wide == dilations


def test_a_decoder_of_its_own_remembers():
    torch.manual_seed(0)
    decoder = UNetDecoder(BASIC, UP, BASIC, GRU, n_channels=[2], n_layers=[1])
    outputs, memory = decoder.step([faces()])
    assert torch.equal(decoder([faces()]), outputs)
    second = decoder([faces()])
    assert torch.equal(second, decoder.step([faces()], memory)[0])
    assert not torch.equal(second, outputs)
    decoder.reset()
    assert torch.equal(decoder([faces()]), outputs)


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
        (lambda: BasicConvBlock(n_layers=-1), ValueError, "n_layers of at least 0, got -1"),
        (lambda: Multi_SymmetricConvNeXtBlock(n_layers=-1), ValueError, "n_layers of at least 0"),
        (lambda: Interpolate(2, in_channels=2, out_channels=3), ValueError, "in_channels=2"),
        (
            lambda: UNetDecoder(BASIC, UP, BASIC, BASIC),
            ValueError,
            "a ConvGRUBlock as recurrent_block, got that of a BasicConvBlock",
        ),
        (lambda: HEALPixFoldFaces()(torch.ones(1, 6, 1, 2, 2)), ValueError, "12 faces.*got 6"),
        (lambda: HEALPixFoldFaces()(torch.ones(12, 1, 2, 2)), ValueError, r"got \(12, 1, 2, 2\)"),
        (lambda: HEALPixUnfoldFaces()(torch.ones(13, 1, 2, 2)), ValueError, "got 13 faces"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
