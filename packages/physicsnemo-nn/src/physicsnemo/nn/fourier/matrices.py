# SPDX-License-Identifier: Apache-2.0
"""Truncated DFT matrices, each for the transform along one axis.

``like`` is a tensor that tells their type and device. They are computed there in float64, and kept.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from physicsnemo.nn.fourier.frequencies import Frequencies, runs
from physicsnemo.nn.tracing import is_tracing, is_transformed


def rdft(n: int, count: int, scale: float, like: Tensor) -> Tensor:
    """Return the DFT of a real axis, (2 count, n): both parts of modes 0 to count - 1."""
    return _cached(_rdft, n, kept=tuple(range(count)), scale=scale, like=like)


def irdft(n: int, count: int, scale: float, like: Tensor) -> Tensor:
    """Return the inverse DFT to a real axis, (n, 2 count)."""
    return _cached(_irdft, n, kept=tuple(range(count)), scale=scale, like=like)


def dft(n: int, kept: Frequencies, scale: float, like: Tensor) -> Tensor:
    """Return the DFT of a complex axis, (parts and kept, n and parts)."""
    return _cached(_dft, n, kept=kept, scale=scale, like=like)


def idft(n: int, kept: Frequencies, scale: float, like: Tensor) -> Tensor:
    """Return the inverse DFT to a complex axis, (n and parts, parts and kept)."""
    return _cached(_idft, n, kept=kept, scale=scale, like=like)


def _rdft(n: int, kept: Frequencies, device: torch.device) -> Tensor:
    cosine, sine = _waves(n, kept, device)
    return torch.cat((cosine, -sine))


def _irdft(n: int, kept: Frequencies, device: torch.device) -> Tensor:
    cosine, sine = _waves(n, kept, device)
    # The zero and the Nyquist frequency are their own mirror images. All others have one that is
    # not kept and contributes the same.
    alone = (2 * _frequencies(kept, device)) % n == 0
    weight = torch.where(alone, 1.0, 2.0).to(torch.float64)[:, None]
    sine = torch.where(alone[:, None], 0.0, sine)
    return torch.cat((weight * cosine, -weight * sine)).T


def _dft(n: int, kept: Frequencies, device: torch.device) -> Tensor:
    cosine, sine = _waves(n, kept, device)
    rows = torch.stack((cosine, sine), dim=-1), torch.stack((-sine, cosine), dim=-1)
    return torch.stack(rows).flatten(2).flatten(0, 1)


def _idft(n: int, kept: Frequencies, device: torch.device) -> Tensor:
    return _dft(n, kept, device).T


def _waves(n: int, kept: Frequencies, device: torch.device) -> tuple[Tensor, Tensor]:
    frequency = _frequencies(kept, device).to(torch.float64)
    point = torch.arange(n, dtype=torch.float64, device=device)
    # Of the number of turns, only the fraction matters; the whole part costs digits.
    turns = torch.outer(frequency, point).remainder(n) / n
    return torch.cos(2 * math.pi * turns), torch.sin(2 * math.pi * turns)


def _frequencies(kept: Frequencies, device: torch.device) -> Tensor:
    # Run by run, since a trace warns of tensors made from lists.
    return torch.cat([torch.arange(first, end, device=device) for first, end in runs(kept)])


_Make = Callable[[int, Frequencies, torch.device], Tensor]
_Arguments = tuple[_Make, int, Frequencies, float, torch.dtype, torch.device]
_CACHE: dict[_Arguments, Tensor] = {}


def _cached(make: _Make, n: int, kept: Frequencies, scale: float, like: Tensor) -> Tensor:
    arguments = make, n, kept, scale, like.dtype, like.device
    if _is_traced():
        return _compute(*arguments)
    matrix = _CACHE.get(arguments)
    if matrix is None:
        matrix = _compute(*arguments)
        # What is made while a CUDA graph is recorded holds no values until the graph is replayed.
        if not (like.is_cuda and torch.cuda.is_current_stream_capturing()):
            _CACHE[arguments] = matrix
    return matrix


def _compute(
    make: _Make,
    n: int,
    kept: Frequencies,
    scale: float,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    where = torch.device("cpu") if device.type == "mps" else device  # which has no float64
    with torch.inference_mode(False):
        return (scale * make(n, kept, where)).to(device, dtype).contiguous()


def _is_traced() -> bool:
    """Return whether a tensor made now is not an ordinary one, which any later call can use."""
    return (
        torch.compiler.is_compiling()
        or is_tracing()
        or _get_current_dispatch_mode() is not None
        or is_transformed()
    )
