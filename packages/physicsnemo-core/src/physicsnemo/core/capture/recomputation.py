# SPDX-License-Identifier: Apache-2.0
"""Recomputation: blocks of a model that keep their inputs alone for the backward pass."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from physicsnemo.core.capture.blocks import find_blocks

_SMALL = 4  # layers of a block that is not divided


class RecomputedBlocks:
    """Blocks of a model whose activations are computed again while a step runs.

    Parameters
    ----------
    model
        Any module.

    Raises
    ------
    ValueError
        If nothing in the model is repeated, so that little would be gained.
    """

    def __init__(self, model: nn.Module) -> None:
        blocks = [block for kind in find_blocks(model, _SMALL) for block in kind]
        if not blocks:
            raise ValueError(
                f"recompute=True is for models of repeated blocks, and {type(model).__name__} has "
                f"none; leave it out"
            )
        self._blocks = [(block, _Draws()) for block in blocks]

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let the blocks compute again; to others, the model is as it was."""
        before = [(vars(block), vars(block).get("forward")) for block, _ in self._blocks]
        for block, draws in self._blocks:
            vars(block)["forward"] = _recomputed(block.forward, draws)
        try:
            yield
        finally:
            for own, forward in before:
                if forward is None:
                    del own["forward"]
                else:
                    own["forward"] = forward


class _Draws:
    """Whether a function has drawn random numbers so far."""

    def __init__(self) -> None:
        self.seen = False


def recomputed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that keeps its arguments alone for the backward pass, and computes again.

    Memory falls from that of all activations to that of the arguments; each forward pass is made
    twice. Random numbers are the same both times. Calls can be recorded as part of a CUDA graph,
    unless the function draws random numbers on the device.

    Parameters
    ----------
    function
        Whose activations are computed again, such as the ``forward`` of a block.

    References
    ----------
    Chen et al. 2016, Training deep nets with sublinear memory cost, arXiv:1604.06174.
    """
    return _recomputed(function, _Draws())


def _recomputed(function: Callable[..., Any], draws: _Draws) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return _checkpoint(function, True, args, kwargs)
        # States of random numbers cannot be read in a stream capture: eager calls before it tell
        # whether that is needed.
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            return _checkpoint(function, draws.seen, args, kwargs)
        before = _random_states()
        result = _checkpoint(function, True, args, kwargs)
        draws.seen |= not all(map(torch.equal, before, _random_states()))
        return result

    return call


def _checkpoint(
    function: Callable[..., Any], draws: bool, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    return checkpoint(function, *args, use_reentrant=False, preserve_rng_state=draws, **kwargs)


def _random_states() -> list[torch.Tensor]:
    """Return the states of generators, of which those of devices lie on the host too."""
    on_device = [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else []
    return [torch.get_rng_state(), *on_device]
