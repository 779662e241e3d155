# SPDX-License-Identifier: Apache-2.0
"""MLPs of node features and of edge features."""

import warnings
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from physicsnemo.models.gnn_layers._compiled_update import compiled_update
from physicsnemo.models.gnn_layers.adapters import GraphLike, as_graph
from physicsnemo.models.gnn_layers.graph import Graph
from physicsnemo.models.gnn_layers.messages import gather
from physicsnemo.models.history import Ignored, follow_history
from physicsnemo.nn import get_activation
from physicsnemo.nn.checkpointing import computed_again, maybe_checkpoint
from physicsnemo.nn.checks import check_at_least

__all__ = ["MeshGraphEdgeMLPConcat", "MeshGraphEdgeMLPSum", "MeshGraphMLP"]

NodeFeatures = Tensor | tuple[Tensor, Tensor]
"""Features of all nodes, or a pair: those of the source nodes and those of the target nodes."""


class MeshGraphMLP(nn.Module):
    """MLP with a normalization behind its output layer.

    Parameters
    ----------
    input_dim
        Number of input features.
    output_dim
        Number of output features.
    hidden_dim
        Width of the hidden layers.
    hidden_layers
        Number of hidden layers; None for the identity instead of an MLP. 0 counts as 1, as in
        nvidia-physicsnemo.
    activation_fn
        Activation, by name or as a module.
    norm_type
        Normalization: ``LayerNorm``, or None for none. ``TELayerNorm``, which files of
        nvidia-physicsnemo may have, is computed by the same ``torch.nn.LayerNorm``.
    recompute_activation
        Activation checkpointing: keep only the input for the backward pass.

    Raises
    ------
    ValueError
        If ``hidden_layers`` is negative, or ``norm_type`` unknown.

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
            further = _further_layers(
                output_dim=output_dim,
                hidden_dim=hidden_dim,
                hidden_layers=hidden_layers,
                activation_fn=activation_fn,
                norm_type=norm_type,
            )
            self.model.extend([nn.Linear(input_dim, hidden_dim), *further])

    def forward(self, *parts: Tensor, adds: bool = False) -> Tensor:
        """Map features of shape (..., input_dim) to shape (..., output_dim).

        Parameters
        ----------
        *parts
            Features; several tensors count as one, concatenated along the last axis.
        adds
            Whether to add the last of them to the output.
        """
        if not self.model:
            output = torch.cat(parts, dim=-1)
            return output + parts[-1] if adds else output
        return maybe_checkpoint(self._apply_layers, self.recompute_activation, adds, *parts)

    def _apply_layers(self, adds: bool, *parts: Tensor) -> Tensor:
        # A linear map of concatenated parts is the sum of linear maps of each: so no copy of all
        # features is made, or kept for the backward pass.
        first, others = _first_and_others(self.model)
        weights = split_columns(first.weight, [part.shape[-1] for part in parts])
        x = functional.linear(parts[0], weights[0], first.bias)
        if adds and len(parts) == 2:
            update = compiled_update(parts[1], (x,), None, weights[1], others)
            if update is not None:
                return update
        for part, weight in zip(parts[1:], weights[1:], strict=True):
            x = x + functional.linear(part, weight)
        output = _apply_further(others, x, again=not self.recompute_activation)
        return output + parts[-1] if adds else output


class MeshGraphEdgeMLPConcat(nn.Module):
    """MLP of the concatenated features of each edge, of its source node and of its target node.

    The first layer is computed as the sum of three products, those of the nodes before they are
    gathered to the edges: nothing is concatenated.

    Parameters
    ----------
    efeat_dim, src_dim, dst_dim
        Number of features of edges, source nodes and target nodes.
    output_dim, hidden_dim, hidden_layers, activation_fn, norm_type, recompute_activation
        As in :class:`MeshGraphMLP`.
    bias
        Ignored; there is a bias.

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
            *_further_layers(
                output_dim=output_dim,
                hidden_dim=hidden_dim,
                hidden_layers=hidden_layers,
                activation_fn=activation_fn,
                norm_type=norm_type,
            ),
        )

    def forward(
        self, efeat: Tensor, nfeat: NodeFeatures, graph: GraphLike, adds: bool = False
    ) -> Tensor:
        """Map edge and node features to edge features.

        Parameters
        ----------
        efeat
            Edge features, of shape (edges, efeat_dim).
        nfeat
            Node features, of shape (nodes, src_dim); in a bipartite graph a pair, those of the
            source nodes and those of the target nodes.
        graph
            The graph.
        adds
            Whether to add ``efeat`` to the output.

        Returns
        -------
        Edge features of shape (edges, output_dim).

        Raises
        ------
        ValueError
            If the number of features does not fit the layer, or the number of rows the graph.
        """
        return maybe_checkpoint(
            self._forward, self.recompute_activation, efeat, nfeat, as_graph(graph), adds
        )

    def _forward(self, efeat: Tensor, nfeat: NodeFeatures, graph: Graph, adds: bool) -> Tensor:
        first, others = _first_and_others(self.model)
        weights = split_columns(first.weight, self._widths)
        layers = _EdgeLayers(weights, first.bias, others, again=not self.recompute_activation)
        return _update_edges(efeat, nfeat, graph, layers, adds)


