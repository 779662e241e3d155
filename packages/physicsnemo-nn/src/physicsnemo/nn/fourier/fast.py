# SPDX-License-Identifier: Apache-2.0
"""FFTs along one axis of real tensors, which hold real and imaginary parts along another axis.

Compilers generate no code for complex numbers, and PyTorch differentiates the transforms of real
fields by complex operations. So compilers are given operators that are real outside, and that serve
as gradients of each other: up to weights, each is the adjoint of its inverse.

All are sums without a factor, times ``scale``. They compute in single precision or better, and
return the precision that they are given.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from physicsnemo.nn.precision import at_least_float32
from physicsnemo.nn.tracing import is_exporting


def real_modes(values: Tensor, scale: float) -> Tensor:
    """Map real values (..., n, channels) to modes (..., 2, n // 2 + 1, channels)."""
    return _scaled(_real_modes_operator if _is_compiled() else _real_modes, scale, values)


def real_values(modes: Tensor, n: int, scale: float) -> Tensor:
    """Map modes (..., 2, n // 2 + 1, channels) to real values (..., n, channels)."""
    return _scaled(_real_values_operator if _is_compiled() else _real_values, scale, modes, n)


def complex_modes(values: Tensor, scale: float) -> Tensor:
    """Map complex values (lines, n, 2, rest) to modes (lines, 2, n, rest)."""
    return _scaled(_complex_modes_operator if _is_compiled() else _complex_modes, scale, values)


def complex_values(modes: Tensor, scale: float) -> Tensor:
    """Map modes (lines, 2, n, rest) to complex values (lines, n, 2, rest)."""
    return _scaled(_complex_values_operator if _is_compiled() else _complex_values, scale, modes)


def _is_compiled() -> bool:
    # Exported programs run where these operators are not known.
    return torch.compiler.is_compiling() and not is_exporting()


def _scaled(transform: Callable[..., Tensor], scale: float, x: Tensor, *size: int) -> Tensor:
    wide = x.to(at_least_float32(x.dtype))
    # Scaled before it is rounded, since a sum over many points exceeds what float16 holds.
    return (scale * transform(wide, *size)).to(x.dtype)


def _of_any_batch(transform: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Extend a transform to no lines at all, which the libraries behind PyTorch refuse."""

    @wraps(transform)
    def extended(x: Tensor, *size: int) -> Tensor:
        if torch.compiler.is_compiling() or x.shape[0]:  # programs serve more than one size
            return transform(x, *size)
        one_line = torch.cat((x, x.new_zeros(1, *x.shape[1:])))
        return transform(one_line, *size)[:0].clone()

    return extended


@_of_any_batch
def _real_modes(values: Tensor) -> Tensor:
    spectrum = torch.fft.rfft(values, dim=-2)
    return torch.stack((spectrum.real, spectrum.imag), dim=-3)


@_of_any_batch
def _real_values(modes: Tensor, n: int) -> Tensor:
    real, imaginary = modes.unbind(-3)
    # A mode that is its own mirror image has no imaginary part in a real field. Of some sizes, such
    # as 2**13, cuFFT takes one that is there for something else.
    alone = (2 * torch.arange(modes.shape[-2], device=modes.device)) % n == 0
    imaginary = imaginary.masked_fill(alone[:, None], 0)
    values: Tensor = torch.fft.irfft(torch.complex(real, imaginary), n, dim=-2, norm="forward")
    return values.contiguous()


@_of_any_batch
def _complex_modes(values: Tensor) -> Tensor:
    real, imaginary = values.unbind(2)
    spectrum = torch.fft.fft(torch.complex(real, imaginary), dim=1)
    return torch.stack((spectrum.real, spectrum.imag), dim=1)


@_of_any_batch
def _complex_values(modes: Tensor) -> Tensor:
    real, imaginary = modes.unbind(1)
    field = torch.fft.ifft(torch.complex(real, imaginary), dim=1, norm="forward")
    return torch.stack((field.real, field.imag), dim=2)


def _operator(name: str, function: Any) -> Any:
    return torch.library.custom_op(f"physicsnemo::{name}", function, mutates_args=())


_real_modes_operator = _operator("real_modes", _real_modes)
_real_values_operator = _operator("real_values", _real_values)
_complex_modes_operator = _operator("complex_modes", _complex_modes)
_complex_values_operator = _operator("complex_values", _complex_values)


def _shape_of_real_modes(values: Tensor) -> Tensor:
    *lines, n, channels = values.shape
    return values.new_empty(*lines, 2, n // 2 + 1, channels)


def _shape_of_real_values(modes: Tensor, n: int) -> Tensor:
    *lines, _, _, channels = modes.shape
    return modes.new_empty(*lines, n, channels)


def _shape_of_complex(x: Tensor) -> Tensor:
    first, second, third, rest = x.shape
    return x.new_empty(first, third, second, rest)


_real_modes_operator.register_fake(_shape_of_real_modes)
_real_values_operator.register_fake(_shape_of_real_values)
_complex_modes_operator.register_fake(_shape_of_complex)
_complex_values_operator.register_fake(_shape_of_complex)


def _keep_size(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.n = inputs[0].shape[-2] if len(inputs) == 1 else inputs[1]


_real_modes_operator.register_autograd(
    lambda ctx, g: _real_values_operator(_scale_paired(g, ctx.n, 0.5), ctx.n),
    setup_context=_keep_size,
)
_real_values_operator.register_autograd(
    lambda ctx, g: (_scale_paired(_real_modes_operator(g.contiguous()), ctx.n, 2.0), None),
    setup_context=_keep_size,
)
_complex_modes_operator.register_autograd(lambda ctx, g: _complex_values_operator(g))
_complex_values_operator.register_autograd(lambda ctx, g: _complex_modes_operator(g))


def _scale_paired(modes: Tensor, n: int, factor: float) -> Tensor:
    """Scale the modes that stand for two of a real field: themselves and their mirror images."""
    paired = (n + 1) // 2 - 1
    zero, inner, highest = modes.split([1, paired, n // 2 - paired], dim=-2)
    return torch.cat((zero, factor * inner, highest), dim=-2)
