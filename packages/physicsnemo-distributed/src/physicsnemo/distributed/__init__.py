# SPDX-License-Identifier: Apache-2.0
"""Training on several processes, on the engine of ``torch.distributed``.

:func:`start` joins the processes that a launcher has started and gives meshes of them;
:func:`shard` spreads a model's parameters over a mesh, :func:`distribute` the rows of its fields,
and :func:`partition` a graph. Checkpoints need nothing of this package: ``save`` and
``save_checkpoint`` gather what is sharded.
"""

from physicsnemo.distributed.domain import Domain
from physicsnemo.distributed.job import Job, start
from physicsnemo.distributed.manager import DistributedManager
from physicsnemo.distributed.partition import Part, partition, partition_levels
from physicsnemo.distributed.plans import Plan, plan_of
from physicsnemo.distributed.rules import distribute, gather, split
from physicsnemo.distributed.sharding import shard

__all__ = [
    "DistributedManager",
    "Domain",
    "Job",
    "Part",
    "Plan",
    "distribute",
    "gather",
    "partition",
    "partition_levels",
    "plan_of",
    "shard",
    "split",
    "start",
]
