# SPDX-License-Identifier: Apache-2.0
"""Truncated Fourier transforms of fields, in real arithmetic."""

from physicsnemo.nn.fourier.frequencies import Frequencies
from physicsnemo.nn.fourier.transforms import (
    Norm,
    Rows,
    complex_to_modes,
    concrete,
    modes_to_complex,
    to_field,
    to_modes,
    widened,
)

__all__ = [
    "Frequencies",
    "Norm",
    "Rows",
    "complex_to_modes",
    "concrete",
    "modes_to_complex",
    "to_field",
    "to_modes",
    "widened",
]
