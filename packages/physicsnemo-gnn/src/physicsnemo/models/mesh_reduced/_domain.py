# SPDX-License-Identifier: Apache-2.0
"""Rules by which ``physicsnemo.distributed`` divides the mesh of an autoencoder over ranks.

Its networks take a ``physicsnemo.distributed.Part`` in place of the graph, and positions of the
rank's own nodes. The pivotal points are few: each rank has the features of all of them. The
entry-point group ``physicsnemo.domain`` names this module.
"""

from typing import Any

import torch
from torch import Tensor

from physicsnemo.models.gnn_layers.graph import Incidence
from physicsnemo.models.gnn_layers.messages import gather
from physicsnemo.models.mesh_reduced.interpolation import Nearest, nearest_points, weighted_mean
from physicsnemo.models.mesh_reduced.mesh_reduced import Mesh_Reduced


def model(module: Mesh_Reduced, domain: Any) -> None:
    """Let a model encode the rank's nodes and edges, and decode to them."""

    def encode(
        x: Tensor,
        edge_features: Tensor,
        graph: Any,
        position_mesh: Tensor,
        position_pivotal: Tensor,
    ) -> Tensor:
        module._check(x=x, position_mesh=position_mesh, position_pivotal=position_pivotal)
        encoded = module.PivotalNorm(module.encoder_processor(x, edge_features, graph))
        sizes = [min(module.k, count) for count in graph.counts]
        own = nearest_points(position_mesh, position_pivotal, module.k)
        return _interpolate(encoded, _nearest_of_all(own, module.k, sizes, domain), domain)

    def decode(
        x: Tensor,
        edge_features: Tensor,
        graph: Any,
        position_mesh: Tensor,
        position_pivotal: Tensor,
    ) -> Tensor:
        module._check(x=x, position_mesh=position_mesh, position_pivotal=position_pivotal)
        nodes = weighted_mean(x, nearest_points(position_pivotal, position_mesh, module.k))
        output: Tensor = module.decoder_processor(nodes, edge_features, graph)
        return output

    module.encode, module.decode = encode, decode  # type: ignore[method-assign]


def _nearest_of_all(own: Nearest, k: int, sizes: list[int], domain: Any) -> Nearest:
    """Return the own points with their shares in the means over the k nearest of all ranks."""
    weights = domain.all_gather(own.weights, 1, sizes)
    kept = weights.topk(min(k, weights.shape[1])).indices
    shares = torch.zeros_like(weights).scatter(1, kept, weights.gather(1, kept))
    shares = shares / shares.sum(1, keepdim=True)
    return Nearest(own.points, shares.split(sizes, dim=1)[domain.rank])


def _interpolate(x: Tensor, nearest: Nearest, domain: Any) -> Tensor:
    points, shares = nearest
    values = gather(x, Incidence.of(points.flatten(), len(x))).unflatten(0, points.shape)
    result: Tensor = domain.all_reduce(torch.einsum("nk,nkc->nc", shares.to(x.dtype), values))
    return result


MODELS = {Mesh_Reduced: lambda model: (0, 1)}
RULES = {Mesh_Reduced: model}
