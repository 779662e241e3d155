# SPDX-License-Identifier: Apache-2.0
"""Truncated DFT matrices, each for the transform along one axis.

They are computed in float64 on the device where products need them, and kept.
"""

import math
from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils._python_dispatch import _get_current_dispatch_mode

from physicsnemo.nn.fourier.frequencies import Frequencies, runs
from physicsnemo.nn.precision import precision_of_products
from physicsnemo.nn.tracing import (
    assume_constant_result,
    is_exporting,
    is_faked,
    is_tracing,
    is_transformed,
)

Make = Callable[[int, Frequencies, torch.device], Tensor]
"""Makes a matrix in float64 from the number of points, the kept frequencies and the device."""


def dft_matrix(make: Make, n: int, kept: Frequencies, scale: float, like: Tensor) -> Tensor:
    """Return a matrix for a product, made once for each type and device.

    Parameters
    ----------
    make
        Which one: :func:`rdft`, or another of this module's.
    n
        Number of points of the axis.
    kept
        The kept frequencies.
    scale
        Factor of all numbers.
    like
        The tensor that it is to meet, which tells its type and device.
    """
    arguments = make, n, kept, scale, precision_of_products(like), like.device
    if torch.compiler.is_compiling() and _takes_inputs(n):
        matrix: Tensor = getattr(_OF_COMPILERS, _named(*arguments))
        return matrix
    return _compute(*arguments) if _is_traced() else _looked_up(*arguments)


def rdft(n: int, kept: Frequencies, device: torch.device) -> Tensor:
    """Return the DFT of a real axis, (2 kept, n): both parts of modes."""
    cosine, sine = _waves(n, kept, device)
    return torch.cat((cosine, -sine))


def irdft(n: int, kept: Frequencies, device: torch.device) -> Tensor:
    """Return the inverse DFT to a real axis, (n, 2 kept)."""
    cosine, sine = _waves(n, kept, device)
    weight = _multiplicity(n, kept, device)
    sine = torch.where(weight == 1, 0.0, sine)
    return torch.cat((weight * cosine, -weight * sine)).T


def dft(n: int, kept: Frequencies, device: torch.device) -> Tensor:
    """Return the DFT of a complex axis, (parts and kept, n and parts)."""
    cosine, sine = _waves(n, kept, device)
    rows = torch.stack((cosine, sine), dim=-1), torch.stack((-sine, cosine), dim=-1)
    return torch.stack(rows).flatten(2).flatten(0, 1)


def idft(n: int, kept: Frequencies, device: torch.device) -> Tensor:
    """Return the inverse DFT to a complex axis, (n and parts, parts and kept)."""
    return dft(n, kept, device).T


def real_to_lines(n: int, kept: Frequencies, device: torch.device) -> Tensor:
    """Return the DFT of a real axis, (kept and parts, n)."""
    cosine, sine = _waves(n, kept, device)
    return torch.stack((cosine, -sine), dim=1).flatten(0, 1)


def lines_to_lines(n: int, kept: Frequencies, device: torch.device) -> Tensor:
    """Return the DFT of a complex axis, (kept and parts, parts and n)."""
    return torch.stack(_complex_waves(n, kept, device), dim=1).flatten(0, 1)


def lines_to_modes(n: int, kept: Frequencies, device: torch.device) -> Tensor:
    """Return the DFT of a complex axis, (parts and kept, parts and n)."""
    return torch.cat(_complex_waves(n, kept, device))


def lines_to_real(n: int, kept: Frequencies, device: torch.device) -> Tensor:
    """Return the inverse DFT to a real axis, (n, kept and parts)."""
    return real_to_lines(n, kept, device).T


def lines_from_lines(n: int, kept: Frequencies, device: torch.device) -> Tensor:
    """Return the inverse DFT to a complex axis, (parts and n, kept and parts)."""
    return lines_to_lines(n, kept, device).T


def modes_to_lines(n: int, kept: Frequencies, device: torch.device) -> Tensor:
    """Return the inverse DFT to a complex axis, (parts and n, parts and kept).

    Modes count as often as along an axis that is real in the end: most of them twice.
    """
    weight = _multiplicity(n, kept, device)
    return torch.cat([weight * part for part in _complex_waves(n, kept, device)]).T


