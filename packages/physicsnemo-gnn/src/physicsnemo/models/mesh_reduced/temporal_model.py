# SPDX-License-Identifier: Apache-2.0
"""The temporal model: a transformer that predicts each latent state from those before."""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from physicsnemo.models.gnn_layers._checks import check_dense
from physicsnemo.models.gnn_layers.mesh_graph_mlp import MeshGraphMLP
from physicsnemo.models.mesh_reduced._decoder import CausalDecoder
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.nn.checks import check_at_least, check_between, check_input

__all__ = ["MetaData", "Sequence_Model"]


@dataclass
class MetaData(ModelMetaData):
    """What :class:`Sequence_Model` supports."""

    name: str = "Sequence_Model"
    amp: bool = True


class Sequence_Model(Module):  # noqa: N801  # the name is part of the file format
    """Predict the next latent state of a simulation from all states before it.

    A transformer with causal attention reads a context, such as the parameters of the simulation,
    and then the states in the order of time. It has no embedding of positions: of equal states,
    only the mask tells which came first.

    Parameters
    ----------
    input_dim
        Features of a state: those of all pivotal points together, where the states come from
        :class:`~physicsnemo.models.mesh_reduced.mesh_reduced.Mesh_Reduced`.
    input_context_dim
        Features of the context.
    dist
        Not used: the mask is where the input is. nvidia-physicsnemo requires an object with a
        device here, which no file can hold; what is given is forgotten.
    dropout_rate
        Probability of dropping a number in training.
    num_layers_decoder
        Number of transformer layers, which may be 0; each attends twice.
    num_heads
        Heads of each attention; they must divide ``input_dim``.
    dim_feedforward_scale
        Hidden features of the networks in the layers, by ``input_dim``.
    num_layers_context_encoder, num_layers_input_encoder, num_layers_output_encoder
        Hidden layers of the networks around the transformer.
    activation
        Name of the activation in the layers (:func:`physicsnemo.nn.get_activation`).

    Raises
    ------
    KeyError
        If there is no activation of that name.
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
            input_dim,
            num_layers_decoder,
            num_heads,
            dim_feedforward_scale * input_dim,
            dropout_rate,
            activation,
        )
        self.input_encoder = _network(input_dim, input_dim, num_layers_input_encoder)
        self.output_encoder = _network(input_dim, input_dim, num_layers_output_encoder, None)
        self.context_encoder = _network(input_context_dim, input_dim, num_layers_context_encoder)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Predict the state after each of a sequence, given the context and the states up to it.

        Parameters
        ----------
        x
            States of shape (batch, time, input_dim).
        context
            Features of shape (batch, context steps, input_context_dim).

        Returns
        -------
        States of shape (batch, time, input_dim), each one step after the one in its place in
        ``x``. What comes first is left out: with no context, the state after the first; with a
        context of one step, nothing; and with more, predictions after these stand before the
        others, so that there are ``context steps - 1`` states more.

        Raises
        ------
        TypeError
            If an input does not hold floating-point numbers.
        ValueError
            If one has another shape or device than expected.
        """
        return self._predict(x, context)[:, 1:]

    @torch.no_grad()
    def sample(self, z0: Tensor, step_size: int, context: Tensor | None = None) -> Tensor:
        """Continue a sequence by predictions, each made from those before; without gradients.

        Parameters
        ----------
        z0
            First states, of shape (batch, time, input_dim) with ``time`` of at least 1.
        step_size
            Number of states to add.
        context
            Features of shape (batch, context steps, input_context_dim).

        Returns
        -------
        States of shape (batch, time + step_size, input_dim), beginning with those given.

        Raises
        ------
        TypeError
            If an input does not hold floating-point numbers.
        ValueError
            If one has another shape or device than expected, or there is no first state.
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
        """Return a prediction from each prefix of the context, if any, and the states."""
        weight = self.decoder.norm.weight
        check_input(x, {"batch": None, "time": ..., "input_dim": self.input_dim}, weight)
        if context is not None:
            layout = {
                "batch": x.shape[0],
                "context steps": None,
                "input_context_dim": self.input_context_dim,
            }
            check_input(context, layout, weight, "context")
            encoded = self.context_encoder(context)
            x = torch.cat((encoded.to(x.dtype), x), dim=1)
        prediction: Tensor = self.output_encoder(self.decoder(self.input_encoder(x)))
        return prediction


def _network(
    input_dim: int, output_dim: int, hidden_layers: int, norm_type: str | None = "LayerNorm"
) -> MeshGraphMLP:
    return MeshGraphMLP(
        input_dim,
        output_dim,
        hidden_dim=2 * output_dim,
        hidden_layers=hidden_layers,
        activation_fn=nn.ReLU(),
        norm_type=norm_type,
    )
