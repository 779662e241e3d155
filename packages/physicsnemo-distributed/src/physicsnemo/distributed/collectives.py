# SPDX-License-Identifier: Apache-2.0
"""Differentiable collectives on plain tensors, for axes that are divided unevenly.

All but the sum are made of one exchange, in which each rank sends a tensor to each other. So they
move what is needed and no more, and sums are taken in the order of the ranks, whatever the backend.

The gradient of a collective is a collective: where a rank's result depends on another rank's
tensor, the other rank receives the derivative. Each rank thus obtains the derivatives, by its own
tensors, of the sum of all ranks' losses.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

Group = dist.ProcessGroup


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


def halo(
    x: Tensor, axis: int, before: int, after: int, group: Group, periodic: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the rows of neighbouring ranks that border on this rank's own.

    Parameters
    ----------
    x
        This rank's part.
    axis
        The axis that is divided.
    before, after
        How many rows of the rank before, and of the rank after. No rank may hold fewer.
    group
        The ranks.
    periodic
        Whether the first and the last rank are neighbours.

    Returns
    -------
    The rows before and the rows after; none where there is no neighbour.
    """
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    previous, following = (rank - 1) % size, (rank + 1) % size
    if size == 1:
        pieces = x.narrow(axis, x.shape[axis] - before, before), x.narrow(axis, 0, after)
        return pieces if periodic else (pieces[0].narrow(axis, 0, 0), pieces[1].narrow(axis, 0, 0))
    counts = [(0, 0)] * size  # rows for a rank: those that follow its own, those before its own
    if periodic or rank > 0:
        counts[previous] = (after, 0)
    if periodic or rank < size - 1:
        counts[following] = (counts[following][0], before)
    parts = [
        torch.cat((x.narrow(axis, 0, head), x.narrow(axis, x.shape[axis] - tail, tail)), dim=axis)
        for head, tail in counts
    ]
    comes = [(0, 0)] * size  # rows from a rank: those before this rank's own, those after
    if periodic or rank > 0:
        comes[previous] = (before, 0)
    if periodic or rank < size - 1:
        comes[following] = (comes[following][0], after)
    received = exchange(parts, [_resized(x, axis, b + a) for b, a in comes], group)
    # Of two ranks, each is both neighbours of the other: what it sends first lies after this one's.
    sent_after = received[following].narrow(axis, 0, comes[following][1])
    start = received[previous].shape[axis] - comes[previous][0]
    return received[previous].narrow(axis, start, comes[previous][0]), sent_after


def moments(x: Tensor, axes: Sequence[int], share: float, group: Group) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance over axes and ranks, in float32 or better, without gradients.

    Parameters
    ----------
    x
        This rank's values.
    axes
        The axes; they are kept, of length 1.
    share
        Which part of all values this rank has.
    group
        The ranks.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    variance, own = torch.var_mean(wide, tuple(axes), correction=0, keepdim=True)
    mean = share * own
    dist.all_reduce(mean, group=group)
    # The variance of all is that within ranks and that of their means; no large sums cancel.
    total = share * (variance + (own - mean).square())
    dist.all_reduce(total, group=group)
    return mean, total


def normalize(
    x: Tensor, axes: Sequence[int], share: float, eps: float, correction: float, group: Group
) -> tuple[Tensor, Tensor, Tensor]:
    """Return values less their mean, divided by their standard deviation, and these moments.

    Parameters
    ----------
    x, axes, share, group
        As for :func:`moments`.
    eps
        What is added to the variance.
    correction
        A factor on the variance.
    """
    result: tuple[Tensor, Tensor, Tensor] = _Normalize.apply(  # type: ignore[no-untyped-call]
        x, tuple(axes), share, eps, correction, group
    )
    return result


class _Normalize(torch.autograd.Function):
    """Normalization that keeps its result alone for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        axes: tuple[int, ...],
        share: float,
        eps: float,
        correction: float,
        group: Group,
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance = moments(x, axes, share, group)
        scale = (correction * variance + eps).rsqrt()
        result = torch.addcmul(-mean * scale, x.to(scale.dtype), scale).to(x.dtype)
        ctx.axes, ctx.share, ctx.correction, ctx.group = axes, share, correction, group
        ctx.save_for_backward(result, scale)
        ctx.mark_non_differentiable(mean, variance)
        return result, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        result, scale = ctx.saved_tensors
        wide, result = gradient.to(scale.dtype), result.to(scale.dtype)
        means = torch.stack(
            (wide.mean(ctx.axes, keepdim=True), (wide * result).mean(ctx.axes, keepdim=True))
        )
        means = ctx.share * means
        dist.all_reduce(means, group=ctx.group)
        through_mean, through_variance = means
        change = torch.addcmul(wide - through_mean, result, through_variance, value=-ctx.correction)
        return (scale * change).to(gradient.dtype), None, None, None, None, None


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
