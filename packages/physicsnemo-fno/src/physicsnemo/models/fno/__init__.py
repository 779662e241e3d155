# SPDX-License-Identifier: Apache-2.0
"""Fourier neural operators."""

from physicsnemo.models.fno._spectral import SpectralConv
from physicsnemo.models.fno.fno import (
    FNO,
    FNO1DEncoder,
    FNO2DEncoder,
    FNO3DEncoder,
    FNO4DEncoder,
    MetaData,
)

__all__ = [
    "FNO",
    "FNO1DEncoder",
    "FNO2DEncoder",
    "FNO3DEncoder",
    "FNO4DEncoder",
    "MetaData",
    "SpectralConv",
]
