# SPDX-License-Identifier: Apache-2.0
"""Graphs of other libraries as :class:`Graph`.

Features are never touched. The sorted edges are kept as long as the other graph lives, and made
again when its edges are others or were edited in place: it is known by the object, the tensor of
its edges and that tensor's version, or its values where other libraries may write them unseen.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from physicsnemo import hooks
from physicsnemo.models.gnn_layers import _dgl, _pyg
from physicsnemo.models.gnn_layers._edges import Edges
from physicsnemo.models.gnn_layers.graph import Graph, forget, is_current

__all__ = ["GraphLike", "as_graph", "forget_edges"]

GraphLike = Any
"""What :func:`as_graph` takes. No type says it, as the other libraries need not be there."""

_READERS = {"dgl": _dgl.read_edges, "torch_geometric": _pyg.read_edges}
_adapted = WeakIdKeyDictionary()


def as_graph(
    graph: GraphLike, num_nodes: int | None = None, device: torch.device | None = None
) -> Graph:
    """Return a graph of any supported library as a :class:`Graph`.

    Models and layers call it on what they are given. Call it yourself before compiled code and
    before a CUDA graph is recorded, which cannot look into other libraries' objects.

    Parameters
    ----------
    graph
        A :class:`Graph`; a ``torch_geometric.data.Data`` or ``Batch``; a ``HeteroData`` with one
        type of nodes and one of edges; a ``dgl.DGLGraph`` with one type of edges; or what an
        installed plugin knows by the hook ``adapt_graph``.
    num_nodes
        The number of nodes where the graph does not tell it, as a ``Data`` of edges alone.
    device
        Where a ``DGLGraph`` on the CPU is copied to, as DGL itself needs a build for CUDA to move
        it. Others stay where they are.

    Returns
    -------
    The same edges in the same order, the same object while they stay the same. ``pos`` is
    ``graph.pos`` or ``graph.ndata["pos"]``, if there is one.

    Raises
    ------
    TypeError
        If no adapter knows the graph.
    ValueError
        If it has several types of nodes or edges, or numbers of nodes that there are not.
    RuntimeError
        If it is of DGL, and Python newer than any that DGL has a release for.

    Examples
    --------
    >>> import torch
    >>> from torch_geometric.data import Data
    >>> from physicsnemo.models.gnn_layers import as_graph
    >>> data = Data(edge_index=torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
    >>> as_graph(data).edge_index is data.edge_index
    True
    >>> as_graph(data) is as_graph(data)
    True
    """
    if not isinstance(graph, Graph):
        if torch.compiler.is_compiling():
            # Imported here, as it imports PyTorch's compiler, which nobody else shall wait for.
            from physicsnemo.models.gnn_layers._uncompiled import adapt_uncompiled

            return adapt_uncompiled(graph, num_nodes, device)
        return adapt(graph, num_nodes, device)
    own: Graph = graph
    if torch.compiler.is_compiling() or is_current(own):
        return own
    counts = own.num_nodes, own.target.num_nodes
    return _keep(own, Edges(own.edge_index, *counts, own.pos, own.batch, own.num_graphs))


def forget_edges(graph: GraphLike) -> None:
    """Have the edges of a graph sorted anew at its next use, after an edit that nothing tells.

    Edits by operations of PyTorch or through NumPy are seen without it; see :class:`Graph` for what
    is not.

    Parameters
    ----------
    graph
        What :func:`as_graph` takes.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.gnn_layers import Graph, as_graph, forget_edges
    >>> graph = Graph(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
    >>> graph.edge_index.data[1, 0] = 2
    >>> forget_edges(graph)
    >>> as_graph(graph).target.degrees
    tensor([0, 0, 2])
    """
    if isinstance(graph, Graph):
        forget(graph)
    if _can_be_kept(graph):
        _adapted.pop(graph, None)


def adapt(graph: object, num_nodes: int | None, device: torch.device | None) -> Graph:
    """Return a graph of another library as a :class:`Graph`; for parameters see ``as_graph``."""
    return _keep(graph, _reader(graph)(graph, num_nodes, _known(graph), device))


def _keep(graph: object, edges: Edges) -> Graph:
    """Return these edges as a graph, with what is sorted already if they are those known."""
    known = _known(graph)
    sizes = (edges.num_sources, edges.num_targets)
    if (
        known is None
        or known.edge_index is not edges.edge_index
        or (known.num_nodes, known.num_targets) != sizes
        or not is_current(known)
    ):
        known = Graph(edges.edge_index, *sizes)
    known = known.with_nodes(edges.pos, edges.batch, edges.num_graphs)
    if _can_be_kept(graph):
        _adapted[graph] = known
    return known


def _known(graph: object) -> Graph | None:
    return _adapted.get(graph) if _can_be_kept(graph) else None


def _can_be_kept(graph: object) -> bool:
    return type(graph).__weakrefoffset__ != 0  # negative where Python 3.12 keeps it before objects


def _reader(graph: object) -> Callable[..., Edges]:
    """Return what reads a graph, by the library of its class or of a class that it derives from."""
    libraries = (base.__module__.partition(".")[0] for base in type(graph).__mro__)
    return next((_READERS[name] for name in libraries if name in _READERS), _ask_plugins)


def _ask_plugins(
    graph: object, num_nodes: int | None, known: Graph | None, device: torch.device | None
) -> Edges:
    for plugin, answer in hooks.call("adapt_graph", graph=graph):
        edge_index, num_sources, num_targets = answer
        if not isinstance(edge_index, Tensor):
            raise TypeError(
                f"{plugin}: expected its hook adapt_graph to return a tensor of edges, got "
                f"{type(edge_index).__name__}"
            )
        return Edges(edge_index, num_sources, num_targets)
    raise TypeError(
        f"expected a graph, got {type(graph).__module__}.{type(graph).__qualname__}; pass a "
        f"physicsnemo.models.gnn_layers.Graph(edge_index, num_nodes), a torch_geometric Data, a "
        f"DGLGraph, or install a plugin with the hook adapt_graph"
    )
