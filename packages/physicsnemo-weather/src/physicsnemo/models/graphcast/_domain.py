# SPDX-License-Identifier: Apache-2.0
"""Rules by which ``physicsnemo.distributed`` divides GraphCast over ranks.

Each rank has some latitudes of the grid, and a band of mesh vertices near them. The four steps,
from grid to mesh, on the mesh and from mesh to grid, are divided by the nodes that they update. The
entry-point group ``physicsnemo.domain`` names this module.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from physicsnemo.models.gnn_layers.processor import pass_messages
from physicsnemo.models.graphcast.graph_cast_net import GraphCastNet
from physicsnemo.models.graphcast.graph_cast_processor import Attention, GraphCastProcessor
from physicsnemo.models.graphcast.graphs import GraphCastGraphs
from physicsnemo.models.graphcast.icosahedral_mesh import mesh_hierarchy


def model(module: GraphCastNet, domain: Any) -> None:
    """Leave of a model's graphs and features what belongs to the rank."""
    if module.g2m_chunks or module.m2g_chunks:
        raise NotImplementedError("expected an encoder and a decoder without chunks")
    height, width = module.input_res
    counts = domain.chunks(height)
    if not all(counts):
        raise ValueError(f"expected at least one latitude a rank, got {height} for {domain.size}")
    with torch.device("cpu"):  # as the graphs
        rows = torch.arange(domain.size).repeat_interleave(torch.tensor(counts))
        whole = module._graphs()
        vertices = vertex_owners(whole, module._mesh_level, _layers(module), domain.size)
        graphs = _divide(whole, rows.repeat_interleave(width), vertices, domain)
    module._graphs = lambda: graphs
    with torch.device(module.mesh_ndata.device):
        module._register(graphs, module.mesh_ndata.dtype)
    module.input_res = counts[domain.rank], width
    if not module._passes_messages:
        _divide_attention(module, vertices, domain)


def vertex_owners(graphs: GraphCastGraphs, mesh_level: int, layers: int, ranks: int) -> Tensor:
    """Return the rank of each mesh vertex: bands of latitude with as much work each.

    The work is the number of messages that reach a vertex, once from the grid and in each layer
    of the processor from other vertices. Owners of the grid's latitudes would not do: as many
    latitudes have more vertices the nearer they are to the equator.

    Parameters
    ----------
    graphs
        The whole graphs.
    mesh_level
        Number of refinements of the mesh.
    layers
        Number of layers of the processor.
    ranks
        The number of ranks, the first of which has the southernmost vertices, as it has the first
        latitudes of the grid.
    """
    vertices = mesh_hierarchy(mesh_level)[-1].vertices
    order = torch.from_numpy(vertices[:, 2]).argsort(stable=True)
    from_grid, from_mesh = (
        torch.bincount(graph.edge_index[1], minlength=len(vertices))
        for graph in (graphs.g2m, graphs.mesh)
    )
    work = (from_grid + layers * from_mesh).double()[order]
    before = work.cumsum(0) - work / 2
    owners = torch.empty_like(order)
    owners[order] = (before / work.sum() * ranks).long()
    return owners


def _layers(module: GraphCastNet) -> int:
    count = len(module.processor.processor_layers)
    # Blocks of edges and of nodes, without the first and the last layer, which are apart.
    return count // 2 + 2 if module._passes_messages else count


def processor(module: GraphCastProcessor, domain: Any) -> Any:
    """Return the forward of a processor, which hands the part on as it is."""

    def forward(efeat: Tensor, nfeat: Tensor, graph: Any) -> tuple[Tensor, Tensor]:
        return pass_messages(
            module.processor_layers,
            efeat=efeat,
            nfeat=nfeat,
            graph=graph,
            segments=module._bounds,
        )

    return forward


def _divide(graphs: GraphCastGraphs, points: Tensor, vertices: Tensor, domain: Any) -> Any:
    """Return the rank's parts of graphs and features, given the rank of each point and vertex."""
    g2m = domain.part(graphs.g2m, points, vertices)
    mesh = domain.part(graphs.mesh, vertices, vertices)
    m2g = domain.part(graphs.m2g, vertices, points)
    return replace(
        graphs,
        g2m=g2m,
        mesh=mesh,
        m2g=m2g,
        g2m_edata=g2m.of_edges(graphs.g2m_edata),
        mesh_edata=mesh.of_edges(graphs.mesh_edata),
        m2g_edata=m2g.of_edges(graphs.m2g_edata),
        mesh_ndata=mesh.of_nodes(graphs.mesh_ndata),
    )


def _divide_attention(module: GraphCastNet, vertices: Tensor, domain: Any) -> None:
    """Let the rank's vertices attend to those of all ranks, in the order of the ranks."""
    counts = torch.bincount(vertices, minlength=domain.size).tolist()
    processor: Any = module.processor
    whole = module._attention_mask()
    if whole is not None:
        mask = whole[vertices == domain.rank][:, vertices.argsort(stable=True)]
        module._attention_mask = lambda: mask
        processor.mask = mask.to(processor.mask.device)
    for layer in processor.processor_layers:
        layer.self_attention.forward = _attention(layer.self_attention, counts, domain)


def _attention(module: Attention, counts: list[int], domain: Any) -> Any:
    def forward(nfeat: Tensor, mask: Tensor | None) -> Tensor:
        query, key, value = module.project(nfeat)
        both = domain.all_gather(torch.cat((key, value), dim=-1), 0, counts)
        key, value = both.chunk(2, dim=-1)
        return module.attend(query, key, value, mask)

    return forward


MODELS = {GraphCastNet: lambda model: (2, 1)}
RULES = {GraphCastNet: model, GraphCastProcessor: processor}
