# SPDX-License-Identifier: Apache-2.0
"""Differentiable collectives on plain tensors, for axes that are divided unevenly.

All but the sum are made of one exchange, in which each rank sends a tensor to each other. So they
move what is needed and no more, and sums are taken in the order of the ranks, whatever the backend.

The gradient of a collective is a collective: where a rank's result depends on another rank's
tensor, the other rank receives the derivative. Each rank thus obtains the derivatives, by its own
tensors, of the sum of all ranks' losses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

Group = dist.ProcessGroup

Ranges = Sequence[tuple[int, int]]
"""Rows of a grid, from the first of each pair to that before the second, one range after another.
"""


def exchange(
    parts: Sequence[Tensor], shapes: Sequence[Sequence[int]], group: Group
) -> list[Tensor]:
    """Send a tensor to each rank, and return those that the ranks send to this one.

    Parameters
    ----------
    parts
        What to send, by the rank that receives it; tensors of no elements cost nothing.
    shapes
        Shapes of what is received, by the rank that sends it.
    group
        The ranks.
    """
    send = [part.numel() for part in parts]
    receive = [torch.Size(shape).numel() for shape in shapes]
    flat = torch.cat([part.reshape(-1) for part in parts])
    received: Tensor = _Exchange.apply(flat, send, receive, group)  # type: ignore[no-untyped-call]
    pieces = received.split(receive)
    return [piece.view(*shape) for piece, shape in zip(pieces, shapes, strict=True)]


def exchange_rows(
    x: Tensor, axis: int, send: Sequence[int], receive: Sequence[int], group: Group
) -> Tensor:
    """Send rows to each rank, and return those that the ranks send to this one, joined.

    Parameters
    ----------
    x
        What to send, in the order of the ranks that receive it.
    axis
        The axis of rows.
    send, receive
        How many rows each rank receives of this one, and this one of each rank.
    group
        The ranks.
    """
    return transpose(x, axis, send, axis, receive, group)


def all_gather(x: Tensor, axis: int, sizes: Sequence[int], group: Group) -> Tensor:
    """Return the ranks' tensors joined along an axis.

    Parameters
    ----------
    x
        This rank's part.
    axis
        The axis that is divided.
    sizes
        How long it is on each rank.
    group
        The ranks.
    """
    shapes = [_resized(x, axis, size) for size in sizes]
    return torch.cat(exchange([x] * len(sizes), shapes, group), dim=axis)


def reduce_scatter(x: Tensor, axis: int, sizes: Sequence[int], group: Group) -> Tensor:
    """Return this rank's part, along an axis, of the sum of the ranks' tensors.

    Parameters
    ----------
    x
        A summand, whole along the axis.
    axis
        The axis to divide.
    sizes
        How much of it each rank receives.
    group
        The ranks.
    """
    shape = _resized(x, axis, sizes[dist.get_rank(group)])
    received = exchange(x.split(list(sizes), dim=axis), [shape] * len(sizes), group)
    return torch.stack(received).sum(dim=0)


def transpose(
    x: Tensor, split: int, sizes: Sequence[int], join: int, joined: Sequence[int], group: Group
) -> Tensor:
    """Divide one axis over the ranks instead of another.

    Parameters
    ----------
    x
        This rank's part, whole along ``split`` and divided along ``join``.
    split, sizes
        The axis to divide, and how much of it each rank receives.
    join, joined
        The axis to make whole, and how long it was on each rank.
    group
        The ranks.
    """
    own = _resized(x, split, sizes[dist.get_rank(group)])
    shapes = [[*own[:join], size, *own[join + 1 :]] for size in joined]
    return torch.cat(exchange(x.split(list(sizes), dim=split), shapes, group), dim=join)


def all_reduce(x: Tensor, group: Group) -> Tensor:
    """Return the sum of the ranks' tensors."""
    result: Tensor = _AllReduce.apply(x, group)  # type: ignore[no-untyped-call]
    return result


