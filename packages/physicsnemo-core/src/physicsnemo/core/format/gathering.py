# SPDX-License-Identifier: Apache-2.0
"""Sharded tensors made whole in the process that writes them, in memory for one of them."""

from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

_WRITER = 0  # its rank


class Gathering:
    """Makes tensors whole one by one, in the first process; all processes do so together.

    Parameters
    ----------
    largest
        The size of the largest of them, in bytes.
    """

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._memory: torch.Tensor | None = None

    def gather(self, sharded: "DTensor") -> torch.Tensor:
        """Return a tensor whole in the first process, until the next one is gathered.

        In the others, it returns anything.
        """
        from torch.distributed.tensor import Shard

        own = sharded.to_local().detach()
        divided = [it for it in enumerate(sharded.placements) if not it[1].is_replicate()]
        mesh_axis, placement = divided[0] if len(divided) == 1 else (0, None)
        if own.device.type != "cpu" or type(placement) is not Shard:
            return sharded.full_tensor()
        # Gloo would copy whole tensors in every process, and in threads of its own, for each of
        # which the C library keeps memory that is freed. What one process sends is not copied.
        group = sharded.device_mesh.get_group(mesh_axis)
        ranks = dist.get_process_group_ranks(group)
        if dist.get_rank() != _WRITER:
            if _WRITER in ranks and own.numel():  # else it has another replica
                dist.send(own.contiguous(), _WRITER, group)
            return own
        whole = self._empty(sharded.shape, sharded.dtype)
        for rank, part in zip(ranks, whole.chunk(len(ranks), placement.dim), strict=False):
            if rank == _WRITER:
                part.copy_(own)
            elif part.numel():
                received = part.contiguous()
                dist.recv(received, rank, group)
                part.copy_(received)
        return whole

    def _empty(self, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
        if self._memory is None:
            self._memory = torch.empty(self._largest, dtype=torch.uint8, device="cpu")
        size = shape.numel() * dtype.itemsize
        return self._memory[:size].view(dtype).reshape(shape)
