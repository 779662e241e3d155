# SPDX-License-Identifier: Apache-2.0
"""How these modules are sharded over processes, as ``physicsnemo.distributed.Plan`` says."""

from physicsnemo.nn import FCLayer

PLAN = {"blocks": (FCLayer,)}
