# SPDX-License-Identifier: Apache-2.0
"""A function that becomes a CUDA graph after a few calls."""

import logging
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch.utils import _pytree as pytree

_MAX_GRAPHS = 8


class GraphedCall:
    """Call a function eagerly at first, then record it once and replay the record.

    The warm-up calls are the caller's own, so nothing runs that was not asked for. Tensors among
    the arguments are copied into buffers that belong to the graph; another shape, dtype, structure
    or plain value gets a warm-up and a graph of its own. The oldest graph is dropped when there
    are more than eight.

    Parameters
    ----------
    function
        What to call. Its result is returned as it is: tensors in it are overwritten by the next
        replay.
    warmup
        Number of eager calls before each recording, at least one.
    mode
        Returns what the function depends on besides its arguments; part of a graph's key.
    logger
        Where recordings are reported.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        warmup: int,
        mode: Callable[[], Hashable],
        logger: logging.Logger,
    ) -> None:
        self._function, self._warmup, self._mode = function, max(1, warmup), mode
        self._logger = logger
        self._calls: Counter[Hashable] = Counter()
        self._graphs: dict[Hashable, _Graph] = {}
        self._stream = torch.cuda.Stream()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Warm up, record or replay; which one depends on the arguments seen before."""
        leaves, structure = pytree.tree_flatten((args, kwargs))
        key = (structure, self._mode(), *map(_describe, leaves))
        if key in self._graphs:
            return self._graphs[key].replay(leaves)
        if self._calls[key] < self._warmup:
            self._calls[key] += 1
            return self._call_on_side_stream(args, kwargs)
        self._logger.info("recording a CUDA graph after %d warm-up calls", self._warmup)
        graph = _Graph(self._function, leaves, structure, self._stream)
        self._graphs[key] = graph
        self._drop_oldest()
        return graph.replay(leaves)

    def _call_on_side_stream(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # Recording happens on a stream other than the default one, and libraries set up their
        # workspaces per stream: warm up on the stream that records.
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            result = self._function(*args, **kwargs)
        torch.cuda.current_stream().wait_stream(self._stream)
        return result

    def _drop_oldest(self) -> None:
        if len(self._graphs) > _MAX_GRAPHS:
            oldest = next(iter(self._graphs))
            del self._graphs[oldest]
            self._calls[oldest] = 0
            self._logger.warning(
                "more than %d kinds of input were recorded as CUDA graphs, the oldest is dropped; "
                "pad inputs to fewer shapes, or switch graphs off",
                _MAX_GRAPHS,
            )


class _Graph:
    """One recording, with the buffers that it reads its inputs from."""

    def __init__(
        self,
        function: Callable[..., Any],
        leaves: list[Any],
        structure: pytree.TreeSpec,
        stream: torch.cuda.Stream,
    ) -> None:
        self._buffers = [_buffer(leaf) for leaf in leaves]
        args, kwargs = pytree.tree_unflatten(self._buffers, structure)
        self._graph = torch.cuda.CUDAGraph()
        # "thread_local", since communication libraries query events from threads of their own.
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._result = function(*args, **kwargs)

    def replay(self, leaves: list[Any]) -> Any:
        with torch.no_grad():
            for buffer, leaf in zip(self._buffers, leaves, strict=True):
                if isinstance(leaf, torch.Tensor):
                    buffer.copy_(leaf, non_blocking=True)
        self._graph.replay()
        return self._result


def _buffer(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        return leaf.detach().clone().requires_grad_(leaf.requires_grad)
    return leaf


def _describe(leaf: Any) -> Hashable:
    """Return what a graph bakes in of an argument: all but the values of a tensor."""
    if isinstance(leaf, torch.Tensor):
        return (leaf.shape, leaf.stride(), leaf.dtype, leaf.device, leaf.requires_grad)
    if isinstance(leaf, (bool, int, float, complex, str, bytes, type(None))):
        return (type(leaf), leaf)
    return (type(leaf), id(leaf))