class MeshGraphEdgeMLPSum(nn.Module):
    """:class:`MeshGraphEdgeMLPConcat` with a weight of its own for each of the three products.

    What it computes is the same; the names of its weights are those of files of models with
    ``do_concat_trick``. Parameters are the same, too.
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
        # Initialized as one layer of all features, whose fan-in the distribution depends on.
        first = nn.Linear(efeat_dim + src_dim + dst_dim, hidden_dim)
        weights = split_columns(first.weight.detach(), [efeat_dim, src_dim, dst_dim])
        self.lin_efeat, self.lin_src, self.lin_dst = (nn.Parameter(w.clone()) for w in weights)
        self.bias = first.bias
        self.model = nn.Sequential(
            *_further_layers(
                output_dim=output_dim,
                hidden_dim=hidden_dim,
                hidden_layers=hidden_layers,
                activation_fn=activation_fn,
                norm_type=norm_type,
            )
        )

    def forward(
        self, efeat: Tensor, nfeat: NodeFeatures, graph: GraphLike, adds: bool = False
    ) -> Tensor:
        """Map edge and node features to edge features, as :class:`MeshGraphEdgeMLPConcat` does."""
        return maybe_checkpoint(
            self._forward, self.recompute_activation, efeat, nfeat, as_graph(graph), adds
        )

    def _forward(self, efeat: Tensor, nfeat: NodeFeatures, graph: Graph, adds: bool) -> Tensor:
        weights = (self.lin_efeat, self.lin_src, self.lin_dst)
        again = not self.recompute_activation
        layers = _EdgeLayers(weights, self.bias, list(self.model), again)
        return _update_edges(efeat, nfeat, graph, layers, adds)


def edge_mlp(
    *, do_concat_trick: bool, **arguments: Any
) -> MeshGraphEdgeMLPConcat | MeshGraphEdgeMLPSum:
    """Return an edge MLP, with either names for the weights of its first layer."""
    kind: Callable[..., MeshGraphEdgeMLPConcat | MeshGraphEdgeMLPSum]
    kind = MeshGraphEdgeMLPSum if do_concat_trick else MeshGraphEdgeMLPConcat
    return kind(**arguments)


class _EdgeLayers(NamedTuple):
    """Weights and bias of the first layer, what follows, and if that is computed again."""

    weights: tuple[Tensor, ...]
    bias: Tensor
    others: list[nn.Module]
    again: bool


def _update_edges(
    efeat: Tensor, nfeat: NodeFeatures, graph: Graph, layers: _EdgeLayers, adds: bool
) -> Tensor:
    """Apply layers to edge, source and target features, as if they were concatenated."""
    sources, targets = nfeat if isinstance(nfeat, tuple) else (nfeat, nfeat)
    edge_weight, source_weight, target_weight = layers.weights
    # Nodes are mapped before they are gathered, for there are fewer of them than edges.
    sources = functional.linear(sources, source_weight)
    targets = functional.linear(targets, target_weight, layers.bias)
    if adds:
        update = compiled_update(efeat, (sources, targets), graph, edge_weight, layers.others)
        if update is not None:
            return update
    x = functional.linear(efeat, edge_weight) + gather(sources, graph.source)
    x = x + gather(targets, graph.target)
    output = _apply_further(layers.others, x, again=layers.again)
    return output + efeat if adds else output


def split_columns(weight: Tensor, widths: list[int]) -> tuple[Tensor, ...]:
    """Split the columns of a weight by the parts of the features that they multiply."""
    if sum(widths) != weight.shape[1]:
        raise ValueError(f"expected {weight.shape[1]} features, got {' + '.join(map(str, widths))}")
    parts: tuple[Tensor, ...] = weight.split(widths, dim=1)
    return parts


def _further_layers(
    *,
    output_dim: int,
    hidden_dim: int,
    hidden_layers: int,
    activation_fn: str | nn.Module,
    norm_type: str | None,
) -> list[nn.Module]:
    """Return what follows the first linear layer: activations, layers and the normalization."""
    check_at_least(0, hidden_layers=hidden_layers)
    # One module for all layers: an activation with weights has one set of them in files.
    activation = get_activation(activation_fn) if isinstance(activation_fn, str) else activation_fn
    layers = [activation]
    for _ in range(hidden_layers - 1):
        layers += [nn.Linear(hidden_dim, hidden_dim), activation]
    layers.append(nn.Linear(hidden_dim, output_dim))
    return layers if norm_type is None else [*layers, _norm(norm_type, output_dim)]


def _norm(norm_type: str, size: int) -> nn.Module:
    if norm_type not in ("LayerNorm", "TELayerNorm"):
        raise ValueError(f"expected norm_type 'LayerNorm' or 'TELayerNorm', got {norm_type!r}")
    norm = nn.LayerNorm(size)
    if norm_type == "TELayerNorm":
        warnings.warn(
            "norm_type 'TELayerNorm' asks for Transformer Engine; torch.nn.LayerNorm is used, "
            "which computes the same",
            stacklevel=2,
        )
        norm._state_history = (Ignored("_extra_state"),)  # type: ignore[assignment]
        follow_history(norm)
    return norm


def _first_and_others(model: nn.Sequential) -> tuple[nn.Linear, list[nn.Module]]:
    return cast(nn.Linear, model[0]), list(islice(model, 1, None))


def _apply_further(layers: Iterable[nn.Module], x: Tensor, *, again: bool) -> Tensor:
    """Apply what follows the first linear layer, if cheap again in the backward pass."""
    if not (again and _is_cheap_again(x)):
        return _apply_all(layers, x)
    if torch.compiler.is_compiling():
        return maybe_checkpoint(_apply_all, True, list(layers), x)
    model = nn.Sequential(*layers)
    names, weights = zip(*model.named_parameters(), strict=True)

    def apply(x: Tensor, *weights: Tensor) -> Tensor:
        output: Tensor = functional_call(model, dict(zip(names, weights, strict=True)), (x,))
        return output

    return computed_again(apply, x, *weights)


def _apply_all(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


def _is_cheap_again(x: Tensor) -> bool:
    """Return whether layers cost less when computed again than what they make when it is kept.

    On GPUs, products of half precision take about as long as reading and writing their features,
    and features of edges are most of what a training step keeps.
    """
    return x.is_cuda and x.dtype in (torch.float16, torch.bfloat16) and torch.is_grad_enabled()
