# SPDX-License-Identifier: Apache-2.0
"""Parts of transformers: attention, the MLP of each token, and stochastic depth."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from physicsnemo.nn.table import Table
from physicsnemo.nn.tracing import is_transformed

__all__ = ["DropPath", "Mlp", "dot_product_attention"]


class Mlp(nn.Module):
    """MLP of a transformer: two linear layers at each token, with a GELU in between.

    Parameters
    ----------
    in_features
        Input channels.
    hidden_features
        Hidden channels.
    out_features
        Output channels.
    drop
        Dropout probability of hidden and output channels.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.nn import Mlp
    >>> Mlp(8, hidden_features=32, out_features=8)(torch.zeros(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(
        self, in_features: int, hidden_features: int, out_features: int, drop: float = 0.0
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.fc2 = nn.Linear(hidden_features, out_features)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens of shape (..., in_features) to (..., out_features)."""
        hidden = self.drop(functional.gelu(self.fc1(x)))
        output: Tensor = self.drop(self.fc2(hidden))
        return output


class DropPath(nn.Module):
    """Stochastic depth: in training, zero the branch of samples at random, and scale up the others.

    Parameters
    ----------
    drop_prob
        Probability of zeroing a sample, below 1.

    References
    ----------
    Huang et al. 2016, Deep networks with stochastic depth, arXiv:1603.09382.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.nn import DropPath
    >>> DropPath(0.5).eval()(torch.ones(2, 3)).sum()
    tensor(6.)
    """

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        self.drops = drop_prob > 0
        # Not a number, since compiled code is shared by layers whose numbers are the same.
        self.rate = Table(partial(torch.tensor, drop_prob, dtype=torch.float64, device="cpu"))

    @property
    def drop_prob(self) -> float:
        """Probability of zeroing a sample."""
        return self.rate.exact().item()

    def forward(self, x: Tensor) -> Tensor:
        """Map a branch of shape (batch, ...) to one of that shape and the same mean."""
        if not (self.training and self.drops):
            return x
        keep = 1 - self.rate.value
        kept = torch.bernoulli(keep.expand(x.shape[0], *[1] * (x.ndim - 1)))
        return x * (kept / keep).to(x.dtype)

    def extra_repr(self) -> str:
        """Return the probability, as it appears in the printed model."""
        return f"{self.drop_prob:g}"


def dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    dropout: float = 0.0,
    causal: bool = False,
) -> Tensor:
    """Scaled dot-product attention that has derivatives in forward mode too.

    This is :func:`torch.nn.functional.scaled_dot_product_attention`. PyTorch's fused kernels have
    no derivatives in forward mode, nor any within functions that :mod:`torch.func` transforms, so
    where these are asked for, its unfused ones are used. For second derivatives in reverse mode,
    which nothing tells before the backward pass, choose the unfused ones yourself around the call
    of a model: ``torch.nn.attention.sdpa_kernel(SDPBackend.MATH)``.

    Parameters
    ----------
    query, key, value
        Tensors of shape (..., queries or keys, features).
    mask
        Attention mask of shape (..., queries, keys): True for pairs that see each other, or
        numbers to add to the logits.
    dropout
        Dropout probability of the weights.
    causal
        Whether each query sees only the keys up to its own place.
    """
    if forward_ad._current_level < 0 and not is_transformed():
        return functional.scaled_dot_product_attention(
            query, key, value, mask, dropout_p=dropout, is_causal=causal
        )
    with sdpa_kernel(SDPBackend.MATH):
        return functional.scaled_dot_product_attention(
            query, key, value, mask, dropout_p=dropout, is_causal=causal
        )