def redistribute(
    x: Tensor, axis: int, held: Sequence[Ranges], wanted: Sequence[Ranges], group: Group
) -> Tensor:
    """Return the rows that this rank wants of those that the ranks hold.

    Parameters
    ----------
    x
        The rows that this rank holds.
    axis
        The axis of rows.
    held
        By rank, which rows these are; no two ranks hold the same.
    wanted
        By rank, which it wants; those that no rank holds, as beyond the ends of a grid, are zeros.
    group
        The ranks.
    """
    rank = dist.get_rank(group)
    pieces = [[_located(span, held) for span in spans] for spans in wanted]
    if all(owner == to for to, spans in enumerate(pieces) for owner, _, _ in _all(spans)):
        sources = [x] * len(held)  # no rank needs what another has
        offsets = [start for _, start, _ in _all(pieces[rank])]
    else:
        parts = [
            _taken(x, axis, [(start, size) for owner, start, size in _all(spans) if owner == rank])
            for spans in pieces
        ]
        counts = [0] * len(held)
        offsets = []
        for owner, _, size in _all(pieces[rank]):
            offsets.append(counts[owner])
            counts[owner] += size
        sources = exchange(parts, [_resized(x, axis, count) for count in counts], group)
    rows, found = [], iter(offsets)
    for (first, stop), located in zip(wanted[rank], pieces[rank], strict=True):
        for begin, (owner, _, size) in located:
            if begin > first:
                rows.append(x.new_zeros(_resized(x, axis, begin - first)))
            rows.append(sources[owner].narrow(axis, next(found), size))
            first = begin + size
        if stop > first:
            rows.append(x.new_zeros(_resized(x, axis, stop - first)))
    # Slices of all that came, if empty ones, so that all ranks take part in the backward pass.
    rows += [source.narrow(axis, 0, 0) for source in sources]
    return torch.cat(rows, dim=axis)


@dataclass(frozen=True, eq=False)
class Fetch:
    """Which points of other ranks a rank needs, and which of its own they do.

    Attributes
    ----------
    points
        The points that the rank receives, by their numbers in all, in the order of their owners.
    send
        Those of its own that it sends, by their numbers among its own, in the order of receivers.
    receive_counts, send_counts
        How many come from each rank, and how many go there.
    group
        The ranks.
    """

    points: Tensor
    send: Tensor
    receive_counts: tuple[int, ...]
    send_counts: tuple[int, ...]
    group: Group

    def __call__(self, x: Tensor) -> Tensor:
        """Return what the rank receives, of the ranks' own values of shape (points, ...)."""
        counts = self.send_counts, self.receive_counts
        return exchange_rows(x.index_select(0, self.send), 0, *counts, self.group)


def fetch(needing: Tensor, needed: Tensor, owner: Tensor, group: Group) -> Fetch:
    """Return how a rank obtains the points of other ranks that it needs.

    Parameters
    ----------
    needing, needed
        Pairs of a rank and a point that it needs, in any order and as often as may be; those that
        a rank has itself count for nothing.
    owner
        The rank that has each point; it numbers its own in rising order.
    group
        The ranks.
    """
    rank, ranks = dist.get_rank(group), dist.get_world_size(group)
    away = owner[needed] != needing
    # Sorted by rank and then by point.
    needing, needed = torch.stack((needing[away], needed[away])).unique(dim=1)
    sent = (owner[needed] == rank).nonzero()[:, 0]
    come = needed[needing == rank]
    come = come[owner[come].argsort(stable=True)]
    own = (owner == rank).nonzero()[:, 0]
    place = torch.empty_like(owner)
    place[own] = torch.arange(len(own), device=owner.device)

    def counted(found: Tensor) -> tuple[int, ...]:
        return tuple(torch.bincount(found, minlength=ranks).tolist())

    counts = counted(owner[come]), counted(needing[sent])
    return Fetch(come, place[needed[sent]], *counts, group)


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, flat: Tensor, send: list[int], receive: list[int], group: Group
    ) -> Tensor:
        ctx.send, ctx.receive, ctx.group = send, receive, group
        received = flat.new_empty(sum(receive))
        dist.all_to_all_single(received, flat.contiguous(), receive, send, group=group)
        return received

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        back = _Exchange.apply(gradient.contiguous(), ctx.receive, ctx.send, ctx.group)  # type: ignore[no-untyped-call]
        return back, None, None, None


class _AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        ctx.group = group
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _AllReduce.apply(gradient, ctx.group), None  # type: ignore[no-untyped-call]


def _resized(x: Tensor, axis: int, size: int) -> list[int]:
    shape = list(x.shape)
    shape[axis] = size
    return shape


_Piece = tuple[int, int, int]  # a rank, the first of its rows and their number


def _located(span: tuple[int, int], held: Sequence[Ranges]) -> list[tuple[int, _Piece]]:
    """Return where some rows are, as pairs of the first one's number and a piece, sorted."""
    found = []
    for rank, spans in enumerate(held):
        offset = 0
        for first, stop in spans:
            begin, end = max(first, span[0]), min(stop, span[1])
            if begin < end:
                found.append((begin, (rank, offset + begin - first, end - begin)))
            offset += stop - first
    return sorted(found)


def _all(located: Sequence[list[tuple[int, _Piece]]]) -> list[_Piece]:
    return [piece for pieces in located for _, piece in pieces]


def _taken(x: Tensor, axis: int, pieces: Sequence[tuple[int, int]]) -> Tensor:
    taken = [x.narrow(axis, start, size) for start, size in pieces]
    return torch.cat([x.narrow(axis, 0, 0), *taken], dim=axis)
