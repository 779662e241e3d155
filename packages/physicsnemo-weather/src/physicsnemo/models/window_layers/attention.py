# SPDX-License-Identifier: Apache-2.0
"""Window attention, with a bias for each pair of points of a window."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.models.window_layers.windows import Windows
from physicsnemo.nn.checks import is_integer
from physicsnemo.nn.tracing import is_exporting
from physicsnemo.nn.transformer import dot_product_attention

# The largest grid dimension of a CUDA kernel launch.
_MOST_HEADS = 65535
# The smallest tile of a compiled kernel.
_LEAST_CHANNELS = 16


def attend(
    x: Tensor,
    windows: Windows,
    *,
    bias: Tensor,
    mask: Tensor | None,
    qkv: nn.Linear,
    proj: nn.Linear,
) -> Tensor:
    """Multi-head self-attention within each window.

    Parameters
    ----------
    x
        Grids of shape (batch, *windows.grid, channels).
    windows
        Window partition of the grid.
    bias
        Position bias, added to the logits, of shape (1, types or 1, heads, points, points).
    mask
        Window mask, added to the logits of all heads, of shape (columns or 1, types, points,
        points).
    qkv
        Projection to the queries of all heads, then the keys, then the values.
    proj
        Output projection.

    Returns
    -------
    Grids of the shape of ``x``.
    """
    heads = bias.shape[2]
    if mask is not None:
        bias = bias + mask.unsqueeze(2)
    # Fused kernels take (batch, heads, points, channels) and broadcast the bias over the batch. So
    # an axis of windows along which the bias is the same joins the batch, and one along which it
    # differs joins the heads: the bias is never repeated. Only masks differ between columns.
    differs_by_column, differs_by_type = bias.shape[0] > 1, bias.shape[1] > 1
    shared_axes = 0 if differs_by_column else 1 if differs_by_type else 2
    x = windows.split(x, shared_axes)
    # With q, k and v of a head side by side, (windows, heads) becomes one axis without a copy.
    weight, offset = (
        p.unflatten(0, (3, heads, -1)).transpose(0, 1).flatten(0, 2) for p in (qkv.weight, qkv.bias)
    )
    x = functional.linear(x, weight, offset).unflatten(-1, (heads, 3, -1)).flatten(2, 3)
    q, k, v = x.transpose(1, 2).unbind(-2)
    bias = bias.to(x.dtype).flatten(0, 2).unsqueeze(0)
    x = _chunked_attention(q, k, v, bias=bias).transpose(1, 2)
    # Which strides the output has depends on the kernel; exporters trace one and run another.
    x = x.clone(memory_format=torch.contiguous_format)
    return windows.join(proj(x.unflatten(2, (-1, heads)).flatten(-2)), shared_axes)


def _chunked_attention(q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor) -> Tensor:
    """Attention in chunks of heads, none of which exceeds the limit of a kernel launch."""
    if q.shape[1] <= _MOST_HEADS:
        return _attention(q, k, v, bias=bias)
    chunks = zip(*(x.split(_MOST_HEADS, dim=1) for x in (q, k, v, bias)), strict=True)
    return torch.cat(
        [_attention(q, k, v, bias=bias) for q, k, v, bias in chunks],
        dim=1,
    )


def _attention(q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor) -> Tensor:
    # Library kernels write the gradient of the bias per sample, and sum it afterwards. A kernel
    # that the compiler generates does not, and is several times as fast, given enough channels.
    compiled = torch.compiler.is_compiling() and not is_exporting()
    if compiled and q.is_cuda and q.shape[-1] >= _LEAST_CHANNELS:
        return flex_with_bias(q, k, v, bias=bias)
    return dot_product_attention(q, k, v, mask=bias)


def flex_with_bias(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Compute ``scaled_dot_product_attention(q, k, v, bias)`` by FlexAttention.

    Parameters
    ----------
    q, k, v
        Queries, keys and values of shape (batch, heads, points, channels).
    bias
        Bias of the logits, of shape (1, heads, points, points).

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
    """Build Toeplitz matrices, which are constant along their diagonals.

    Parameters
    ----------
    diagonals
        Values of the diagonals, of shape (..., 2 * size - 1), that of the upper right corner first.

    Returns
    -------
    Matrices of shape (..., size, size), whose entry (i, k) is ``diagonals[..., i - k + size - 1]``.
    """
    # By strides and not by a gather, whose gradient is added up atomically, and so in any order.
    period = diagonals.shape[-1]
    size = (period + 1) // 2
    # Rows that are longer than the period by one start one entry later each time.
    repeated = diagonals.unsqueeze(-2).expand(*diagonals.shape[:-1], size + 1, -1).flatten(-2)
    rows: Tensor = repeated[..., : size * (period + 1)].unflatten(-1, (size, -1))
    return rows[..., :size].flip(-1)


def check_heads(channels: int, heads: int) -> None:
    """Raise a ValueError unless the number of heads divides that of channels."""
    if not is_integer(heads) or heads < 1 or channels % heads:
        raise ValueError(
            f"expected a number of heads that divides the channels, got num_heads of {heads} for "
            f"{channels} channels; take another num_heads or embed_dim"
        )
