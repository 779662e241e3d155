# SPDX-License-Identifier: Apache-2.0
"""One recording of a call as a CUDA graph, and the memory that it reads its arguments from."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor

from physicsnemo.core.pytree import map_leaves


class Recording:
    """A call that was recorded, not run, and can be replayed with other values of its tensors.

    Parameters
    ----------
    function
        What to record. It may not wait for the device.
    arguments
        Positional and keyword arguments, as ``(args, kwargs)``.
    leaves
        Their leaves.
    in_place
        For each leaf, whether the recording reads the caller's own memory; it then serves only
        calls with a tensor at the same address. Other tensors are copied before each replay.
    memory
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
        memory: "GraphMemory",
    ) -> None:
        own = [
            _own(leaf, shared) if isinstance(leaf, Tensor) else leaf
            for leaf, shared in zip(leaves, in_place, strict=True)
        ]
        inputs = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        self._buffers = {i: own[i] for i in inputs}
        self._copied = [i for i in inputs if not in_place[i]]
        self._shared = [(i, leaves[i].data_ptr()) for i in inputs if in_place[i]]
        supply = iter(own)
        args, kwargs = map_leaves(arguments, lambda _: next(supply))
        versions = {i: own[i]._version for i in self._copied}
        self._replay, self.result = memory.record(lambda: function(*args, **kwargs))
        self._written = [i for i, version in versions.items() if own[i]._version != version]

    def fits(self, leaves: Sequence[Any]) -> bool:
        """Return whether the leaves that are read in place lie where they lay."""
        return all(leaves[i].data_ptr() == address for i, address in self._shared)

    def replay(self, leaves: Sequence[Any]) -> None:
        """Run the recorded kernels on other values."""
        with torch.no_grad():
            for i in self._copied:
                self._buffers[i].copy_(leaves[i], non_blocking=True)
            self._replay()
            for i in self._written:
                leaves[i].copy_(self._buffers[i])


class GraphMemory:
    """The stream and the memory pool that all recordings on one device share.

    Sharing is safe since recordings on one stream never run at the same time, and each keeps its
    own results alive.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.MemPool()

    @staticmethod
    @cache
    def of(device: torch.device) -> "GraphMemory":
        """Return the one of a device."""
        return GraphMemory(device)

    def run(self, function: Callable[[], Any]) -> Any:
        """Run a function on the stream that records.

        Libraries set up their workspaces for each stream, so warm-up calls belong there.
        """
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            result = function()
        torch.cuda.current_stream().wait_stream(self.stream)
        return result

    def record(self, function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """Record what a function does; return what replays it, and the function's result.

        If it fails, the device is left as if nothing had been.
        """
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        # Casts that an autocast of the caller's keeps would be read from where they no longer are.
        torch.clear_autocast_cache()
        try:
            # "thread_local", since communication libraries query events from threads of their own.
            with torch.cuda.graph(
                graph, cast(Any, self._pool.id), self.stream, capture_error_mode="thread_local"
            ):
                result = function()
        except BaseException:
            torch.cuda.set_stream(before)
            self._pool = torch.cuda.MemPool()
            # The generator would go on taking this for a recording.
            generator = torch.cuda.default_generators[before.device_index]
            generator.graphsafe_set_state(generator.clone_state())
            raise
        finally:
            torch.clear_autocast_cache()
        return graph.replay, result


def _own(leaf: Tensor, shared: bool) -> Tensor:
    with torch.inference_mode(False):  # whose tensors do not tell whether they were written to
        own = leaf.detach() if shared else leaf.detach().clone()
        return own.requires_grad_(leaf.requires_grad)
