# SPDX-License-Identifier: Apache-2.0
"""Mesh simulation in a small latent space: states at a few pivotal points, and a model of time."""

from physicsnemo.models.mesh_reduced.interpolation import Interpolation, knn_interpolate
from physicsnemo.models.mesh_reduced.mesh_reduced import Mesh_Reduced
from physicsnemo.models.mesh_reduced.temporal_model import Sequence_Model

__all__ = ["Interpolation", "Mesh_Reduced", "Sequence_Model", "knn_interpolate"]
