# SPDX-License-Identifier: Apache-2.0
"""Adaptive Fourier neural operators: transformers that mix tokens in Fourier space."""

from physicsnemo.models.afno.afno import AFNO
from physicsnemo.models.afno.modafno import ModAFNO

__all__ = ["AFNO", "ModAFNO"]
