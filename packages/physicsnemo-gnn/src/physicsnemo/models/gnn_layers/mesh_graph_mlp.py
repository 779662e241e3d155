# SPDX-License-Identifier: Apache-2.0
"""Perceptrons of several layers, for nodes and for edges."""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.models.gnn_layers._stack import stack
from physicsnemo.models.gnn_layers.adapters import GraphLike, as_graph
from physicsnemo.models.gnn_layers.graph import Graph
from physicsnemo.models.gnn_layers.messages import gather
from physicsnemo.nn.checkpointing import maybe_checkpoint

__all__ = ["MeshGraphEdgeMLPConcat", "MeshGraphEdgeMLPSum", "MeshGraphMLP"]

NodeFeatures = Tensor | tuple[Tensor, Tensor]
"""Features of all nodes, or those of the source and those of the target nodes."""


class MeshGraphMLP(nn.Module):
    """A perceptron with hidden layers, followed by a normalization.

    Parameters
    ----------
    input_dim
        Number of input features.
    output_dim
        Number of output features.
    hidden_dim
        Size of each hidden layer.
    hidden_layers
        Number of hidden layers; None for the identity instead of a perceptron. 0 is taken for 1, as
        in nvidia-physicsnemo.
    activation_fn
        Name of the activation, or a module.
    norm_type
        ``LayerNorm``, or None for no normalization. ``TELayerNorm``, as files of
        nvidia-physicsnemo may have it, is computed by the same ``torch.nn.LayerNorm``.
    recompute_activation
        Keep only the input for the backward pass, and compute the rest again.

    Raises
    ------
    ValueError
        If ``hidden_layers`` is below 0, or there is no such ``norm_type``.

    References
    ----------
    Pfaff et al. 2021, arXiv:2010.03409.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.gnn_layers import MeshGraphMLP
    >>> MeshGraphMLP(3, output_dim=8, hidden_dim=16)(torch.zeros(5, 3)).shape
    torch.Size([5, 8])
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int = 512,
        hidden_dim: int = 512,
        hidden_layers: int | None = 1,
        activation_fn: str | nn.Module = "silu",
        norm_type: str | None = "LayerNorm",
        recompute_activation: bool = False,
    ) -> None:
        super().__init__()
        self.recompute_activation = recompute_activation
        self.model = nn.Sequential()
        if hidden_layers is not None:
            layers = stack(hidden_dim, output_dim, hidden_layers, activation_fn, norm_type)
            self.model.extend([nn.Linear(input_dim, hidden_dim), *layers])

    def forward(self, *parts: Tensor) -> Tensor:
        """Map features of shape (..., input_dim) to shape (..., output_dim).

        Parameters
        ----------
        *parts
            The features; in several tensors, as if these were joined along the last axis.
        """
        if not self.model:
            return torch.cat(parts, dim=-1)
        return maybe_checkpoint(self._apply_layers, self.recompute_activation, *parts)

    def _apply_layers(self, *parts: Tensor) -> Tensor:
        first, others = _divide(self.model)
        weights = split_columns(first.weight, [part.shape[-1] for part in parts])
        x = functional.linear(parts[0], weights[0], first.bias)
        for part, weight in zip(parts[1:], weights[1:], strict=True):
            x = x + functional.linear(part, weight)
        return apply_all(others, x)


class MeshGraphEdgeMLPConcat(nn.Module):
    """A perceptron of the features of each edge, of its source and of its target.

    The features are never joined: the first layer is the sum of three products, those of the nodes
    made before they are spread over the edges.

    Parameters
    ----------
    efeat_dim, src_dim, dst_dim
        Number of features of the edges, of their sources and of their targets.
    output_dim, hidden_dim, hidden_layers, activation_fn, norm_type, recompute_activation
        As in :class:`MeshGraphMLP`.
    bias
        Has no meaning; there is a bias.

    Raises
    ------
    ValueError
        As :class:`MeshGraphMLP`.
    """

    def __init__(
        self,
        efeat_dim: int = 512,
        src_dim: int = 512,
        dst_dim: int = 512,
        output_dim: int = 512,
        hidden_dim: int = 512,
        hidden_layers: int = 2,
        activation_fn: str | nn.Module = "silu",
        norm_type: str | None = "LayerNorm",
        bias: bool = True,
        recompute_activation: bool = False,
    ) -> None:
        super().__init__()
        self.recompute_activation = recompute_activation
        self._widths = [efeat_dim, src_dim, dst_dim]
        self.model = nn.Sequential(
            nn.Linear(sum(self._widths), hidden_dim),
            *stack(hidden_dim, output_dim, hidden_layers, activation_fn, norm_type),
        )

    def forward(self, efeat: Tensor, nfeat: NodeFeatures, graph: GraphLike) -> Tensor:
        """Map features of edges and nodes to features of edges.

        Parameters
        ----------
        efeat
            Features of the edges, of shape (edges, efeat_dim).
        nfeat
            Features of the nodes, of shape (nodes, src_dim); or a pair, those of the sources and
            those of the targets, where they differ.
        graph
            The graph.

        Returns
        -------
        Features of shape (edges, output_dim).

        Raises
        ------
        ValueError
            If the numbers of features are not those of the layer or of the graph.
        """
        return maybe_checkpoint(
            self._forward, self.recompute_activation, efeat, nfeat, as_graph(graph)
        )

    def _forward(self, efeat: Tensor, nfeat: NodeFeatures, graph: Graph) -> Tensor:
        first, others = _divide(self.model)
        weights = split_columns(first.weight, self._widths)
        return apply_all(others, sum_of_ends(efeat, nfeat, graph, weights, first.bias))


class MeshGraphEdgeMLPSum(nn.Module):
    """What :class:`MeshGraphEdgeMLPConcat` computes, with a weight for each of the three products.

    It exists for the names of its weights in files, of models with ``do_concat_trick``. Parameters
    are the same.
    """

    def __init__(
        self,
        efeat_dim: int = 512,
        src_dim: int = 512,
        dst_dim: int = 512,
        output_dim: int = 512,
        hidden_dim: int = 512,
        hidden_layers: int = 1,
        activation_fn: str | nn.Module = "silu",
        norm_type: str | None = "LayerNorm",
        bias: bool = True,
        recompute_activation: bool = False,
    ) -> None:
        super().__init__()
        self.recompute_activation = recompute_activation
        first = nn.Linear(efeat_dim + src_dim + dst_dim, hidden_dim)
        weights = split_columns(first.weight.detach(), [efeat_dim, src_dim, dst_dim])
        self.lin_efeat, self.lin_src, self.lin_dst = (nn.Parameter(w.clone()) for w in weights)
        self.bias = first.bias
        self.model = nn.Sequential(
            *stack(hidden_dim, output_dim, hidden_layers, activation_fn, norm_type)
        )

    def forward(self, efeat: Tensor, nfeat: NodeFeatures, graph: GraphLike) -> Tensor:
        """Map features of edges and nodes to features of edges, as the other does."""
        return maybe_checkpoint(
            self._forward, self.recompute_activation, efeat, nfeat, as_graph(graph)
        )

    def _forward(self, efeat: Tensor, nfeat: NodeFeatures, graph: Graph) -> Tensor:
        weights = (self.lin_efeat, self.lin_src, self.lin_dst)
        return apply_all(self.model, sum_of_ends(efeat, nfeat, graph, weights, self.bias))


def edge_perceptron(
    do_concat_trick: bool, *shape: Any, recompute_activation: bool = False
) -> MeshGraphEdgeMLPConcat | MeshGraphEdgeMLPSum:
    """Return a perceptron of edges, its weights named in one of the two ways."""
    kinds: dict[bool, Callable[..., MeshGraphEdgeMLPConcat | MeshGraphEdgeMLPSum]]
    kinds = {False: MeshGraphEdgeMLPConcat, True: MeshGraphEdgeMLPSum}
    return kinds[bool(do_concat_trick)](*shape, recompute_activation=recompute_activation)


def sum_of_ends(
    efeat: Tensor,
    nfeat: NodeFeatures,
    graph: Graph,
    weights: tuple[Tensor, ...],
    bias: Tensor,
) -> Tensor:
    """Return a linear map of the features of each edge and of both its nodes."""
    sources, targets = nfeat if isinstance(nfeat, tuple) else (nfeat, nfeat)
    of_edge, of_source, of_target = weights
    x = functional.linear(efeat, of_edge)
    x = x + gather(functional.linear(sources, of_source), graph.source)
    return x + gather(functional.linear(targets, of_target, bias), graph.target)


def split_columns(weight: Tensor, widths: list[int]) -> tuple[Tensor, ...]:
    """Return the columns of a weight that multiply each part of the features."""
    if sum(widths) != weight.shape[1]:
        raise ValueError(f"expected {weight.shape[1]} features, got {' + '.join(map(str, widths))}")
    parts: tuple[Tensor, ...] = weight.split(widths, dim=1)
    return parts


def _divide(model: nn.Sequential) -> tuple[nn.Linear, Iterable[nn.Module]]:
    return cast(nn.Linear, model[0]), islice(model, 1, None)


def apply_all(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Apply layers one after the other."""
    for layer in layers:
        x = layer(x)
    return x
