# SPDX-License-Identifier: Apache-2.0
"""Checks of a graph's tensors, and the switch for those that read values."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from physicsnemo.nn import checks

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
# What arguments are of a graph.
_PARTS = {
    "edge_index": "edge_index",
    "ms_edges": "edge_index",
    "pos": "pos",
    "pos_x": "pos",
    "pos_y": "pos",
    "batch": "batch",
}
_enabled: ContextVar[bool] = ContextVar("graph_checks", default=True)


@contextmanager
def unchecked() -> Iterator[None]:
    """Skip the range check of node indices in new graphs.

    The check synchronizes with the GPU, once per graph and not once per call of a model. Skip it in
    a loop that keeps making or adapting graphs on a GPU, after it has passed once. Results for
    indices out of range are undefined.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.gnn_layers import Graph, unchecked
    >>> with unchecked():
    ...     graph = Graph(torch.tensor([[0], [1]]), num_nodes=2)
    """
    token = _enabled.set(False)
    try:
        yield
    finally:
        _enabled.reset(token)


def check_tensors(edges: Tensor, count: int, data: dict[str, Tensor | None]) -> None:
    """Raise an error unless edges have the right shape and dtype, and node data fit ``count``."""
    check_edges(edges, "edge_index")
    for name, tensor in data.items():
        if tensor is None:
            continue
        check_dense(tensor, name)
        if tensor.device != edges.device or tensor.shape[:1] != (count,):
            raise ValueError(
                f"expected {name} for {count} nodes on {edges.device}, got one of shape "
                f"{tuple(tensor.shape)} on {tensor.device}"
            )


def check_edges(edges: Tensor, name: str) -> None:
    """Raise an error unless edges have the right shape and dtype."""
    check_dense(edges, name)
    if edges.dtype not in INTEGERS:
        raise TypeError(
            f"expected {name} to hold integers, got {edges.dtype}; convert it, as in {name}.long()"
        )
    if edges.ndim != 2 or edges.shape[0] != 2:
        pairs = edges.ndim == 2 and edges.shape[1] == 2
        advice = f"; if it has a row for each edge, pass {name}.T.contiguous()" if pairs else ""
        raise ValueError(
            f"expected {name} of shape (2, edges), got {tuple(edges.shape)}; its rows are the "
            f"source and the target of each edge{advice}"
        )


def check_dense(tensor: object, name: str) -> None:
    """Raise an error unless the argument is a dense tensor: neither sparse nor nested."""
    if not isinstance(tensor, Tensor):
        raise TypeError(
            f"expected {name} to be a tensor, got {type(tensor).__name__}{_advice(tensor, name)}"
        )
    checks.check_dense(name, tensor)


def _advice(given: object, name: str) -> str:
    """Return what to pass in place of something that is no tensor, as the end of a message."""
    kind = name.partition("[")[0]  # of one of a list
    if hasattr(given, "edge_index"):  # a graph
        part = _PARTS.get(kind)
        if part is not None:
            return f"; pass its {part}"
        return "; graphs come after features of edges" if kind == "node_features" else ""
    if isinstance(given, (list, tuple)) and any(isinstance(it, Tensor) for it in given):
        join = "stack" if _PARTS.get(kind) == "edge_index" else "cat"
        return f"; join them, as in torch.{join}({name})"
    return "" if given is None else f"; convert it, as in torch.as_tensor({name})"


def check_batch(batch: Tensor | None, num_graphs: int) -> None:
    """Raise an error unless graph indices are in range and in ascending order."""
    if batch is None:
        return
    if batch.ndim != 1 or batch.dtype not in INTEGERS:
        raise ValueError(
            f"expected batch to hold integers of shape (nodes,), got {batch.dtype} of shape "
            f"{tuple(batch.shape)}"
        )
    if not can_read(batch) or not batch.numel():
        return
    low, high, rising = torch.stack(
        (batch[0].long(), batch[-1].long(), (batch[1:] >= batch[:-1]).all().long())
    ).tolist()
    if low < 0 or high >= num_graphs or not rising:
        order = "" if rising else ", out of order"
        raise ValueError(
            f"expected batch to name graphs from 0 to {num_graphs - 1} in rising order, as "
            f"num_graphs is {num_graphs}, got numbers from {low} to {high}{order}; sort the nodes "
            f"by their graph, or correct num_graphs"
        )


def check_range(node: Tensor, count: int, name: str) -> None:
    """Raise an error if node indices are out of range; skipped where values cannot be read."""
    if not can_read(node) or not node.numel():
        return
    low, high = (value.item() for value in torch.aminmax(node))
    if low < 0 or high >= count:
        raise ValueError(
            f"expected {name} nodes from 0 to {count - 1}, as there are {count}, got edges of "
            f"nodes from {low} to {high}; correct the edges or the number of nodes"
        )


def can_read(tensor: Tensor) -> bool:
    """Tell whether values may be read: not while tracing, capturing, on meta or if unchecked."""
    if torch.compiler.is_compiling() or tensor.is_meta or not _enabled.get():
        return False
    return not (tensor.is_cuda and torch.cuda.is_current_stream_capturing())


def may_change_unseen(tensor: Tensor) -> bool:
    """Tell whether values may change without a new version, and are cheap to compare.

    PyTorch counts the edits of memory that it alone owns. Memory shared with NumPy, another process
    or a file is marked as not resizable.
    """
    if type(tensor) is not Tensor or tensor.device.type != "cpu":
        return False
    try:
        memory = tensor.untyped_storage()
    except NotImplementedError:  # within a transform of torch.func
        return False
    return tensor.is_inference() or not memory.resizable()
