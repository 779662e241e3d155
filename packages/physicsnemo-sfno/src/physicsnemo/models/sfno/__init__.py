# SPDX-License-Identifier: Apache-2.0
"""Spherical Fourier neural operators."""

from physicsnemo.models.sfno._sht import InverseRealSHT, RealSHT, SphericalGrid
from physicsnemo.models.sfno.sfno import SFNO, MetaData

__all__ = ["SFNO", "InverseRealSHT", "MetaData", "RealSHT", "SphericalGrid"]

# Former names.
SphericalAnalysis, SphericalSynthesis = RealSHT, InverseRealSHT
