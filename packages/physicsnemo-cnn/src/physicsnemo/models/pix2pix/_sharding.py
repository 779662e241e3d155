# SPDX-License-Identifier: Apache-2.0
"""How these modules are sharded over processes, as ``physicsnemo.distributed.Plan`` says."""

from physicsnemo.models.pix2pix.pix2pix import ResnetBlock

PLAN = {"blocks": (ResnetBlock,)}
