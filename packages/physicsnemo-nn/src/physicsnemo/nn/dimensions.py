# SPDX-License-Identifier: Apache-2.0
"""PyTorch's layers by the number of spatial dimensions: one, two or three."""

from collections.abc import Sequence
from typing import TypeVar

from torch import nn

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
TransposedConvolution = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d

Layer = TypeVar("Layer", bound=nn.Module)

_CONVOLUTIONS: list[type[Convolution]] = [nn.Conv1d, nn.Conv2d, nn.Conv3d]
_TRANSPOSED: list[type[TransposedConvolution]] = [
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
]
_BATCH_NORMS: list[type[BatchNorm]] = [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d]


def convolution(dimension: int) -> type[Convolution]:
    """Return the convolution class for a number of spatial dimensions.

    Parameters
    ----------
    dimension
        Number of spatial dimensions, 1 to 3.

    Raises
    ------
    ValueError
        If it is another number: PyTorch has no such layer.

    Examples
    --------
    >>> from physicsnemo.nn.dimensions import convolution
    >>> convolution(2)(3, 8, kernel_size=3)
    Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1))
    """
    return by_dimension(_CONVOLUTIONS, dimension)


def transposed_convolution(dimension: int) -> type[TransposedConvolution]:
    """Return the transposed convolution class; as :func:`convolution`."""
    return by_dimension(_TRANSPOSED, dimension)


def batch_normalization(dimension: int) -> type[BatchNorm]:
    """Return the batch normalization class; as :func:`convolution`."""
    return by_dimension(_BATCH_NORMS, dimension)


def by_dimension(classes: Sequence[type[Layer]], dimension: int) -> type[Layer]:
    """Return the class for a number of spatial dimensions, of three for 1, 2 and 3.

    Raises
    ------
    ValueError
        If it is another number.
    """
    if dimension not in (1, 2, 3):
        raise ValueError(f"expected dimension 1, 2 or 3, got {dimension!r}")
    return classes[dimension - 1]
