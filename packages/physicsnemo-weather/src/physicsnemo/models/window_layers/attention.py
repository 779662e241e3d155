# SPDX-License-Identifier: Apache-2.0
"""Attention within windows, with biases that depend on the difference of two points."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.models.window_layers.windows import Windows
from physicsnemo.nn.tracing import is_exporting
from physicsnemo.nn.transformer import dot_product_attention

# What one launch of a CUDA kernel takes.
_MOST_HEADS = 65535
# What the tiles of a compiled kernel take.
_LEAST_CHANNELS = 16


def attend(
    x: Tensor, windows: Windows, bias: Tensor, mask: Tensor | None, qkv: nn.Linear, proj: nn.Linear
) -> Tensor:
    """Let the points of each window attend to each other.

    Parameters
    ----------
    x
        Grids of shape (batch, *windows.grid, channels).
    windows
        The windows.
    bias
        What to add to the logits, of shape (1, types or 1, heads, points, points).
    mask
        What to add to those of all heads, of shape (columns or 1, types, points, points).
    qkv
        Makes the queries of all heads, then the keys, then the values.
    proj
        Makes the output of the heads' means of values.

    Returns
    -------
    Grids of the shape of ``x``.
    """
    heads = bias.shape[2]
    if mask is not None:
        bias = bias + mask.unsqueeze(2)
    # Windows that share a bias are samples of a batch, others are heads: so the bias need not be
    # repeated, and the tensors have the four axes that fused kernels want.
    shared = 0 if bias.shape[0] > 1 else 1 if bias.shape[1] > 1 else 2
    x = windows.split(x, shared)
    # With the three of a head side by side, windows and heads are one axis, without a copy.
    weight, offset = (
        p.unflatten(0, (3, heads, -1)).transpose(0, 1).flatten(0, 2) for p in (qkv.weight, qkv.bias)
    )
    x = functional.linear(x, weight, offset).unflatten(-1, (heads, 3, -1)).flatten(2, 3)
    q, k, v = x.transpose(1, 2).unbind(-2)
    x = _mix(q, k, v, bias.to(x.dtype).flatten(0, 2).unsqueeze(0)).transpose(1, 2)
    # It depends on the kernel whether that is contiguous, and exporters trace one and mean another.
    x = x.clone(memory_format=torch.contiguous_format)
    return windows.join(proj(x.unflatten(2, (-1, heads)).flatten(-2)), shared)


def _mix(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Attend, in several calls if one is too large for a GPU."""
    if q.shape[1] <= _MOST_HEADS:
        return _attention(q, k, v, bias)
    parts = zip(*(x.split(_MOST_HEADS, dim=1) for x in (q, k, v, bias)), strict=True)
    return torch.cat([_attention(*part) for part in parts], dim=1)


def _attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    # Ready-made kernels write the gradient of the bias for each sample, and sum it afterwards. One
    # that the compiler makes does not, and is several times as fast; it wants some channels.
    compiled = torch.compiler.is_compiling() and not is_exporting()
    if compiled and q.is_cuda and q.shape[-1] >= _LEAST_CHANNELS:
        return flex_with_bias(q, k, v, bias)
    return dot_product_attention(q, k, v, bias)


def flex_with_bias(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Compute ``scaled_dot_product_attention(q, k, v, bias)`` by a kernel made to measure.

    Parameters
    ----------
    q, k, v
        Queries, keys and values of shape (batch, heads, points, channels).
    bias
        What to add to the logits, of shape (1, heads, points, points).

    References
    ----------
    Dong et al. 2024, Flex attention: a programming model for generating optimized attention
    kernels, arXiv:2412.05496.
    """
    # Not before: it imports PyTorch's compiler, which takes seconds and a writable folder.
    from torch.nn.attention.flex_attention import flex_attention

    def biased(logit: Tensor, _: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return logit + bias[0, head, query, key]

    output: Tensor = flex_attention(q, k, v, score_mod=biased)
    return output


def toeplitz(diagonals: Tensor) -> Tensor:
    """Fill square matrices that are constant along their diagonals.

    Gradients are sums in a fixed order, whereas those of a gather are added up in any order.

    Parameters
    ----------
    diagonals
        The entries, of shape (..., 2 * size - 1), that of the upper right corner first.

    Returns
    -------
    Matrices of shape (..., size, size), in which entry (i, k) is that with number
    ``i - k + size - 1``.
    """
    period = diagonals.shape[-1]
    size = (period + 1) // 2
    # Rows that are longer than the period by one begin one entry later each time.
    repeated = diagonals.unsqueeze(-2).expand(*diagonals.shape[:-1], size + 1, -1).flatten(-2)
    rows: Tensor = repeated[..., : size * (period + 1)].unflatten(-1, (size, -1))
    return rows[..., :size].flip(-1)
