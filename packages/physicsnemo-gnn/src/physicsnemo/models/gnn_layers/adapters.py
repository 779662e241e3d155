# SPDX-License-Identifier: Apache-2.0
"""Adapters from graphs of DGL, PyTorch Geometric and plugins to :class:`Graph`.

Features are never touched. The sorted edges are cached for as long as the other graph lives, and
rebuilt when its edges change: the key is the object, its edge tensor and that tensor's version, or
the values themselves where other libraries may write them unseen.
"""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from physicsnemo import hooks
from physicsnemo.models.gnn_layers.graph import Graph, forget, is_current

__all__ = ["GraphLike", "as_graph", "forget_edges"]

GraphLike = Any
"""What :func:`as_graph` takes. No type says it, as the other libraries need not be installed."""

T = TypeVar("T", Tensor, Tensor | None)

_graphs = WeakIdKeyDictionary()  # by the other library's object


class Edges(NamedTuple):
    """Edges and node data read from another library's graph; see :class:`Graph` for shapes."""

    edge_index: Tensor
    num_nodes: int
    num_targets: int
    pos: Tensor | None = None
    batch: Tensor | None = None
    num_graphs: int = 1


def as_graph(
    graph: GraphLike, num_nodes: int | None = None, device: torch.device | None = None
) -> Graph:
    """Convert a graph of any supported library to a :class:`Graph`.

    Models and layers call it on their inputs. Call it yourself before compiled code and before
    recording a CUDA graph, neither of which can look into other libraries' objects.

    Parameters
    ----------
    graph
        A :class:`Graph`; a ``torch_geometric.data.Data`` or ``Batch``; a ``HeteroData`` with one
        node type and one edge type; a ``dgl.DGLGraph`` with one edge type; or a type that an
        installed plugin knows by the hook ``adapt_graph``.
    num_nodes
        Number of nodes, used where the graph does not tell it, as in a ``Data`` of edges alone.
    device
        Device that a ``DGLGraph`` on the CPU is copied to, since DGL itself needs a CUDA build to
        move it. Other graphs stay where they are.

    Returns
    -------
    The same edges in the same order, as the same object while they do not change. ``pos`` is
    ``graph.pos`` or ``graph.ndata["pos"]``, if there is one.

    Raises
    ------
    TypeError
        If no adapter knows the graph.
    ValueError
        If it has several node or edge types, or node indices are out of range.
    RuntimeError
        If it is a ``DGLGraph`` on Python 3.12 or newer, for which there is no DGL before 2.

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
            # Imported here, as it imports PyTorch's compiler, which takes seconds.
            from physicsnemo.models.gnn_layers._uncompiled import adapt_uncompiled

            return adapt_uncompiled(graph, num_nodes, device)
        return adapt(graph, num_nodes, device)
    own: Graph = graph
    if torch.compiler.is_compiling() or is_current(own):
        return own
    # Edited since its edges were sorted. The object is the user's, so it is cached like others'.
    edges = Edges(
        own.edge_index,
        num_nodes=own.num_nodes,
        num_targets=own.target.num_nodes,
        pos=own.pos,
        batch=own.batch,
        num_graphs=own.num_graphs,
    )
    return _from_edges(own, edges)


def forget_edges(graph: GraphLike) -> None:
    """Drop the cached edges of a graph, after an edit that cannot be detected.

    Edits by PyTorch operations or through NumPy are detected without it; see :class:`Graph` for
    those that are not.

    Parameters
    ----------
    graph
        Any graph that :func:`as_graph` takes.

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
    if _is_cacheable(graph):
        _graphs.pop(graph, None)


def adapt(graph: object, num_nodes: int | None, device: torch.device | None) -> Graph:
    """Convert another library's graph; see :func:`as_graph` for the parameters."""
    read = _reader(graph)
    return _from_edges(graph, read(graph, num_nodes=num_nodes, device=device))


def _from_edges(graph: object, edges: Edges) -> Graph:
    """Return edges as a graph: the cached one, unless the edges have changed."""
    cached = _cached(graph)
    if (
        cached is None
        or cached.edge_index is not edges.edge_index
        or (cached.num_nodes, cached.num_targets) != (edges.num_nodes, edges.num_targets)
        or not is_current(cached)
    ):
        cached = Graph(edges.edge_index, num_nodes=edges.num_nodes, num_targets=edges.num_targets)
    cached = cached.with_nodes(edges.pos, edges.batch, edges.num_graphs)
    if _is_cacheable(graph):
        _graphs[graph] = cached
    return cached


def _cached(graph: object) -> Graph | None:
    return _graphs.get(graph) if _is_cacheable(graph) else None


def _is_cacheable(graph: object) -> bool:
    """Tell whether there can be a weak reference to an object."""
    return type(graph).__weakrefoffset__ != 0  # negative where Python 3.12 keeps it before objects


def _reader(graph: object) -> Callable[..., Edges]:
    """Return the reader for a graph, by the library of its class or of one of its base classes."""
    # By name, as the libraries need not be installed; base classes, as users derive from theirs.
    libraries = (base.__module__.partition(".")[0] for base in type(graph).__mro__)
    return next((_READERS[name] for name in libraries if name in _READERS), _read_by_plugins)


def _is_known(graph: object) -> bool:
    """Tell whether something is a graph, of this library or of another one."""
    return isinstance(graph, Graph) or _reader(graph) is not _read_by_plugins


