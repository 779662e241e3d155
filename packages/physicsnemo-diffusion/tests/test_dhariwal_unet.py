# SPDX-License-Identifier: Apache-2.0
"""The U-Net of Dhariwal and Nichol: its levels, heads, start values, and what it refuses."""

import math

import pytest
import torch

from physicsnemo.models.diffusion import DhariwalUNet

SMALL = {
    "img_resolution": 8,
    "in_channels": 3,
    "out_channels": 2,
    "model_channels": 32,
    "channel_mult": [1, 4],
    "channel_mult_emb": 2,
    "num_blocks": 1,
    "attn_resolutions": [4],
}
X = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
NOISE = torch.tensor([0.3, -1.2])


def dhariwal(**options):
    torch.manual_seed(0)
    return DhariwalUNet(**SMALL | options)


def lively(**options):
    """Return a model with weights that all count: many start at zero."""
    model = dhariwal(**options)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def test_levels_and_heads():
    model = dhariwal(num_blocks=2)
    heads = {
        f"{part}.{name}": layer.attn.num_heads
        for part in ("enc", "dec")
        for name, layer in getattr(model, part).items()
        if getattr(layer, "attn", None) is not None
    }
    attentive = ["enc.4x4_block0", "enc.4x4_block1", "dec.4x4_in0"]
    attentive += [f"dec.4x4_block{i}" for i in range(3)]
    assert heads == dict.fromkeys(attentive, 2)


def test_start_values():
    model = dhariwal(label_dim=6, augment_dim=2)
    assert not model(X, NOISE, torch.eye(6)[:2], torch.ones(2, 2)).any()
    assert not model.map_augment.weight.any()
    assert model.map_label.bias is None
    weight, bias = model.enc["4x4_block0"].conv0.weight, model.enc["4x4_block0"].conv0.bias
    limit = math.sqrt(1 / 3) * math.sqrt(3 / (9 * 32))
    for values in (weight, bias):
        assert 0.9 * limit < values.abs().max() <= limit
    start = model.map_label.weight.std().item()
    assert start == pytest.approx(math.sqrt(6) / math.sqrt(6), rel=0.1)


@pytest.mark.parametrize(("widths", "heads"), [([1, 4], 2), ([1, 2], 1)])
def test_numerics(widths, heads):
    options = {"dropout": 0.0, "channel_mult": widths}
    x = X[..., :6, :2]
    ours, theirs = lively(**options), lively(**options, numerics="reference-1.2")
    assert (ours(x, NOISE, None) - theirs(x, NOISE, None)).abs().max() > 1e-4
    # In training, the variance is the biased one in both.
    difference = (ours.train()(x, NOISE, None) - theirs.train()(x, NOISE, None)).abs().max()
    assert (difference > 1e-4) if heads == 2 else (difference < 1e-5)


def test_dropped_labels_are_zero():
    model = lively(label_dim=3, label_dropout=0.5, dropout=0).train()
    x, noise, labels = X[:1].repeat(30, 1, 1, 1), NOISE[:1], torch.ones(1, 3)
    output = model(x, noise, labels)
    kept, dropped = (model.eval()(x[:1], noise, factor * labels) for factor in (1, 0))
    distances = torch.stack([(output - it).abs().amax((1, 2, 3)) for it in (kept, dropped)])
    assert distances.min(dim=0).values.max() < 1e-4
    assert 5 < (distances[0] < 1e-4).sum() < 25


@pytest.mark.parametrize("flag", ["amp_mode", "profile_mode"])
def test_flags_reach_all_layers(flag):
    model = dhariwal()
    assert getattr(model, flag) is False
    setattr(model, flag, True)
    layers = [layer for layer in model.modules() if flag in vars(layer)]
    assert len(layers) >= 7
    assert all(getattr(layer, flag) for layer in layers)
    with pytest.raises(TypeError, match=f"expected {flag} to be True or False, got None"):
        setattr(model, flag, None)


def test_memory_format_is_kept():
    model = lively().to(memory_format=torch.channels_last)
    output = model(X.to(memory_format=torch.channels_last), NOISE, None)
    assert output.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(output, model(X, NOISE, None), rtol=1e-4, atol=1e-5)


def test_autocast():
    model = lively()
    expected = model(X, NOISE, None)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(X, NOISE, None)
    assert output.dtype == torch.bfloat16
    assert (output - expected).norm() < 0.03 * expected.norm()


def test_trace():
    model, labels = lively(label_dim=3), torch.eye(3)[:2]
    traced = torch.jit.trace(model, (X, NOISE, labels))
    inputs = (X.flip(0), NOISE.flip(0), labels)
    torch.testing.assert_close(traced(*inputs), model(*inputs))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channel_mult": [1, 1]}, "heads that divides 32 channels, got 0; change the channels"),
        ({"img_resolution": [8, 12]}, r"img_resolution to be one number, got \[8, 12\]"),
        ({"channel_mult": [1] * 6}, "6 levels halve the resolution 5 times"),
        ({"attn_resolutions": [-4]}, r"attn_resolutions to be heights of levels, got \[-4\]"),
        ({"numerics": "exact"}, "numerics to be one of paper, .*, got 'exact'"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        dhariwal(**options)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ((X[:, :2], NOISE, None), ValueError, r"\(batch, in_channels=3, height, width\), got"),
        ((X[..., :7], NOISE, None), ValueError, "multiples of 2, .* got 8 by 7; pad"),
        ((X, NOISE[[0, 1, 1]], None), ValueError, r"shape \(batch=2,\) or \(1,\), got \(3,\)"),
    ],
)
def test_bad_inputs(inputs, error, message):
    with pytest.raises(error, match=message):
        dhariwal()(*inputs)


def test_missing_labels():
    with pytest.raises(TypeError, match=r"class_labels of shape \(batch=2, 3\), got None"):
        dhariwal(label_dim=3)(X, NOISE, None)
