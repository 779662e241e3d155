# SPDX-License-Identifier: Apache-2.0
"""How these modules are sharded over processes, as ``physicsnemo.distributed.Plan`` says."""

from physicsnemo.models.srrn.super_res_net import ResidualBlock, SubPixelBlock

PLAN = {"blocks": (ResidualBlock, SubPixelBlock)}
