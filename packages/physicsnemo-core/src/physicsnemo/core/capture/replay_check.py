# SPDX-License-Identifier: Apache-2.0
"""Replay check: comparison of a replay with an eager call that leaves no trace."""

import random
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from physicsnemo.core.capture.fully_sharded import own_part
from physicsnemo.core.errors import CaptureError
from physicsnemo.core.pytree import map_tensors, named_leaves

TOLERANCE = 1e-3
"""Largest accepted relative difference, in the norm of each tensor."""


class HostRNGState:
    """RNG state of the host: PyTorch's, Python's and NumPy's global generators.

    A replay advances generators of the device, but not these: what was drawn from them is baked in.
    """

    def __init__(self) -> None:
        self._torch, self._python = torch.get_rng_state(), random.getstate()
        # Not imported for this: who draws from it has imported it.
        self._numpy = sys.modules.get("numpy")
        self._numpy_state = self._read_numpy()

    def changed(self) -> bool:
        """Return whether any has advanced."""
        return (
            not torch.equal(self._torch, torch.get_rng_state())
            or self._python != random.getstate()
            or self._numpy_state != self._read_numpy()
        )

    def restore(self) -> None:
        """Turn them back."""
        torch.set_rng_state(self._torch)
        random.setstate(self._python)
        if self._numpy is not None:
            name, keys, *rest = self._numpy_state
            self._numpy.random.set_state((name, self._numpy.frombuffer(keys, "uint32"), *rest))

    def _read_numpy(self) -> Any:
        if self._numpy is None:
            return None
        name, keys, *rest = self._numpy.random.get_state()
        return (name, keys.tobytes(), *rest)


class ReplayCheck:
    """Run a call eagerly, roll everything back, and compare with the replay that follows.

    Parameters
    ----------
    written
        All tensors that the call changes.
    run
        The eager call.
    """

    def __init__(self, written: Iterable[Tensor], run: Callable[[], Any]) -> None:
        self._written = [own_part(tensor) for tensor in written]
        before, on_host = _copies(self._written), HostRNGState()
        on_device = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        self._expected = map_tensors(run(), _copy)
        self._expected_written = _copies(self._written)
        # In place: the replay reads and writes these tensors, not others in their stead.
        with torch.no_grad():
            for tensor, value in zip(self._written, before, strict=True):
                tensor.copy_(value)
        on_host.restore()
        if on_device is not None:
            torch.cuda.set_rng_state(on_device)

    @torch.no_grad()
    def compare(self, result: Any) -> None:
        """Compare with what the replay did.

        Raises
        ------
        CaptureError
            If its result, or a tensor that it changed, is another one.
        """
        mine = [*named_leaves(result, "result"), *named_leaves(self._written, "state")]
        theirs = [*named_leaves(self._expected, ""), *named_leaves(self._expected_written, "")]
        for (name, one), (_, other) in zip(mine, theirs, strict=True):
            problem = _difference(own_part(one) if isinstance(one, Tensor) else one, other)
            if problem is not None:
                raise CaptureError(
                    f"a replayed step differs from an eager one: {name} {problem}. The step "
                    f"depends on something that cannot be watched; pass it as an argument, or use "
                    f"use_graphs=False"
                )


def _copies(tensors: list[Tensor]) -> list[Tensor]:
    return [_copy(tensor) for tensor in tensors]


def _copy(tensor: Tensor) -> Tensor:
    return own_part(tensor).detach().clone()


def _difference(mine: Any, theirs: Any) -> str | None:
    if not isinstance(mine, Tensor):
        return None if mine == theirs else f"is {mine!r} instead of {theirs!r}"
    if mine.shape != theirs.shape:
        return f"has the shape {tuple(mine.shape)} instead of {tuple(theirs.shape)}"
    error = _relative_error(mine, theirs)
    if error <= TOLERANCE:
        return None
    return f"(of shape {tuple(mine.shape)}) has a relative error of {error:.1e}"


def _relative_error(mine: Tensor, theirs: Tensor) -> float:
    if torch.equal(mine, theirs) or not mine.numel():
        return 0.0
    finite = mine.isfinite() & theirs.isfinite()
    if bool(mine.isfinite().all()) != bool(theirs.isfinite().all()) or not finite.any():
        return float("inf")
    precise = torch.promote_types(theirs.dtype, torch.float64)
    expected = theirs[finite].to(precise)
    scale = expected.norm().real.clamp_min(torch.finfo(torch.float32).tiny)
    return float((mine[finite].to(precise) - expected).norm() / scale)
