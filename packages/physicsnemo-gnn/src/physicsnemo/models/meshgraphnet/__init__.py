# SPDX-License-Identifier: Apache-2.0
"""Graph networks for simulation on meshes."""

from physicsnemo.models.meshgraphnet.bistride import MultiScale, bistride_levels
from physicsnemo.models.meshgraphnet.bsms_mgn import BiStrideMeshGraphNet
from physicsnemo.models.meshgraphnet.meshgraphnet import MeshGraphNet

__all__ = ["BiStrideMeshGraphNet", "MeshGraphNet", "MultiScale", "bistride_levels"]
