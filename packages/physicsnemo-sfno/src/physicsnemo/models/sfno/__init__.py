# SPDX-License-Identifier: Apache-2.0
"""Spherical Fourier neural operators."""

from physicsnemo.models.sfno._grid import SphericalGrid
from physicsnemo.models.sfno._transform import SphericalAnalysis, SphericalSynthesis
from physicsnemo.models.sfno.sfno import SFNO, MetaData

__all__ = ["SFNO", "MetaData", "SphericalAnalysis", "SphericalGrid", "SphericalSynthesis"]
