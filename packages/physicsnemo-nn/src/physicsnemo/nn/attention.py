# SPDX-License-Identifier: Apache-2.0
"""Attention that has derivatives in forward mode too."""

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["dot_product_attention"]


def dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    dropout: float = 0.0,
    causal: bool = False,
) -> Tensor:
    """Compute :func:`torch.nn.functional.scaled_dot_product_attention`.

    PyTorch's fused kernels have no derivatives in forward mode, nor any within functions that
    :mod:`torch.func` transforms, so where these are asked for, its unfused ones are used. For
    second derivatives in reverse mode, which nothing tells before the backward pass, choose the
    unfused ones yourself around the call of a model:
    ``torch.nn.attention.sdpa_kernel(SDPBackend.MATH)``.

    Parameters
    ----------
    query, key, value
        Tensors of shape (..., queries or keys, features).
    mask
        True for pairs that see each other, or numbers to add, of shape (..., queries, keys).
    dropout
        The probability of dropping a weight.
    causal
        Whether each query sees only the keys up to its own place.
    """
    if not _transformed():
        return functional.scaled_dot_product_attention(query, key, value, mask, dropout, causal)
    with sdpa_kernel(SDPBackend.MATH):
        return functional.scaled_dot_product_attention(query, key, value, mask, dropout, causal)


def _transformed() -> bool:
    if forward_ad._current_level >= 0:
        return True
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()
