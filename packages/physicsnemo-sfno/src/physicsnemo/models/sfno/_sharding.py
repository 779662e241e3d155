# SPDX-License-Identifier: Apache-2.0
"""How these modules are sharded over processes, as ``physicsnemo.distributed.Plan`` says."""

from physicsnemo.models.sfno._layers import SphericalBlock

PLAN = {"blocks": (SphericalBlock,)}
