# SPDX-License-Identifier: Apache-2.0
"""Checks of the tensors of a graph, and the switch for the one that costs something."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from physicsnemo.nn import checks

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_enabled: ContextVar[bool] = ContextVar("graph_checks", default=True)


@contextmanager
def unchecked() -> Iterator[None]:
    """Do not compare the numbers of nodes in new graphs with the number of nodes.

    To compare them, a GPU's numbers must be waited for; once a graph, not once a call of a model.
    Leave the check out in a loop that makes or adapts graphs on a GPU all the time, after it has
    been seen to pass. What a model computes from a number out of range is undefined.

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
    """Raise an error unless edges have a right shape and type, and data fit the nodes."""
    check_dense(edges, "edge_index")
    if edges.dtype not in INTEGERS:
        raise TypeError(
            f"expected edge_index to hold integers, got {edges.dtype}; convert it, as in "
            f"edge_index.long()"
        )
    if edges.ndim != 2 or edges.shape[0] != 2:
        raise ValueError(
            f"expected edge_index of shape (2, edges), got {tuple(edges.shape)}; its rows are the "
            f"source and the target of each edge"
        )
    for name, tensor in data.items():
        if tensor is None:
            continue
        check_dense(tensor, name)
        if tensor.device != edges.device or tensor.shape[:1] != (count,):
            raise ValueError(
                f"expected {name} for {count} nodes on {edges.device}, got one of shape "
                f"{tuple(tensor.shape)} on {tensor.device}"
            )


def check_dense(tensor: object, name: str) -> None:
    """Raise an error unless something is a tensor that is neither sparse nor nested."""
    if not isinstance(tensor, Tensor):
        raise TypeError(
            f"expected {name} to be a tensor, got {type(tensor).__name__}; convert it, as in "
            f"torch.as_tensor({name})"
        )
    checks.check_dense(name, tensor)


def check_batch(batch: Tensor | None, num_graphs: int) -> None:
    """Raise an error unless each node is of one of the graphs, and the nodes of each together."""
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
    """Raise an error if edges are of nodes that there are not; looks at values, where it may."""
    if not can_read(node) or not node.numel():
        return
    low, high = (value.item() for value in torch.aminmax(node))
    if low < 0 or high >= count:
        raise ValueError(
            f"expected {name} nodes from 0 to {count - 1}, as there are {count}, got edges of "
            f"nodes from {low} to {high}; correct edge_index or the number of nodes"
        )


def can_read(tensor: Tensor) -> bool:
    """Tell whether values may be looked at: they exist, and nobody records or forbids it."""
    if torch.compiler.is_compiling() or tensor.is_meta or not _enabled.get():
        return False
    return not (tensor.is_cuda and torch.cuda.is_current_stream_capturing())


def may_change_unseen(tensor: Tensor) -> bool:
    """Tell whether values may be edited without a new version, and are cheap to look at.

    PyTorch counts edits of memory that it owns alone. It marks as not resizable what it shares with
    NumPy, another process or a file.
    """
    if type(tensor) is not Tensor or tensor.device.type != "cpu":
        return False
    try:
        memory = tensor.untyped_storage()
    except NotImplementedError:  # within a transform of torch.func
        return False
    return tensor.is_inference() or not memory.resizable()
