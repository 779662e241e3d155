# SPDX-License-Identifier: Apache-2.0
"""Rows of the neighbouring ranks, and convolutions that look at them."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

__all__ = ["AXIS", "convolve", "halo"]

AXIS = 2  # of (batch, channels, rows, ...), as convolutions have it


def halo(
    x: Tensor, axis: int, before: int, after: int, group: dist.ProcessGroup, periodic: bool = False
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
    border = _border(axis, before, after, group, periodic)
    head, tail = _Receive.apply(x, border)  # type: ignore[no-untyped-call]
    return head, tail


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    group: dist.ProcessGroup,
    periodic: bool = False,
) -> Tensor:
    """Return this rank's rows of a convolution of all ranks' rows, with zeros around the grid.

    A convolution is linear in its input. So each rank convolves its own rows, as if zeros followed,
    and adds what the neighbours' rows contribute to its first and last ones. Rows are on their way
    meanwhile, and the fields are not copied.

    Parameters
    ----------
    x
        This rank's rows, of shape (batch, channels, rows, ...). On all ranks but the last, the
        stride divides their number.
    weight, bias, stride, padding, dilation, groups
        As in :func:`torch.nn.functional.conv2d`, with an entry for each axis of the grid.
    group
        The ranks.
    periodic
        Whether the first and the last rank are neighbours.
    """
    x, weight, bias = _autocast(x, weight, bias)
    options = list(stride), list(padding), list(dilation), groups
    result: Tensor = _Convolution.apply(x, weight, bias, *options, group, periodic)  # type: ignore[no-untyped-call]
    return result


class _Border(NamedTuple):
    """How many rows a rank exchanges with its neighbours; none with one that it does not have.

    Parameters
    ----------
    axis
        The axis of rows.
    head, tail
        How many come from the rank before and from the rank after.
    first, last
        How many of its own first and last rows it sends there.
    group
        The ranks.
    """

    axis: int
    head: int
    tail: int
    first: int
    last: int
    group: dist.ProcessGroup

    def fetch(self, x: Tensor) -> "_Swap":
        """Start to fetch the neighbours' rows."""
        rows = x.shape[self.axis]
        return _swap(
            x.narrow(self.axis, 0, self.first),
            x.narrow(self.axis, rows - self.last, self.last),
            _resized(x, self.axis, self.head),
            _resized(x, self.axis, self.tail),
            self.group,
        )

    def give_back(self, head: Tensor, tail: Tensor) -> "_Swap":
        """Start to send the derivatives by the neighbours' rows, and to fetch those by own ones."""
        first, last = (_resized(head, self.axis, count) for count in (self.first, self.last))
        return _swap(head, tail, first, last, self.group)

    def add(self, gradient: Tensor, swap: "_Swap") -> Tensor:
        """Add derivatives that neighbours sent to those by all rows, in place."""
        first, last = swap.parts()
        rows = gradient.shape[self.axis]
        gradient.narrow(self.axis, 0, self.first).add_(first)
        gradient.narrow(self.axis, rows - self.last, self.last).add_(last)
        return gradient


def _border(
    axis: int, before: int, after: int, group: dist.ProcessGroup, periodic: bool
) -> _Border:
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    previous, following = periodic or rank > 0, periodic or rank < size - 1
    return _Border(
        axis,
        head=before if previous else 0,
        tail=after if following else 0,
        first=after if previous else 0,
        last=before if following else 0,
        group=group,
    )


class _Swap(NamedTuple):
    """What comes from the rank before and the rank after, once it has come."""

    flat: Tensor
    work: Any
    shapes: tuple[list[int], list[int]]
    starts: tuple[int, int]

    def parts(self) -> tuple[Tensor, Tensor]:
        """Wait, and return both."""
        if self.work is not None:
            self.work.wait()
        before, after = (
            self.flat.narrow(0, start, math.prod(shape)).view(shape)
            for start, shape in zip(self.starts, self.shapes, strict=True)
        )
        return before, after


def _swap(
    to_previous: Tensor,
    to_following: Tensor,
    from_previous: list[int],
    from_following: list[int],
    group: dist.ProcessGroup,
) -> _Swap:
    """Start to send tensors to the rank before and to the rank after, and to receive theirs."""
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    previous, following = (rank - 1) % size, (rank + 1) % size
    send, receive = [0] * size, [0] * size
    for neighbour, part in ((previous, to_previous), (following, to_following)):
        send[neighbour] += part.numel()
    for neighbour, shape in ((previous, from_previous), (following, from_following)):
        receive[neighbour] += math.prod(shape)
    # In the order of ranks. Of two ranks, each is both neighbours of the other: what one sends to
    # the rank before it comes first, and is for the other from the rank after it.
    parts = [to_previous, to_following] if previous <= following else [to_following, to_previous]
    flat = torch.cat([part.reshape(-1) for part in parts])
    counts = math.prod(from_previous), math.prod(from_following)
    starts = (0, counts[0]) if previous < following else (counts[1], 0)
    received = flat.new_empty(sum(receive))
    compiled = torch.compiler.is_compiling()  # compilers know no collectives that go on
    work = dist.all_to_all_single(received, flat, receive, send, group=group, async_op=not compiled)
    return _Swap(received, None if compiled else work, (from_previous, from_following), starts)


