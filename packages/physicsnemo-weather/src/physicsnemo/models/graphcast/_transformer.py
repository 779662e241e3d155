# SPDX-License-Identifier: Apache-2.0
"""A layer of a transformer, with the names of Transformer Engine's for its weights."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.models.history import Ignored, follow_history
from physicsnemo.nn.transformer import dot_product_attention

# What Transformer Engine starts with, and drops in training.
_DEVIATION = 0.023
_DROPOUT = 0.1


class TransformerLayer(nn.Module):
    """Attention among all nodes, or those within reach, and a perceptron at each.

    Both see their input normalized, and are added to it. In training, one in ten of the weights of
    the attention and of what is added is dropped.

    Parameters
    ----------
    hidden_dim
        Number of features of each node, and of the perceptron's hidden layer.
    num_attention_heads
        Number of heads; it must divide ``hidden_dim``.

    References
    ----------
    Vaswani et al. 2017, arXiv:1706.03762; Xiong et al. 2020, arXiv:2002.04745 (the place of the
    normalization).
    """

    _state_history = (Ignored("_extra_state"),)  # of Transformer Engine

    def __init__(self, hidden_dim: int, num_attention_heads: int) -> None:
        super().__init__()
        self.self_attention = _Attention(hidden_dim, num_attention_heads)
        self.layernorm_mlp = _Normalized(hidden_dim, ("fc1", "fc2"))
        follow_history(self)

    def forward(self, nfeat: Tensor, mask: Tensor | None = None) -> Tensor:
        """Update features of shape (nodes, hidden_dim).

        Parameters
        ----------
        nfeat
            The features.
        mask
            True for pairs of nodes that see each other, of shape (nodes, nodes); None for all.
        """
        nfeat = nfeat + self._drop(self.self_attention(nfeat, mask))
        x = self.layernorm_mlp(nfeat)
        x = functional.gelu(self.layernorm_mlp.linear(x, "fc1"), approximate="tanh")
        return nfeat + self._drop(self.layernorm_mlp.linear(x, "fc2"))

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, _DROPOUT, self.training)


class _Normalized(nn.Module):
    """A normalization and linear maps, all weights side by side under names of their own."""

    layer_norm_weight: nn.Parameter
    layer_norm_bias: nn.Parameter

    def __init__(self, dim: int, names: tuple[str, ...]) -> None:
        super().__init__()
        self.layer_norm_weight = nn.Parameter(torch.ones(dim))
        self.layer_norm_bias = nn.Parameter(torch.zeros(dim))
        for name in names:
            weight = nn.init.normal_(torch.empty(dim, dim), std=_DEVIATION)
            self.register_parameter(f"{name}_weight", nn.Parameter(weight))
            self.register_parameter(f"{name}_bias", nn.Parameter(torch.zeros(dim)))

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], self.layer_norm_weight, self.layer_norm_bias)

    def linear(self, x: Tensor, name: str) -> Tensor:
        return functional.linear(x, getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias"))


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.layernorm_qkv = _Normalized(dim, ("query", "key", "value"))
        self.proj = nn.Linear(dim, dim)
        nn.init.normal_(self.proj.weight, std=_DEVIATION)
        nn.init.zeros_(self.proj.bias)

    def forward(self, nfeat: Tensor, mask: Tensor | None) -> Tensor:
        x = self.layernorm_qkv(nfeat)
        query, key, value = (
            self.layernorm_qkv.linear(x, name).unflatten(-1, (self.heads, -1)).transpose(0, 1)[None]
            for name in ("query", "key", "value")
        )
        dropout = _DROPOUT if self.training else 0.0
        x = dot_product_attention(query, key, value, mask, dropout)
        projected: Tensor = self.proj(x[0].transpose(0, 1).flatten(1))
        return projected
