# SPDX-License-Identifier: Apache-2.0
"""When a product with a matrix is faster than a fast Fourier transform."""

from physicsnemo.nn.tracing import is_tracing

# Numbers of modes up to which products took less time, whatever the number of points.
_LARGEST_PRODUCT = {"cuda": 256, "cpu": 64}
_OTHER_DEVICES = 64


def product_wins(n: int, kept: int, device_type: str) -> bool:
    """Return whether the transform along an axis is to be a product with a matrix.

    Parameters
    ----------
    n
        Number of points of the axis.
    kept
        Number of modes kept.
    device_type
        Where it is computed.
    """
    if is_tracing():
        return True  # the number of points is not known, and a trace serves all
    return kept <= _LARGEST_PRODUCT.get(device_type, _OTHER_DEVICES) or n <= 64