def _read_dgl(graph: Any, *, num_nodes: int | None, device: torch.device | None) -> Edges:
    if sys.version_info >= (3, 12):
        raise RuntimeError(
            f"DGLGraph is supported on Python 3.11, the newest that DGL 1.1 is built for, and this "
            f"is {sys.version_info[0]}.{sys.version_info[1]}; pass a torch_geometric Data (PyG), "
            f"or physicsnemo.models.gnn_layers.Graph(edge_index, num_nodes), instead"
        )
    if len(graph.canonical_etypes) != 1:
        raise ValueError(
            f"expected a DGLGraph with one type of edges, got {graph.canonical_etypes}; take one, "
            f"as in graph[{graph.canonical_etypes[:1]}]"
        )
    (source, _, target) = graph.canonical_etypes[0]
    device = device if device is not None and graph.device.type == "cpu" else graph.device
    edge_index = torch.stack(graph.edges(order="eid")).to(device)
    pos, batch = graph.nodes[source].data.get("pos"), _dgl_batch(graph, source, device)
    # DGL's tensors have no version, and share the memory of those that the graph was made from: so
    # values are compared, and equal ones return the cached tensor.
    cached = _cached(graph)
    if cached is not None:
        edge_index = _cached_if_equal(edge_index, cached.edge_index)
        batch = _cached_if_equal(batch, cached.batch)
    if pos is not None and pos.device != device:
        pos = _cached_if_equal(pos.to(device), None if cached is None else cached.pos)
    return Edges(
        edge_index,
        num_nodes=graph.num_nodes(source),
        num_targets=graph.num_nodes(target),
        pos=pos,
        batch=batch,
        num_graphs=graph.batch_size,
    )


def _cached_if_equal(tensor: T, cached: Tensor | None) -> T:
    """Return the cached one of two tensors where nothing tells them apart, gradients included."""
    if (
        tensor is None
        or cached is None
        or (tensor.device, tensor.dtype) != (cached.device, cached.dtype)
        or tensor.is_meta  # has no values to compare
        or tensor.requires_grad
        or cached.requires_grad
        or not torch.equal(tensor, cached)
    ):
        return tensor
    return cached


def _dgl_batch(graph: Any, ntype: str, device: torch.device) -> Tensor | None:
    """Return the graph index of each node, as PyTorch Geometric has it; None without a batch."""
    if graph.batch_size == 1:
        return None
    sizes = graph.batch_num_nodes(ntype)
    index = torch.arange(graph.batch_size, device=sizes.device)
    return index.repeat_interleave(sizes, output_size=graph.num_nodes(ntype)).to(device)


def _read_pyg(data: Any, *, num_nodes: int | None, device: torch.device | None) -> Edges:
    nodes, edges = _pyg_stores(data)
    if edges.get("edge_index") is None:
        raise ValueError(
            f"expected a {type(data).__name__} with edge_index, got one with {list(edges.keys())}; "
            f"set its edge_index to integers of shape (2, edges)"
        )
    # Of edges alone, PyTorch Geometric guesses: the caller knows better.
    told = {"num_nodes", "x", "pos", "batch"} & set(nodes.keys())
    count = int(nodes.num_nodes) if told or num_nodes is None else num_nodes
    num_graphs = getattr(data, "num_graphs", 1)  # of a Batch
    return Edges(
        edges["edge_index"],
        num_nodes=count,
        num_targets=count,
        pos=nodes.get("pos"),
        batch=nodes.get("batch") if num_graphs > 1 else None,
        num_graphs=num_graphs,
    )


def _pyg_stores(data: Any) -> tuple[Any, Any]:
    """Return the storages of the node tensors and of the edge tensors."""
    if not hasattr(data, "node_types"):
        return data._store, data._store
    if len(data.node_types) != 1 or len(data.edge_types) != 1:
        raise ValueError(
            f"expected a HeteroData with one type of nodes and one of edges, got nodes of "
            f"{data.node_types} and edges of {data.edge_types}; take one of each, as in "
            f"data.edge_type_subgraph([...]), or call data.to_homogeneous()"
        )
    return data[data.node_types[0]], data[data.edge_types[0]]


def _read_by_plugins(graph: object, *, num_nodes: int | None, device: torch.device | None) -> Edges:
    for plugin, answer in hooks.call("adapt_graph", graph=graph):
        edge_index, num_sources, num_targets = answer
        if not isinstance(edge_index, Tensor):
            raise TypeError(
                f"{plugin}: expected its hook adapt_graph to return a tensor of edges, got "
                f"{type(edge_index).__name__}"
            )
        return Edges(edge_index, num_nodes=num_sources, num_targets=num_targets)
    several = isinstance(graph, (list, tuple)) and any(_is_known(it) for it in graph)
    join = "make one of several, as in Graph.join([as_graph(g) for g in graphs]); "
    joined = join if several else ""
    raise TypeError(
        f"expected a graph, got {type(graph).__module__}.{type(graph).__qualname__}; {joined}pass "
        f"a physicsnemo.models.gnn_layers.Graph(edge_index, num_nodes), a torch_geometric Data, a "
        f"DGLGraph, or install a plugin with the hook adapt_graph"
    )


_READERS = {"dgl": _read_dgl, "torch_geometric": _read_pyg}