def _multiplicity(n: int, kept: Frequencies, device: torch.device) -> Tensor:
    """Return how many modes of a real field each stands for, (kept, 1)."""
    # The zero and the Nyquist frequency are their own mirror images. All others have one that is
    # not kept and contributes the same.
    alone = (2 * _frequencies(kept, device)) % n == 0
    return torch.where(alone, 1.0, 2.0).to(torch.float64)[:, None]


def _complex_waves(n: int, kept: Frequencies, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the rows of real and of imaginary parts of modes, each (kept, parts and n)."""
    cosine, sine = _waves(n, kept, device)
    return torch.cat((cosine, sine), dim=1), torch.cat((-sine, cosine), dim=1)


def _waves(n: int, kept: Frequencies, device: torch.device) -> tuple[Tensor, Tensor]:
    frequency = _frequencies(kept, device).to(torch.float64)
    point = torch.arange(n, dtype=torch.float64, device=device)
    # Of the number of turns, only the fraction matters; the whole part costs digits.
    turns = torch.outer(frequency, point).remainder(n) / n
    return torch.cos(2 * math.pi * turns), torch.sin(2 * math.pi * turns)


def _frequencies(kept: Frequencies, device: torch.device) -> Tensor:
    # Run by run, since a trace warns of tensors made from lists.
    return torch.cat([torch.arange(first, end, device=device) for first, end in runs(kept)])


_Arguments = tuple[Make, int, Frequencies, float, torch.dtype, torch.device]
_CACHE: dict[_Arguments, Tensor] = {}


# Compiled code takes matrices as inputs, or it would compute all waves in each step. Each is an
# attribute, so that compilers guard those alone that they meet, and not how many others there are.
_OF_COMPILERS = SimpleNamespace()
_NAMES: dict[_Arguments, str] = {}


def _takes_inputs(n: int) -> bool:
    """Return whether compiled code can have a matrix for so many points from outside."""
    from torch.fx.experimental.symbolic_shapes import has_static_value

    return has_static_value(n) and not is_exporting() and not is_faked()


@assume_constant_result
def _named(
    make: Make,
    n: int,
    kept: Frequencies,
    scale: float,
    dtype: torch.dtype,
    device: torch.device,
) -> str:
    """Return the name by which compiled code finds a matrix."""
    from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

    arguments = make, n, kept, scale, dtype, device
    name = _NAMES.setdefault(arguments, f"matrix_{len(_NAMES)}")
    # Compilers run the transforms of torch.func as they trace them, and would wrap the tensor.
    with temporarily_clear_interpreter_stack():
        setattr(_OF_COMPILERS, name, _looked_up(*arguments))
    return name


def _looked_up(
    make: Make,
    n: int,
    kept: Frequencies,
    scale: float,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    arguments = make, n, kept, scale, dtype, device
    matrix = _CACHE.get(arguments)
    if matrix is None:
        matrix = _compute(*arguments)
        # What is made while a CUDA graph is recorded holds no values until the graph is replayed.
        if not (device.type == "cuda" and torch.cuda.is_current_stream_capturing()):
            _CACHE[arguments] = matrix
    return matrix


def _compute(
    make: Make,
    n: int,
    kept: Frequencies,
    scale: float,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    where = torch.device("cpu") if device.type == "mps" else device  # which has no float64
    with torch.inference_mode(False):
        matrix = (scale * make(n, kept, where)).to(device, dtype).contiguous()
        return _aligned(matrix) if device.type == "cuda" else matrix


def _aligned(matrix: Tensor) -> Tensor:
    """Return a matrix each of whose rows starts at a multiple of 16 bytes.

    The fast products of tensor cores load so many at once.
    """
    columns, step = matrix.shape[1], 16 // matrix.element_size()
    return pad(matrix, (0, -columns % step)).narrow(1, 0, columns)


def _is_traced() -> bool:
    """Return whether a tensor made now is not an ordinary one, which any later call can use."""
    return (
        torch.compiler.is_compiling()
        or is_tracing()
        or _get_current_dispatch_mode() is not None
        or is_transformed()
    )
