# SPDX-License-Identifier: Apache-2.0
"""A transformer in which each step attends to itself and to those before."""

from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.nn import get_activation
from physicsnemo.nn.checks import check_at_least
from physicsnemo.nn.transformer import dot_product_attention


class CausalDecoder(nn.Module):
    """Transformer layers, then a normalization.

    Parameters
    ----------
    dim
        Features of a step.
    num_layers
        Number of layers.
    num_heads
        Heads of each attention.
    hidden_dim
        Hidden features of the network in a layer.
    dropout
        Probability of dropping a number in training.
    activation
        Name of the activation (:func:`physicsnemo.nn.get_activation`).

    Raises
    ------
    KeyError
        If there is no activation of that name.
    ValueError
        If the heads do not divide the features, or the number of layers is negative.
    """

    def __init__(
        self,
        dim: int,
        num_layers: int,
        num_heads: int,
        hidden_dim: int,
        dropout: float,
        activation: str,
    ) -> None:
        super().__init__()
        check_at_least(0, num_layers_decoder=num_layers)
        self.layers = nn.ModuleList(
            _Layer(dim, num_heads, hidden_dim, dropout, activation) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map steps of shape (batch, time, dim) to steps of that shape."""
        for layer in self.layers:
            x = layer(x)
        normed: Tensor = self.norm(x)
        return normed


class _Layer(nn.Module):
    """Two attentions and a network at each step, each added to its input and normalized."""

    def __init__(
        self, dim: int, num_heads: int, hidden_dim: int, dropout: float, activation: str
    ) -> None:
        super().__init__()
        self.self_attn = CausalAttention(dim, num_heads, dropout)
        self.multihead_attn = CausalAttention(dim, num_heads, dropout)
        self.linear1 = nn.Linear(dim, hidden_dim)
        self.linear2 = nn.Linear(hidden_dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.activation = get_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.dropout(self.self_attn(x)))
        x = self.norm2(x + self.dropout(self.multihead_attn(x)))
        hidden = self.dropout(self.activation(self.linear1(x)))
        normed: Tensor = self.norm3(x + self.dropout(self.linear2(hidden)))
        return normed


class CausalAttention(nn.Module):
    r"""Attention of each step to itself and to those before.

    With rows :math:`q_t, k_t, v_t` of each head, it computes
    :math:`\sum_{s \le t} a_{ts} v_s`, where :math:`a_{ts}` is proportional to
    :math:`\exp(q_t \cdot k_s / \sqrt d)` and sums to one over :math:`s \le t`. Weights have the
    names that they have in :class:`torch.nn.MultiheadAttention`.

    Parameters
    ----------
    dim
        Features of a step.
    num_heads
        Number of heads; it must divide the features.
    dropout
        Probability of dropping a weight :math:`a_{ts}` in training.

    Raises
    ------
    ValueError
        If the heads do not divide the features.

    References
    ----------
    Vaswani et al. 2017, arXiv:1706.03762, section 3.2.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        check_at_least(1, num_heads=num_heads)
        if dim % num_heads:
            raise ValueError(
                f"expected num_heads to divide the features of a step, got {dim} features and "
                f"num_heads={num_heads}"
            )
        self.num_heads = num_heads
        self.dropout = dropout
        # One bare weight, since that is how the attention of PyTorch stores three projections.
        projections = nn.Linear(dim, 3 * dim)
        self.in_proj_weight = nn.Parameter(nn.init.xavier_uniform_(projections.weight.detach()))
        self.in_proj_bias = nn.Parameter(nn.init.zeros_(projections.bias.detach()))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map steps of shape (batch, time, dim) to steps of that shape."""
        projected = functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        size = x.shape[-1] // self.num_heads
        heads = projected.unflatten(-1, (3, self.num_heads, size)).transpose(1, 3)
        query, key, value = heads.unbind(2)
        dropout = self.dropout if self.training else 0.0
        attended = dot_product_attention(query, key, value, dropout=dropout, causal=True)
        mixed: Tensor = self.out_proj(attended.transpose(1, 2).flatten(start_dim=2))
        return mixed
