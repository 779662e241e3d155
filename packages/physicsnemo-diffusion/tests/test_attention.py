# SPDX-License-Identifier: Apache-2.0
"""Attention against sums over heads and pixels written out."""

import math

import pytest
import torch

from physicsnemo.models.diffusion import AttentionOp
from physicsnemo.models.diffusion.layers import Attention

SHAPE = (2, 12, 3, 5)  # 15 pixels of 12 channels, neither of which is a square


def layer(heads, numerics="paper"):
    attention = Attention(SHAPE[1], heads, init_zero={}, numerics=numerics).double()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return attention.eval()


def attend(query, key, value):
    """Attend, where each has shape (batch, pixels, channels)."""
    weights = torch.einsum("bqc,bkc->bqk", query, key) / math.sqrt(query.shape[-1])
    return torch.einsum("bqk,bkc->bqc", weights.softmax(dim=-1), value)


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_heads_split_channels(heads):
    attention, x = layer(heads), torch.randn(SHAPE, dtype=torch.float64)
    mixed = attention.qkv(attention.norm(x)).flatten(2).transpose(1, 2)
    outputs = []
    width = SHAPE[1] // heads
    for head in range(heads):
        channels = range(head * width, (head + 1) * width)
        parts = [mixed[..., [3 * c + part for c in channels]] for part in range(3)]
        outputs.append(attend(*parts))
    joined = torch.cat(outputs, dim=2).transpose(1, 2).reshape(SHAPE)
    torch.testing.assert_close(attention(x), attention.proj(joined) + x)


@pytest.mark.parametrize("heads", [1, 2, 3, 4])
def test_heads_split_pixels_in_the_first_release(heads):
    attention, x = layer(heads, "reference-1.2"), torch.randn(SHAPE, dtype=torch.float64)
    mixed = attention.qkv(attention.norm(x)).permute(0, 2, 3, 1).flatten(1)
    pixels, width = SHAPE[2] * SHAPE[3], SHAPE[1] // heads
    outputs = []
    for share in mixed.chunk(heads, dim=1):  # numbers in the order of memory, pixel by pixel
        numbers = share.reshape(SHAPE[0], pixels, width, 3)
        outputs.append(attend(*numbers.unbind(-1)).transpose(1, 2).flatten(1))
    joined = torch.cat(outputs, dim=1).reshape(SHAPE)
    torch.testing.assert_close(attention(x), attention.proj(joined) + x)


@pytest.mark.parametrize("release", ["1.3", "2.0", "2.1", "2.2"])
def test_heads_split_channels_in_later_releases(release):
    ours, theirs = layer(3).train(), layer(3, f"reference-{release}").train()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(SHAPE, dtype=torch.float64)
    torch.testing.assert_close(theirs(x), ours(x))


def test_numerics_agree_for_one_head_and_differ_for_two():
    x = torch.randn(SHAPE, dtype=torch.float64)
    for heads in (1, 2):
        ours, theirs = layer(heads).train(), layer(heads, "reference-1.2").train()
        theirs.load_state_dict(ours.state_dict())
        difference = (ours(x) - theirs(x)).abs().max()
        assert (difference < 1e-12) if heads == 1 else (difference > 0.1)


@pytest.mark.parametrize("heads", [1, 3])
def test_pixels_have_no_order(heads):
    attention, x = layer(heads), torch.randn(SHAPE, dtype=torch.float64)
    order = torch.randperm(15)
    shuffled = x.flatten(2)[:, :, order].reshape(SHAPE)
    expected = attention(x).flatten(2)[:, :, order].reshape(SHAPE)
    torch.testing.assert_close(attention(shuffled), expected)


def test_memory_format_is_kept():
    attention = layer(2).to(memory_format=torch.channels_last)
    x = torch.randn(SHAPE, dtype=torch.float64).to(memory_format=torch.channels_last)
    assert attention(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("numerics", ["paper", "reference-1.2"])
def test_gradients(numerics):
    attention = layer(2, numerics)
    x = torch.randn(1, 12, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(attention, (x,), fast_mode=True)


def test_it_starts_as_the_identity():
    x = torch.randn(SHAPE)
    torch.testing.assert_close(Attention(SHAPE[1], 2)(x), x, atol=0, rtol=0)


@pytest.mark.parametrize("heads", [0, -1, 5, 1.5, None])
def test_bad_heads(heads):
    with pytest.raises(ValueError, match=f"heads that divides 12 channels, got {heads}"):
        Attention(12, heads)


def test_weights_alone():
    query, key, value = (torch.randn(2, 6, n, dtype=torch.float64) for n in (4, 7, 7))
    weights = AttentionOp.apply(query, key)
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 4, dtype=torch.float64))
    expected = attend(query.mT, key.mT, value.mT)
    torch.testing.assert_close(weights @ value.mT, expected)
    assert AttentionOp.apply(query.half(), key.half()).dtype == torch.float16
