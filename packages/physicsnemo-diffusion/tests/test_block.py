# SPDX-License-Identifier: Apache-2.0
"""The block of the U-Nets against its formula."""

import math

import pytest
import torch
from torch.nn import functional
from torch.nn.functional import silu

from physicsnemo.models.diffusion import UNetBlock

EMB = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
X = torch.randn(2, 8, 4, 6, generator=torch.Generator().manual_seed(1))


def block(**options):
    torch.manual_seed(0)
    layer = UNetBlock(8, options.pop("out_channels", 8), 5, **options)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return layer


def group_norm(norm, x):
    return functional.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)


def conv(layer, x):
    return functional.conv2d(x, layer.weight, layer.bias, padding=layer.weight.shape[-1] // 2)


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("out_channels", [8, 12])
@pytest.mark.parametrize("act", ["silu", "relu"])
def test_formula(adaptive, out_channels, act):
    layer = block(out_channels=out_channels, adaptive_scale=adaptive, skip_scale=0.5, act=act)
    assert (layer.skip is None) == (out_channels == 8)
    function = getattr(functional, act)
    h = conv(layer.conv0, function(group_norm(layer.norm0, X)))
    signal = (EMB @ layer.affine.weight.T + layer.affine.bias)[:, :, None, None]
    if adaptive:
        scale, shift = signal[:, :out_channels], signal[:, out_channels:]
        h = function(shift + group_norm(layer.norm1, h) * (1 + scale))
    else:
        h = function(group_norm(layer.norm1, h + signal))
    shortcut = X if layer.skip is None else conv(layer.skip, X)
    expected = 0.5 * (shortcut + conv(layer.conv1, h))
    torch.testing.assert_close(layer(X, EMB), expected)


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ({}, set()),
        ({"up": True}, {"skip.resample_filter"}),
        ({"down": True, "resample_proj": True}, {"weight", "bias", "resample_filter"}),
        ({"out_channels": 4, "resample_proj": False}, {"weight", "bias"}),
    ],
)
def test_weights_of_the_skip_connection(options, keys):
    names = {name for name in block(**options).state_dict() if name.startswith("skip")}
    assert names == {name if "." in name else f"skip.{name}" for name in keys}


def test_attention_comes_last():
    layer = block(attention=True, num_heads=2, skip_scale=math.sqrt(0.5))
    before = []
    layer.attn.register_forward_pre_hook(lambda module, inputs: before.append(inputs[0]))
    output = layer(X, EMB)
    torch.testing.assert_close(output, layer.attn(before[0]) * math.sqrt(0.5))


def test_heads_by_their_channels():
    assert block(attention=True, channels_per_head=2).attn.num_heads == 4
    with pytest.raises(ValueError, match="heads that divides 8 channels, got 0"):
        block(attention=True)


def test_dropout_in_training_only():
    layer, plain = block(dropout=0.5), block()
    layer.eval()
    torch.testing.assert_close(layer(X, EMB), plain(X, EMB), atol=0, rtol=0)
    layer.train()
    assert (layer(X, EMB) - layer(X, EMB)).abs().max() > 0.1


def test_it_starts_as_the_identity():
    torch.manual_seed(0)
    layer = UNetBlock(8, 8, 5, attention=True, num_heads=2)
    torch.testing.assert_close(layer(X, EMB), X, atol=0, rtol=0)


def test_one_embedding_for_all():
    layer = block()
    torch.testing.assert_close(layer(X, EMB[:1]), layer(X, EMB[:1].expand(2, -1)))


@pytest.mark.parametrize("up", [False, True])
def test_resolution(up):
    assert block(up=up, down=not up)(X, EMB).shape == ((2, 8, 8, 12) if up else (2, 8, 2, 3))


def test_former_names_of_attention():
    layer = block(attention=True, num_heads=1)
    state = layer.state_dict()
    for former, current in (("norm2", "norm"), ("qkv", "qkv"), ("proj", "proj")):
        for name in ("weight", "bias"):
            state[f"{former}.{name}"] = state.pop(f"attn.{current}.{name}")
    whole = torch.nn.ModuleDict({"inner": block(attention=True, num_heads=1)})
    torch.nn.init.zeros_(whole["inner"].attn.qkv.weight)
    whole.load_state_dict({f"inner.{name}": value for name, value in state.items()})
    torch.testing.assert_close(whole["inner"].attn.qkv.weight, layer.attn.qkv.weight)
    torch.testing.assert_close(whole["inner"](X, EMB), layer(X, EMB))


def test_profile():
    layer = block(profile_mode=True)
    with torch.profiler.profile() as profile:
        layer(X, EMB)
        layer.profile_mode = False
        layer(X, EMB)
    assert [event.name for event in profile.events()].count("UNetBlock") == 1


def test_bad_activation():
    with pytest.raises(ValueError, match="act to be one of silu, .*, got 'silly'"):
        block(act="silly")


def test_activation_is_silu_by_default():
    layer = block()
    assert layer.norm0.activation is layer.norm1.activation is silu