class _Receive(torch.autograd.Function):
    """The neighbours' rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, border: _Border) -> tuple[Tensor, Tensor]:
        ctx.border, ctx.shape = border, x.shape
        head, tail = border.fetch(x).parts()
        return head.clone(), tail.clone()

    @staticmethod
    def backward(ctx: Any, head: Tensor, tail: Tensor) -> tuple[Tensor, None]:
        return _Return.apply(head, tail, ctx.border, ctx.shape), None  # type: ignore[no-untyped-call]


class _Return(torch.autograd.Function):
    """The transpose: sums, in each row, of what neighbours have for it."""

    @staticmethod
    def forward(
        ctx: Any, head: Tensor, tail: Tensor, border: _Border, shape: Sequence[int]
    ) -> Tensor:
        ctx.border = border
        return border.add(head.new_zeros(shape), border.give_back(head, tail))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return *_Receive.apply(gradient, ctx.border), None, None  # type: ignore[no-untyped-call]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        groups: int,
        group: dist.ProcessGroup,
        periodic: bool,
    ) -> Tensor:
        step, reach = stride[0], dilation[0] * (weight.shape[AXIS] - 1)
        # What the last output, whose window begins at row -stride - padding, sees beyond the rows.
        behind = max(0, reach - padding[0] - step + 1)
        border = _border(AXIS, padding[0], behind, group, periodic)
        none, beside = [0] * len(stride), [0, *padding[1:]]
        swap = border.fetch(x)
        result = torch.convolution(x, weight, bias, stride, padding, dilation, False, none, groups)
        seen = []
        for part, touched in zip(swap.parts(), _touched(border, step), strict=True):
            if touched:
                part = _whole_windows(part, step * (abs(touched) - 1) + reach + 1, touched > 0)
                further = torch.convolution(
                    part, weight, None, stride, beside, dilation, False, none, groups
                )
                _ends(result, touched).add_(further)
                seen.append(part)
        ctx.save_for_backward(x, weight, *seen)
        ctx.options = stride, padding, beside, dilation, groups
        ctx.border, ctx.biases = border, None if bias is None else [bias.shape[0]]
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *seen = ctx.saved_tensors
        stride, padding, beside, dilation, groups = ctx.options
        border, (by_x, by_weight, by_bias) = ctx.border, ctx.needs_input_grad[:3]

        def derivatives(
            y: Tensor, x: Tensor, padding: list[int], biases: list[int] | None, by_bias: bool
        ) -> tuple[Tensor, Tensor, Tensor]:
            wanted = [by_x, by_weight, by_bias]
            none = [0] * len(stride)
            found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
                y, x, weight, biases, stride, padding, dilation, False, none, groups, wanted
            )
            return found

        of_rows, of_weight = [], []
        for touched, count in zip(_touched(border, stride[0]), border[1:3], strict=True):
            rows = _ends(x, 0)
            if touched:
                y = _ends(gradient, touched).contiguous()
                part, further, _ = derivatives(y, seen.pop(0), beside, None, False)
                rows = _ends(part, count if touched > 0 else -count) if by_x else rows
                of_weight.append(further)
            of_rows.append(rows)
        swap = border.give_back(*of_rows) if by_x else None
        of_x, total, of_bias = derivatives(gradient, x, padding, ctx.biases, by_bias)
        if swap is not None:
            border.add(of_x, swap)
        for further in of_weight if by_weight else []:
            total.add_(further)
        return of_x, total, of_bias, None, None, None, None, None, None


def _touched(border: _Border, step: int) -> tuple[int, int]:
    """Return how many outputs see the rows before, and, as a negative number, those after."""
    return -(-border.head // step), -border.tail // step


def _ends(x: Tensor, rows: int) -> Tensor:
    """Return the first rows, or the last ones if the number is negative."""
    return x.narrow(AXIS, 0 if rows >= 0 else x.shape[AXIS] + rows, abs(rows))


def _whole_windows(rows: Tensor, size: int, before: bool) -> Tensor:
    """Return a neighbour's rows with zeros where this rank's are, behind them or before."""
    missing = size - rows.shape[AXIS]
    widths = (0, missing) if before else (missing, 0)
    return functional.pad(rows, [*[0, 0] * (rows.ndim - AXIS - 1), *widths])


def _autocast(*tensors: Tensor | None) -> list[Any]:
    """Return tensors in the type that autocast, if on, chooses for a convolution."""
    kind = next(it.device.type for it in tensors if it is not None)
    if kind == "meta" or not torch.is_autocast_enabled(kind):
        return list(tensors)
    dtype = torch.get_autocast_dtype(kind)
    return [it if it is None or it.dtype == torch.float64 else it.to(dtype) for it in tensors]


def _resized(x: Tensor, axis: int, size: int) -> list[int]:
    return [*x.shape[:axis], size, *x.shape[axis + 1 :]]
