# SPDX-License-Identifier: Apache-2.0
"""CUDA graphs: one recording with its static inputs, and the graph pool that all share."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from physicsnemo.core.pytree import map_leaves


class Recording:
    """CUDA graph of a call, which can be replayed with other values of its tensors.

    Making it runs the Python code of the call, but no kernel.

    Parameters
    ----------
    function
        What to record. It may not wait for the device.
    arguments
        Positional and keyword arguments, as ``(args, kwargs)``.
    leaves
        Their leaves.
    in_place
        For each leaf, whether the caller's own memory is the static input; the recording then
        serves only calls with a tensor at the same address. Other tensors are copied into static
        inputs of the recording's before each replay. So are the states of generators, which are
        written back afterwards: the caller's are then where an eager call would have left them.
    pool
        Where to record.

    Attributes
    ----------
    result
        What the function returned. Tensors in it are overwritten by each replay.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: tuple[tuple[Any, ...], dict[str, Any]],
        leaves: Sequence[Any],
        in_place: Sequence[bool],
        pool: "GraphPool",
    ) -> None:
        own = [_static(leaf, shared) for leaf, shared in zip(leaves, in_place, strict=True)]
        self._generators = {i: it for i, it in enumerate(own) if isinstance(it, torch.Generator)}
        tensors = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        self._static_inputs = {i: own[i] for i in tensors}
        self._copied = [i for i in tensors if not in_place[i]]
        self._shared = [(i, leaves[i].data_ptr()) for i in tensors if in_place[i]]
        supply = iter(own)
        args, kwargs = map_leaves(arguments, lambda _: next(supply))
        # Where the step writes to an argument, a replay writes to the static input alone: versions
        # tell which have to be copied back to the caller's.
        versions = {i: own[i]._version for i in self._copied}
        self._replay, self.result = pool.record(
            lambda: function(*args, **kwargs), list(self._generators.values())
        )
        self._written = [i for i, version in versions.items() if own[i]._version != version]

    def fits(self, leaves: Sequence[Any]) -> bool:
        """Return whether the leaves that are read in place lie where they lay."""
        return all(leaves[i].data_ptr() == address for i, address in self._shared)

    def replay(self, leaves: Sequence[Any]) -> None:
        """Run the recorded kernels on other values."""
        self._copy(self._copied, leaves, self._static_inputs)
        for i, generator in self._generators.items():  # states are numbers on the host
            generator.set_state(leaves[i].get_state())
        self._replay()
        for i, generator in self._generators.items():
            leaves[i].set_state(generator.get_state())
        self._copy(self._written, self._static_inputs, leaves)

    @staticmethod
    def _copy(places: Sequence[int], source: Any, target: Any) -> None:
        if places:
            with torch.no_grad():
                for i in places:
                    target[i].copy_(source[i], non_blocking=True)


class GraphPool:
    """Graph pool: the memory, and the stream, that all recordings on one device share.

    A pool for each recording would keep the intermediate results of each, and those of training,
    evaluation and every shape of a batch would add up. Sharing is safe since recordings on one
    stream never run at the same time, and each keeps its own results alive. But a replay may write
    over what another recording has left in the pool, so nothing is to be read there after the next
    call: results are copied, and sums of gradients are moved to memory of their own.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.MemPool()
        self._graphs: WeakSet[torch.cuda.CUDAGraph] = WeakSet()

    @staticmethod
    @cache
    def of(device: torch.device) -> "GraphPool":
        """Return the one of a device, for all captured steps of the process."""
        return GraphPool(device)

    def run(self, function: Callable[[], Any]) -> Any:
        """Run a function on the stream that records.

        Libraries set up their workspaces for each stream, so warm-up calls belong there.
        """
        # The streams wait for each other on the device, not the host for either.
        self.stream.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(self.stream):
                return function()
        finally:
            torch.cuda.current_stream().wait_stream(self.stream)

    def record(
        self, function: Callable[[], Any], generators: Sequence[torch.Generator] = ()
    ) -> tuple[Callable[[], None], Any]:
        """Record what a function does; return what replays it, and the function's result.

        Generators that it draws from, besides the device's own, must be given. If it fails, the
        device is left as if nothing had been.
        """
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        for generator in generators:
            graph.register_generator_state(generator)
        # Casts that an autocast of the caller's keeps would be read from where they no longer are.
        torch.clear_autocast_cache()
        try:
            with _no_collection():
                if not self._graphs:
                    # Memory of recordings that are gone is given back; and a pool that no graph
                    # uses any more cannot be recorded to: the allocator for the host refuses.
                    self._pool = torch.cuda.MemPool()
                self._graphs.add(graph)
                pool: Any = self._pool.id
                # "thread_local", since libraries for communication query events from threads of
                # their own.
                with torch.cuda.graph(graph, pool, self.stream, capture_error_mode="thread_local"):
                    result = function()
        except BaseException:
            # Where ``torch.cuda.graph`` fails to end the stream capture, it leaves things as they
            # are within: the stream is current, the allocator serves it from the pool, keeps what
            # other streams have used until the capture ends, and the generator takes part in it.
            torch.cuda.set_stream(before)
            with suppress(RuntimeError):  # if it did end
                torch._C._cuda_endAllocateToPool(before.device_index, self._pool.id)
            self._pool = torch.cuda.MemPool()
            self._graphs.clear()
            generator = torch.cuda.default_generators[before.device_index]
            generator.graphsafe_set_state(generator.clone_state())
            raise
        finally:
            # Casts of the recording's lie in the pool, and hold values only after a replay.
            torch.clear_autocast_cache()
        return graph.replay, result


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep garbage: freeing an old recording, which may be part of it, ends a stream capture."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _static(leaf: Any, shared: bool) -> Any:
    if isinstance(leaf, torch.Generator):
        return leaf.clone_state()
    if not isinstance(leaf, Tensor):
        return leaf
    with torch.inference_mode(False):  # whose tensors do not tell whether they were written to
        own = leaf.detach() if shared else leaf.detach().clone()
        return own.requires_grad_(leaf.requires_grad)
