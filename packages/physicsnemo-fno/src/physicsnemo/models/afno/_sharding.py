# SPDX-License-Identifier: Apache-2.0
"""How these modules are sharded over processes, as ``physicsnemo.distributed.Plan`` says."""

from physicsnemo.models.afno import afno, modafno

PLAN = {"blocks": (afno.Block, modafno.Block)}
