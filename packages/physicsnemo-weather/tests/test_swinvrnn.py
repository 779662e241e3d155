# SPDX-License-Identifier: Apache-2.0
"""SwinRNN against a reference implementation, and what patches do."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from physicsnemo.models.swinvrnn import SwinRNN

REFERENCE = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).with_name("reference_implementation.py")))
)

# 11 by 12 points, then 6 by 6, 3 by 3 and 2 by 2.
SMALL = {
    "img_size": [2, 21, 34],
    "patch_size": [2, 2, 3],
    "in_chans": 3,
    "out_chans": 3,
    "embed_dim": 4,
    "num_groups": 2,
    "num_heads": 2,
    "window_size": 3,
}


def randomized(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.double().eval()


def convolve(weights, name, x, groups, stride=1):
    """Apply a convolution, or a transposed one for a kernel of two by two, and its residuals."""
    kernel, bias = weights[f"{name}.conv.weight"], weights[f"{name}.conv.bias"]
    if kernel.shape[-1] == 2:
        x = functional.conv_transpose2d(x, kernel, bias, stride=2)
    else:
        x = functional.conv2d(x, kernel, bias, stride=stride, padding=1)
    y = x
    for index in (0, 3):
        scale, shift = (weights[f"{name}.b.{index + 1}.{part}"] for part in ("weight", "bias"))
        kernel, bias = (weights[f"{name}.b.{index}.{part}"] for part in ("weight", "bias"))
        y = functional.conv2d(y, kernel, bias, padding=1)
        y = functional.silu(functional.group_norm(y, groups, scale, shift))
    return x + y


def reference_implementation(model, x):
    """Compute the network for 21 by 34 points in patches of 2 by 3."""
    weights = model.state_dict()
    h = REFERENCE.embed(weights, "cube_embedding", x, [(0, 0), (0, 1), (1, 1)]).squeeze(1)
    h = REFERENCE.norm(weights, "cube_embedding.norm", h)
    state = functional.avg_pool2d(functional.pad(x[:, :, -1], (1, 1, 0, 1)), (2, 3))
    features = []
    for level in (1, 2, 3, 4):
        if level > 1:
            h = convolve(weights, f"down{level - 1}", h.movedim(-1, 1), 2, 2).movedim(1, -1)
            state = convolve(weights, f"down{level - 1}x", state, 3, 2)
        h = REFERENCE.swin_stage(weights, f"swin_block{level}", h, (3, 3))
        y = REFERENCE.linear(weights, f"lin_proj{level}", torch.cat((state.movedim(1, -1), h), -1))
        y = REFERENCE.swin_stage(weights, f"swin_decoder{level}", y, (3, 3))
        features.append((h + y).movedim(-1, 1))
    y = features[3]
    for level in (3, 2, 1):
        rows, columns = features[level - 1].shape[2:]
        y = convolve(weights, f"up{level}x", y, 2)[..., :rows, :columns]
        y = torch.cat((features[level - 1], y), 1)
    y = convolve(weights, "pred", y, 3)
    change = torch.zeros(x.shape[0], 3, 22, 36, dtype=x.dtype)
    for channel in range(3):
        for i in range(2):
            for j in range(3):
                change[:, channel, i::2, j::3] = y[:, 6 * channel + 3 * i + j]
    return x[:, :, -1] + change[..., :21, 1:35]


def test_network_equals_the_reference_implementation():
    model, x = randomized(SwinRNN(**SMALL)), torch.randn(2, 3, 2, 21, 34, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model(x), reference_implementation(model, x))


def test_without_a_change_the_last_state_stays():
    model, x = SwinRNN(**SMALL).eval(), torch.randn(1, 3, 2, 21, 34)
    for parameter in model.pred.parameters():
        torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(model(x), x[:, :, -1], atol=0, rtol=0)


def test_patches_change_no_names():
    shapes, others = (
        {name: tensor.shape for name, tensor in SwinRNN(**arguments).state_dict().items()}
        for arguments in (SMALL, SMALL | {"patch_size": [2, 1, 1]})
    )
    assert shapes.keys() == others.keys()
    differing = {name.split(".")[0] for name in shapes if shapes[name] != others[name]}
    assert differing == {"cube_embedding", "pred"}


def test_names_of_the_state():
    state = SwinRNN(**SMALL).state_dict()
    inside = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    depths = {"block": 2, "decoder": 12}
    expected = {"device_buffer"}
    for level in range(1, 5):
        for name, depth in depths.items():
            blocks = [f"swin_{name}{level}.layer.blocks.{i}." for i in range(depth)]
            expected |= {b + f"{x}.{w}" for b in blocks for x in inside for w in ("weight", "bias")}
            expected |= {f"{b}attn.relative_position_bias_table" for b in blocks}
    convolutions = [
        f"{name}{k}{x}" for k in (1, 2, 3) for name, x in (("down", ""), ("down", "x"), ("up", "x"))
    ]
    layers = ["cube_embedding.proj", "cube_embedding.norm", *(f"lin_proj{k}" for k in range(1, 5))]
    for name in (*convolutions, "pred"):
        layers += [f"{name}.{part}" for part in ("conv", "b.0", "b.1", "b.3", "b.4")]
    expected |= {f"{layer}.{w}" for layer in layers for w in ("weight", "bias")}
    assert set(state) == expected
    assert state["swin_block1.layer.blocks.0.attn.relative_position_bias_table"].shape == (25, 2)


def test_default_size():
    with torch.device("meta"):
        state = SwinRNN().eval()(torch.empty(1, 70, 2, 721, 1440))
    assert state.shape == (1, 70, 721, 1440)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"img_size": [21, 34]}, r"img_size .*\(times, latitudes, longitudes\), got \[21, 34\]"),
        ({"patch_size": [2, 2]}, r"patch_size .* got \[2, 2\]"),
        ({"patch_size": [1, 2, 3]}, r"all 2 past states, got patch_size\[0\]=1; take"),
        ({"out_chans": 2}, "out_chans to be in_chans, .* got out_chans=2 and in_chans=3"),
        ({"num_groups": 3}, "got num_groups=3 and embed_dim=4"),
        ({"num_heads": 3}, "got num_heads of 3 for 4 channels"),
        ({"num_heads": 2.0}, r"num_heads to be positive whole numbers \(heads\), got \[2.0\]"),
        ({"window_size": 0}, r"window_size .* got \[0\]"),
        ({"in_chans": 0, "out_chans": 0}, r"in_chans .* got \[0\]"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SwinRNN(**SMALL | arguments)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.ones(1, 3, 1, 21, 34), ValueError, r"where img_size\[0\] is 1"),
        (torch.ones(1, 3, 21, 34), ValueError, "which has 4 dimensions"),
        (torch.ones(1, 2, 2, 21, 34), ValueError, "where in_chans is 2"),
        (torch.ones(1, 3, 2, 21, 34, dtype=torch.int32), TypeError, "got torch.int32"),
    ],
)
def test_bad_inputs(x, error, message):
    with pytest.raises(error, match=message):
        SwinRNN(**SMALL)(x)


def test_sizes_of_numpy():
    arguments = {
        name: [*np.array(value)] if isinstance(value, list) else np.int64(value)
        for name, value in SMALL.items()
    }
    model = SwinRNN(**arguments)
    assert model.img_size == tuple(SMALL["img_size"])
    assert all(type(size) is int for size in model.img_size)
