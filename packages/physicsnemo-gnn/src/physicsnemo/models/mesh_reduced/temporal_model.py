# SPDX-License-Identifier: Apache-2.0
"""Temporal model: a causal transformer of latent states."""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.models.gnn_layers.checks import check_dense
from physicsnemo.models.gnn_layers.mesh_graph_mlp import MeshGraphMLP
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.nn import get_activation
from physicsnemo.nn.checks import check_at_least, check_between, check_input
from physicsnemo.nn.transformer import dot_product_attention

__all__ = ["MetaData", "Sequence_Model"]


@dataclass
class MetaData(ModelMetaData):
    """What :class:`Sequence_Model` supports."""

    name: str = "Sequence_Model"
    amp: bool = True


class Sequence_Model(Module):  # noqa: N801  # the name is part of the file format
    """Causal transformer that predicts the next latent state from the previous ones.

    The sequence is a context, such as the parameters of the simulation, followed by the states in
    order of time. There is no positional encoding: only the causal mask tells the order of states.

    Parameters
    ----------
    input_dim
        Number of features of a state: all features of all pivotal points, if the states come from
        :class:`~physicsnemo.models.mesh_reduced.mesh_reduced.Mesh_Reduced`.
    input_context_dim
        Number of features of the context.
    dist
        Ignored. nvidia-physicsnemo requires an object with a device here, which no file can hold.
    dropout_rate
        Dropout probability.
    num_layers_decoder
        Number of transformer layers, possibly 0; each has two attention layers.
    num_heads
        Number of attention heads, which must divide ``input_dim``.
    dim_feedforward_scale
        Hidden width of the feed-forward networks, as a multiple of ``input_dim``.
    num_layers_context_encoder, num_layers_input_encoder, num_layers_output_encoder
        Number of hidden layers of the MLPs around the transformer.
    activation
        Activation of the feed-forward networks, by name (:func:`physicsnemo.nn.get_activation`).

    Raises
    ------
    KeyError
        If the activation is unknown.
    ValueError
        If the heads do not divide the features, or a number of layers is negative.

    References
    ----------
    Han et al. 2022, Predicting physics in mesh-reduced space with temporal attention,
    arXiv:2201.09113, section 3.3.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.mesh_reduced import Sequence_Model
    >>> model = Sequence_Model(input_dim=16, input_context_dim=2)
    >>> states, context = torch.randn(4, 10, 16), torch.randn(4, 1, 2)
    >>> model(states, context).shape
    torch.Size([4, 10, 16])
    >>> model.sample(states[:, :1], step_size=20, context=context).shape
    torch.Size([4, 21, 16])
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Record no ``dist``, which files do not hold."""
        args = (*args[:2], None, *args[3:]) if len(args) > 2 else args
        return super().__new__(
            cls, *args, **(kwargs | {"dist": None} if "dist" in kwargs else kwargs)
        )

    def __init__(
        self,
        input_dim: int,
        input_context_dim: int,
        dist: Any = None,
        dropout_rate: float = 0.0,
        num_layers_decoder: int = 3,
        num_heads: int = 8,
        dim_feedforward_scale: int = 4,
        num_layers_context_encoder: int = 2,
        num_layers_input_encoder: int = 2,
        num_layers_output_encoder: int = 2,
        activation: str = "gelu",
    ) -> None:
        super().__init__(meta=MetaData())
        check_at_least(1, input_dim=input_dim, input_context_dim=input_context_dim)
        check_at_least(1, dim_feedforward_scale=dim_feedforward_scale)
        check_between(0, 1, dropout_rate=dropout_rate)
        self.input_dim = input_dim
        self.input_context_dim = input_context_dim
        self.decoder = CausalDecoder(
            dim=input_dim,
            num_layers=num_layers_decoder,
            num_heads=num_heads,
            hidden_dim=dim_feedforward_scale * input_dim,
            dropout=dropout_rate,
            activation=activation,
        )
        self.input_encoder = _mlp(input_dim, input_dim, num_layers_input_encoder)
        self.output_encoder = _mlp(input_dim, input_dim, num_layers_output_encoder, norm_type=None)
        self.context_encoder = _mlp(input_context_dim, input_dim, num_layers_context_encoder)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Predict the next state after each of a sequence.

        Parameters
        ----------
        x
            States of shape (batch, time, input_dim).
        context
            Context of shape (batch, context steps, input_context_dim).

        Returns
        -------
        States of shape (batch, context steps + time - 1, input_dim): the predictions after each
        step of the whole sequence, context first, but for the first step's. With a context of one
        step, these are the states after each in ``x``.

        Raises
        ------
        TypeError
            If an input is not floating-point.
        ValueError
            If a shape or a device does not fit.
        """
        # Behind a context of one step, the first prediction is of the initial state, which is
        # given. It is dropped without a context, too, as in nvidia-physicsnemo.
        return self._predict(x, context)[:, 1:]

    @torch.no_grad()
    def sample(self, z0: Tensor, step_size: int, context: Tensor | None = None) -> Tensor:
        """Roll out a sequence autoregressively, without gradients.

        Parameters
        ----------
        z0
            Initial states, of shape (batch, time, input_dim) with ``time`` of at least 1.
        step_size
            Number of states to predict.
        context
            Context of shape (batch, context steps, input_context_dim).

        Returns
        -------
        States of shape (batch, time + step_size, input_dim), the initial ones first.

        Raises
        ------
        TypeError
            If an input is not floating-point.
        ValueError
            If a shape or a device does not fit, or there is no initial state.
        """
        check_at_least(0, step_size=step_size)
        check_dense(z0, "z0")
        if z0.ndim == 3 and not z0.shape[1]:
            raise ValueError(f"expected at least one first state, got z0 of shape {(*z0.shape,)}")
        states = z0
        for _ in range(step_size):
            states = torch.cat((states, self._predict(states, context)[:, -1:]), dim=1)
        return states

    def _predict(self, x: Tensor, context: Tensor | None) -> Tensor:
        """Return the prediction after each step of the context, if any, and of the states."""
        weight = self.decoder.norm.weight
        check_input(x, {"batch": None, "time": ..., "input_dim": self.input_dim}, weight)
        if context is not None:
            layout = {
                "batch": x.shape[0],
                "context steps": None,
                "input_context_dim": self.input_context_dim,
            }
            check_input(context, layout, weight, name="context")
            encoded = self.context_encoder(context)
            x = torch.cat((encoded.to(x.dtype), x), dim=1)
        prediction: Tensor = self.output_encoder(self.decoder(self.input_encoder(x)))
        return prediction


def _mlp(
    input_dim: int, output_dim: int, hidden_layers: int, norm_type: str | None = "LayerNorm"
) -> MeshGraphMLP:
    return MeshGraphMLP(
        input_dim,
        output_dim=output_dim,
        hidden_dim=2 * output_dim,
        hidden_layers=hidden_layers,
        activation_fn=nn.ReLU(),
        norm_type=norm_type,
    )


class CausalDecoder(nn.Module):
    """Causal transformer layers, then a normalization.

    Parameters
    ----------
    dim
        Number of features of a step.
    num_layers
        Number of layers.
    num_heads
        Number of attention heads.
    hidden_dim
        Hidden width of the feed-forward networks.
    dropout
        Dropout probability.
    activation
        Activation, by name (:func:`physicsnemo.nn.get_activation`).

    Raises
    ------
    KeyError
        If the activation is unknown.
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
            DecoderLayer(
                dim,
                num_heads=num_heads,
                hidden_dim=hidden_dim,
                dropout=dropout,
                activation=activation,
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map sequences of shape (batch, time, dim) to sequences of the same shape."""
        for layer in self.layers:
            x = layer(x)
        normed: Tensor = self.norm(x)
        return normed


class DecoderLayer(nn.Module):
    """Post-norm transformer layer: two causal self-attention layers and a feed-forward network."""

    def __init__(
        self, dim: int, *, num_heads: int, hidden_dim: int, dropout: float, activation: str
    ) -> None:
        super().__init__()
        # Named as in PyTorch's decoder layer, where the second one is cross-attention.
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
    r"""Causal multi-head self-attention.

    Each head computes :math:`\sum_{s \le t} a_{ts} v_s`, where :math:`a_{ts}` is the softmax of
    :math:`q_t \cdot k_s / \sqrt d` over :math:`s \le t`. Weights are named as in
    :class:`torch.nn.MultiheadAttention`.

    Parameters
    ----------
    dim
        Number of features of a step.
    num_heads
        Number of heads, which must divide the features.
    dropout
        Dropout probability of the attention weights :math:`a_{ts}`.

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
        """Map sequences of shape (batch, time, dim) to sequences of the same shape."""
        projected = functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        size = x.shape[-1] // self.num_heads
        heads = projected.unflatten(-1, (3, self.num_heads, size)).transpose(1, 3)
        query, key, value = heads.unbind(2)
        dropout = self.dropout if self.training else 0.0
        attended = dot_product_attention(query, key, value, dropout=dropout, causal=True)
        mixed: Tensor = self.out_proj(attended.transpose(1, 2).flatten(start_dim=2))
        return mixed
