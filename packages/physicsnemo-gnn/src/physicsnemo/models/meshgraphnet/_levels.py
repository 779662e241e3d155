# SPDX-License-Identifier: Apache-2.0
"""The coarser graphs that a caller gives, checked."""

from collections.abc import Sequence

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from physicsnemo.models.gnn_layers._checks import (
    INTEGERS,
    can_read,
    check_dense,
    may_change_unseen,
)
from physicsnemo.models.gnn_layers.adapters import as_graph
from physicsnemo.models.gnn_layers.graph import Graph

# Values that were read and found right, by version and number of nodes: a GPU must be waited for.
_seen = WeakIdKeyDictionary()


def read_levels(
    ms_edges: Sequence[Tensor | Graph], ms_ids: Sequence[Tensor], num_levels: int, pos: Tensor
) -> tuple[list[Graph], list[Tensor]]:
    """Return graphs and nodes where the positions are, or raise an error if they do not fit."""
    for name, levels in (("ms_edges", ms_edges), ("ms_ids", ms_ids)):
        if not hasattr(levels, "__len__") or (isinstance(levels, Tensor) and not levels.ndim):
            raise TypeError(
                f"expected {name} to be a list of one for each level, got {type(levels).__name__}"
            )
    if len(ms_edges) != num_levels + 1 or len(ms_ids) != num_levels:
        raise ValueError(
            f"expected {num_levels + 1} ms_edges and {num_levels} ms_ids for "
            f"num_mesh_levels={num_levels}, got {len(ms_edges)} and {len(ms_ids)}; make them by "
            f"bistride_levels(edge_index, num_nodes, {num_levels})"
        )
    sizes = [pos.shape[0]]
    ids = []
    for level, nodes in enumerate(ms_ids):
        name = f"ms_ids[{level}]"
        _check_there_is(nodes, name, pos)
        ids.append(_read_ids(nodes, sizes[-1], name).to(pos.device))
        sizes.append(ids[-1].shape[0])
    graphs = []
    for level, (edges, size) in enumerate(zip(ms_edges, sizes, strict=True)):
        name = f"ms_edges[{level}]"
        _check_there_is(edges, name, pos)
        graphs.append(_read_edges(edges, size, name).to(pos.device))
    return graphs, ids


def _check_there_is(given: object, name: str, pos: Tensor) -> None:
    """Raise an error for a tensor without numbers, unless the positions have none either."""
    if isinstance(given, Tensor) and given.is_meta and not pos.is_meta:
        raise ValueError(
            f"expected {name} on a device with numbers, as {pos.device}, got a tensor on the meta "
            f"device"
        )


def _read_edges(edges: Tensor | Graph, num_nodes: int, name: str) -> Graph:
    if not isinstance(edges, Graph):
        check_dense(edges, name)
        return Graph(edges.squeeze(0) if edges.ndim == 3 else edges, num_nodes)
    edges = as_graph(edges)
    if (edges.num_nodes, edges.num_targets) != (num_nodes, num_nodes):
        raise ValueError(
            f"expected {name} to have {num_nodes} nodes, as many as are kept of the graph before, "
            f"got a graph of {edges.num_nodes}"
        )
    return edges


def _read_ids(ids: Tensor, num_nodes: int, name: str) -> Tensor:
    check_dense(ids, name)
    rows = ids.squeeze(0) if ids.ndim == 2 else ids
    if rows.ndim != 1 or rows.dtype not in INTEGERS:
        raise ValueError(
            f"expected {name} to hold integers of shape (nodes,), got {rows.dtype} of shape "
            f"{tuple(rows.shape)}"
        )
    if rows.numel() and can_read(ids):
        state = (None if ids.is_inference() else ids._version, num_nodes)
        if may_change_unseen(ids) or _seen.get(ids) != state:
            _check_values(rows, num_nodes, name)
            _seen[ids] = state
    return rows.long()


def _check_values(ids: Tensor, num_nodes: int, name: str) -> None:
    ordered = ids.sort().values
    if ordered[0] < 0 or ordered[-1] >= num_nodes or not (ordered.diff() > 0).all():
        raise ValueError(
            f"expected {name} to name different nodes from 0 to {num_nodes - 1}, got "
            f"{ids.shape[0]} from {ordered[0]} to {ordered[-1]}"
        )
