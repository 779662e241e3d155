# SPDX-License-Identifier: Apache-2.0
"""Matrix product or FFT: which of them computes a truncated Fourier transform faster."""

from physicsnemo.nn.tracing import is_tracing

# Numbers of modes up to which products took less time, whatever the number of points, and of points
# up to which they did, whatever the number of modes; tools.bench.transforms measures it. A product
# takes more operations than an FFT. But it computes no mode that is dropped and no complex numbers,
# takes channels last as they are, and is what tensor cores do.
_MATMUL_MODES = {"cuda": 256, "cpu": 64}
_MATMUL_MODES_ELSEWHERE = 64
_MATMUL_POINTS = 64


def prefer_matmul(n: int, kept: int, device_type: str) -> bool:
    """Return whether a Fourier transform along an axis should be a matrix product, not an FFT.

    Parameters
    ----------
    n
        Number of points of the axis.
    kept
        Number of modes kept.
    device_type
        Type of the device, as ``cuda``.
    """
    if is_tracing():
        return True  # the number of points is not known, and a trace serves all
    few_modes = kept <= _MATMUL_MODES.get(device_type, _MATMUL_MODES_ELSEWHERE)
    return few_modes or n <= _MATMUL_POINTS


product_wins = prefer_matmul  # its former name
