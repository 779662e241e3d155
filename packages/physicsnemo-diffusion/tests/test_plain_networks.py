# SPDX-License-Identifier: Apache-2.0
"""Whole networks against the same in plain functions, driven by the names of their weights."""

import math

import pytest
import torch
from torch.nn import functional
from torch.nn.functional import silu

from physicsnemo.models.diffusion import Conv2d, DhariwalUNet, SongUNet

SMALL = {
    "img_resolution": [8, 12],
    "in_channels": 3,
    "out_channels": 2,
    "label_dim": 3,
    "augment_dim": 2,
    "model_channels": 8,
    "channel_mult": [1, 2, 2],
    "channel_mult_emb": 2,
    "num_blocks": 2,
    "attn_resolutions": [4],
}
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(2, 3, 8, 12, generator=GENERATOR, dtype=torch.float64)
NOISE = torch.tensor([0.3, -1.2], dtype=torch.float64)
LABELS = torch.randn(2, 3, generator=GENERATOR, dtype=torch.float64)
AUGMENT = torch.randn(2, 2, generator=GENERATOR, dtype=torch.float64)


class Plain:
    """The weights of a network, and its layers as functions of their names."""

    def __init__(self, model, heads, scale, eps):
        self.state = model.state_dict()
        self.heads, self.scale, self.eps = heads, scale, eps

    def linear(self, name, x):
        bias = self.state.get(f"{name}.bias", 0)
        return x @ self.state[f"{name}.weight"].T + bias

    def norm(self, name, x, eps=None):
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        groups = min(32, math.ceil(x.shape[1] / 4))
        return functional.group_norm(x, groups, weight, bias, self.eps if eps is None else eps)

    def conv(self, name, x, **resampling):
        """Leave resampling to the layer, which has its own tests."""
        weight = self.state.get(f"{name}.weight")
        size = (
            (x.shape[1], x.shape[1], 0)
            if weight is None
            else (*weight.shape[1::-1], weight.shape[3])
        )
        layer = Conv2d(*size, **resampling).double()
        layer.load_state_dict({key: self.state[f"{name}.{key}"] for key in layer.state_dict()})
        return layer(x)

    def block(self, name, x, emb, taps=(1, 1)):
        way = {"up": name.endswith("_up"), "down": name.endswith("_down"), "resample_filter": taps}
        h = self.conv(f"{name}.conv0", silu(self.norm(f"{name}.norm0", x)), **way)
        signal = self.linear(f"{name}.affine", emb)[:, :, None, None]
        if signal.shape[1] == h.shape[1]:
            h = silu(self.norm(f"{name}.norm1", h + signal))
        else:
            scale, shift = signal.chunk(2, dim=1)
            h = silu(shift + self.norm(f"{name}.norm1", h) * (1 + scale))
        h = self.conv(f"{name}.conv1", h)
        if any(key.startswith(f"{name}.skip.") for key in self.state):
            x = self.conv(f"{name}.skip", x, **way)
        x = (h + x) * self.scale
        return self.attention(name, x) if f"{name}.attn.qkv.weight" in self.state else x

    def attention(self, name, x):
        mixed = self.conv(f"{name}.attn.qkv", self.norm(f"{name}.attn.norm", x))
        heads = self.heads(x.shape[1])
        shape = (len(x), heads, x.shape[1] // heads, 3, -1)
        query, key, value = mixed.reshape(shape).unbind(3)
        weights = torch.einsum("bhcq,bhck->bhqk", query, key) / math.sqrt(query.shape[2])
        out = torch.einsum("bhqk,bhck->bhcq", weights.softmax(-1), value).reshape(x.shape)
        return (self.conv(f"{name}.attn.proj", out) + x) * self.scale

    def names(self, part):
        found = dict.fromkeys(key.split(".")[1] for key in self.state if key.startswith(part))
        return [f"{part}.{name}" for name in found]


def waves(x, channels, endpoint):
    half = channels // 2
    frequencies = 10000 ** (-torch.arange(half, dtype=torch.float64) / (half - endpoint))
    angles = x[:, None] * frequencies
    return angles.cos(), angles.sin()


def song(model, taps=(1, 1), embedding="positional"):
    plain = Plain(model, lambda channels: 1, math.sqrt(0.5), 1e-6)
    if embedding == "positional":
        cosines, sines = waves(NOISE, 8, endpoint=True)
    elif embedding == "fourier":
        angles = 2 * math.pi * NOISE[:, None] * plain.state["map_noise.freqs"]
        cosines, sines = angles.cos(), angles.sin()
    if embedding == "zero":
        emb = torch.zeros(2, 16, dtype=torch.float64)
    else:
        emb = torch.cat((sines, cosines), dim=1)
        emb = emb + plain.linear("map_label", LABELS * math.sqrt(3))
        emb = emb + plain.linear("map_augment", AUGMENT)
        emb = silu(plain.linear("map_layer1", silu(plain.linear("map_layer0", emb))))

    skips, aux, x = [], X, X
    for name in plain.names("enc"):
        if name.endswith("_aux_down"):
            aux = plain.conv(name, aux, down=True, resample_filter=taps)
        elif name.endswith("_aux_skip"):
            x = skips[-1] = x + plain.conv(name, aux)
        elif name.endswith("_aux_residual"):
            seen = plain.conv(name, aux, down=True, resample_filter=taps, fused_resample=True)
            x = skips[-1] = aux = (x + seen) / math.sqrt(2)
        elif name.endswith("_conv"):
            x = plain.conv(name, x) + plain.state.get("spatial_emb", 0)
            skips.append(x)
        else:
            x = plain.block(name, x, emb, taps)
            skips.append(x)
    aux = normalized = 0
    for name in plain.names("dec"):
        if name.endswith("_aux_up"):
            aux = plain.conv(name, aux, up=True, resample_filter=taps)
        elif name.endswith("_aux_norm"):
            normalized = plain.norm(name, x)
        elif name.endswith("_aux_conv"):
            aux = aux + plain.conv(name, silu(normalized))
        else:
            if x.shape[1] != len(plain.state[f"{name}.norm0.weight"]):
                x = torch.cat((x, skips.pop()), dim=1)
            x = plain.block(name, x, emb, taps)
    assert not skips
    return aux


def dhariwal(model):
    plain = Plain(model, lambda channels: channels // 64, 1.0, 1e-5)
    emb = torch.cat(waves(NOISE, 32, endpoint=False), dim=1) + plain.linear("map_augment", AUGMENT)
    emb = plain.linear("map_layer1", silu(plain.linear("map_layer0", emb)))
    emb = silu(emb + plain.linear("map_label", LABELS))
    skips, x = [], X
    for name in plain.names("enc"):
        x = plain.conv(name, x) if name.endswith("_conv") else plain.block(name, x, emb)
        skips.append(x)
    for name in plain.names("dec"):
        if x.shape[1] != len(plain.state[f"{name}.norm0.weight"]):
            x = torch.cat((x, skips.pop()), dim=1)
        x = plain.block(name, x, emb)
    assert not skips
    return plain.conv("out_conv", silu(plain.norm("out_norm", x)))


def with_random_weights(model):
    """Make all weights count: many start at zero, or close to it."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.double().eval()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="ddpmpp"),
        pytest.param({"additive_pos_embed": True, "embedding_type": "zero"}, id="additive-zero"),
        pytest.param(
            {
                "embedding_type": "fourier",
                "channel_mult_noise": 2,
                "encoder_type": "residual",
                "resample_filter": [1, 3, 3, 1],
            },
            id="ncsnpp",
        ),
        pytest.param({"encoder_type": "skip", "decoder_type": "skip"}, id="skip-skip"),
        pytest.param({"encoder_type": "skip", "resample_filter": [1, 3, 3, 1]}, id="skip-standard"),
        pytest.param({"decoder_type": "skip", "resample_filter": [1, 3, 3, 1]}, id="standard-skip"),
        pytest.param({"encoder_type": "residual", "decoder_type": "skip"}, id="residual-skip"),
    ],
)
def test_song(options, training):
    model = with_random_weights(SongUNet(**SMALL | {"dropout": 0.0} | options)).train(training)
    expected = song(
        model,
        options.get("resample_filter", (1, 1)),
        options.get("embedding_type", "positional"),
    )
    output = model(X, NOISE, LABELS, AUGMENT)
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


def test_dhariwal():
    options = {"img_resolution": 8, "model_channels": 32, "channel_mult": [1, 4, 4]}
    model = with_random_weights(DhariwalUNet(**SMALL | options))
    assert model.enc["4x4_block0"].attn.num_heads == 2
    expected = dhariwal(model)
    output = model(X, NOISE, LABELS, AUGMENT)
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
