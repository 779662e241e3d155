# SPDX-License-Identifier: Apache-2.0
"""The ranks among which rows of fields are divided, as rules of domain parallelism see them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from physicsnemo.distributed import collectives
from physicsnemo.distributed.halo import AXIS, convolve, halo
from physicsnemo.distributed.normalization import normalize
from physicsnemo.distributed.partition import Part, part_of

__all__ = ["Domain", "Rows"]


class Rows(NamedTuple):
    """Consecutive rows of a grid, ``first`` to ``stop - 1`` of ``total``."""

    first: int
    stop: int
    total: int


@dataclass
class Domain:
    """The ranks among which the rows of a model's fields are divided, as rules see them.

    Attributes
    ----------
    group
        The ranks.
    axis
        The axis of fields that is divided.
    unit
        What numbers of rows are multiples of, such as the height of a patch.
    sizes
        How many rows of the input each rank holds; known once an input was split.
    """

    group: dist.ProcessGroup
    axis: int = 2
    unit: int = 1
    sizes: tuple[int, ...] = field(default=())

    @property
    def rank(self) -> int:
        """The number of this rank in the group."""
        return dist.get_rank(self.group)

    @property
    def size(self) -> int:
        """The number of ranks."""
        return dist.get_world_size(self.group)

    def chunks(self, total: int, unit: int = 1) -> tuple[int, ...]:
        """Return how many of some rows each rank takes, as equal as whole units allow."""
        units, ranks = -(-total // unit), self.size
        ends = [min(total, unit * (units * (rank + 1) // ranks)) for rank in range(ranks)]
        return tuple(end - start for start, end in zip([0, *ends], ends, strict=False))

    def chunk(self, total: int, unit: int = 1) -> Rows:
        """Return the rows that this rank takes of some; see :meth:`chunks`."""
        return self._rows(self.chunks(total, unit))

    def counts(self, local: int) -> tuple[int, ...]:
        """Return how many rows each rank holds where this one holds ``local``.

        The grid may be a finer or a coarser one than that of the input.
        """
        ratio = Fraction(local, self._known_sizes()[self.rank])
        counts = [size * ratio for size in self.sizes]
        if any(count.denominator > 1 for count in counts):
            raise ValueError(
                f"{local} rows on rank {self.rank} do not go with the division of the input, "
                f"{self.sizes}; divide inputs by physicsnemo.distributed.split"
            )
        return tuple(map(int, counts))

    def rows(self, local: int) -> Rows:
        """Return which rows this rank holds, where they are ``local``; see :meth:`counts`."""
        return self._rows(self.counts(local))

    def total(self, x: Tensor, axis: int) -> int | Tensor:
        """Return how many rows all ranks hold of fields of which this one has these.

        It takes a sum over the ranks, and so is a tensor, where the unit does not divide the rows
        of the input: coarser grids are rounded up then.
        """
        if sum(self._known_sizes()) % self.unit == 0:
            return sum(self.counts(x.shape[axis]))
        dtype = torch.promote_types(x.dtype, torch.float32)
        return collectives.all_reduce(x.new_full((), x.shape[axis], dtype=dtype), self.group)

    def all_gather(self, x: Tensor, axis: int, sizes: Sequence[int]) -> Tensor:
        """Return the ranks' parts, which have these sizes along an axis, joined."""
        return collectives.all_gather(x, axis, sizes, self.group)

    def reduce_scatter(self, x: Tensor, axis: int, sizes: Sequence[int]) -> Tensor:
        """Return this rank's part, of these sizes along an axis, of the sum of the tensors."""
        return collectives.reduce_scatter(x, axis, sizes, self.group)

    def transpose(
        self, x: Tensor, *, split: int, sizes: Sequence[int], join: int, joined: Sequence[int]
    ) -> Tensor:
        """Divide the axis ``split`` instead of ``join``, by the sizes of all ranks' parts."""
        return collectives.transpose(x, split, sizes, join, joined, self.group)

    def all_reduce(self, x: Tensor) -> Tensor:
        """Return the sum of the ranks' tensors."""
        return collectives.all_reduce(x, self.group)

    def halo(
        self, x: Tensor, axis: int, before: int, after: int, periodic: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return the rows of other ranks before and after this one's; none beyond the border."""
        self._check_reach(x.shape[axis], before, after)
        return halo(x, axis, before, after, self.group, periodic)

    def redistribute(
        self,
        x: Tensor,
        axis: int,
        held: Sequence[collectives.Ranges],
        wanted: Sequence[collectives.Ranges],
    ) -> Tensor:
        """Return the rows that this rank wants of those that the ranks hold; zeros for others."""
        return collectives.redistribute(x, axis, held, wanted, self.group)

    def exchange_rows(
        self, x: Tensor, axis: int, send: Sequence[int], receive: Sequence[int]
    ) -> Tensor:
        """Send so many rows to each rank, and return those that the ranks send to this one."""
        return collectives.exchange_rows(x, axis, send, receive, self.group)

    def fetch(self, needing: Tensor, needed: Tensor, owner: Tensor) -> collectives.Fetch:
        """Return how ranks fetch the points that they need of others, given their owners."""
        return collectives.fetch(needing, needed, owner, self.group)

    def pad(self, x: Tensor, axis: int, before: int, after: int, mode: str = "constant") -> Tensor:
        """Return this rank's rows with those around them, padded where the grid ends.

        Parameters
        ----------
        x
            Fields of shape (batch, channels, ...).
        axis
            The axis of rows.
        before, after
            How many rows to add; a negative number takes some away.
        mode
            What lies beyond the grid, as for :func:`torch.nn.functional.pad`.
        """
        head, tail = self.halo(x, axis, max(0, before), max(0, after), mode == "circular")
        x = torch.cat((head, x, tail), dim=axis)
        widths = [
            0 if head.shape[axis] else before,
            0 if tail.shape[axis] else after,
        ]
        if not any(widths):
            return x
        behind = x.ndim - axis - 1
        if mode == "constant" or min(widths) < 0:
            return functional.pad(x, [*[0, 0] * behind, *widths])
        return functional.pad(x, [*[0, 0] * behind, *widths, *[0, 0] * (axis - 2)], mode=mode)

    def normalize(
        self, x: Tensor, axes: Sequence[int], row: int, eps: float, **options: Any
    ) -> Tensor:
        """Return values less their mean, divided by their standard deviation, over all ranks.

        Parameters and what else they may be are those of :meth:`normalize_with_moments`.
        """
        result, _, _ = self.normalize_with_moments(x, axes, row, eps, **options)
        return result

    def normalize_groups(
        self,
        x: Tensor,
        groups: int,
        eps: float,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        """Return fields normalized by groups of their channels.

        Parameters
        ----------
        x
            This rank's rows, of shape (batch, channels, rows, ...).
        groups
            The number of groups.
        eps, options
            As for :meth:`normalize_with_moments`.
        weight, bias
            Of each channel, of shape (channels,).
        """
        grouped = x.unflatten(1, (groups, -1))
        weight, bias = (
            None if it is None else it.view(1, groups, -1, *[1] * (x.ndim - 2))
            for it in (weight, bias)
        )
        axes = range(2, grouped.ndim)
        result = self.normalize(grouped, axes, AXIS + 1, eps, weight=weight, bias=bias, **options)
        return result.flatten(1, 2)

    def normalize_with_moments(
        self,
        x: Tensor,
        axes: Sequence[int],
        row: int,
        eps: float,
        *,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        unbiased: bool = False,
        rows: int | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return values normalized over all ranks, their mean and their biased variance.

        The latter two have no gradients, and keep the axes.

        Parameters
        ----------
        x
            Values of this rank.
        axes
            The axes to take mean and variance over, with that of rows among them.
        row
            The axis of rows.
        eps
            What is added to the variance.
        weight, bias
            What normalized values are multiplied by, and what is added: of as many axes as the
            values, each of their length or of length 1.
        unbiased
            Whether to divide by the unbiased estimate of the variance.
        rows
            How many rows all ranks have, if that does not follow from the division of the input.
        """
        points = math.prod([x.shape[axis] for axis in axes])
        total = self.total(x, row) if rows is None else rows
        count = points // x.shape[row] * total
        return normalize(
            x,
            weight,
            bias,
            axes=axes,
            share=x.shape[row] / total,
            eps=eps,
            correction=count / max(1, count - 1) if unbiased else 1.0,
            group=self.group,
        )

    def convolve(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        *,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int] | None = None,
        groups: int = 1,
        mode: str = "constant",
    ) -> Tensor:
        """Return a convolution of all ranks' rows, as ``torch.nn.functional.conv2d`` has it.

        Parameters
        ----------
        x
            This rank's rows, of shape (batch, channels, rows, ...).
        weight, bias, stride, padding, dilation, groups
            As in PyTorch, with an entry for each axis of the grid.
        mode
            What lies beyond the first and the last row of the grid, as in
            :func:`torch.nn.functional.pad`.

        Raises
        ------
        NotImplementedError
            If the convolution does not keep the number of rows, divided by the stride.
        ValueError
            If the stride does not divide this rank's rows, unless it is the last rank.
        """
        axes = weight.ndim - 2
        dilation = [1] * axes if dilation is None else dilation
        reach = dilation[0] * (weight.shape[AXIS] - 1)
        if not reach - stride[0] < 2 * padding[0] <= reach:
            raise NotImplementedError(
                f"expected a convolution that keeps the rows, divided by its stride, got a kernel "
                f"of {tuple(weight.shape[2:])}, stride {tuple(stride)} and padding {tuple(padding)}"
            )
        rest = x.shape[AXIS] % stride[0]
        if rest and (self.rank < self.size - 1 or mode != "constant"):
            raise ValueError(
                f"expected rows on each rank that a stride of {stride[0]} divides, got "
                f"{x.shape[AXIS]}; choose a grid whose rows all strides together divide"
            )
        # What the last output, whose window begins at row -stride - padding, sees beyond the rows.
        behind = reach - padding[0] - stride[0] + 1
        # Compilers fuse the copy in which rows are joined, and know no collectives that go on.
        if mode in ("constant", "circular") and not torch.compiler.is_compiling():
            self._check_reach(x.shape[AXIS], padding[0], behind)
            return convolve(
                x,
                weight,
                bias,
                stride=stride,
                padding=padding,
                dilation=dilation,
                groups=groups,
                group=self.group,
                periodic=mode == "circular",
            )
        x = self.pad(x, AXIS, padding[0], behind, mode)
        if rest:  # its window, if whole, is the last one
            x = functional.pad(x, [*[0, 0] * (axes - 1), 0, padding[0] - behind])
        operation = (functional.conv1d, functional.conv2d, functional.conv3d)[axes - 1]
        result: Tensor = operation(x, weight, bias, stride, [0, *padding[1:]], dilation, groups)
        return result

    def convolve_transposed(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        *,
        stride: Sequence[int],
        padding: Sequence[int],
        output_padding: Sequence[int] | None = None,
        dilation: Sequence[int] | None = None,
        groups: int = 1,
    ) -> Tensor:
        """Return a transposed convolution of all ranks' rows; see :meth:`convolve`.

        Raises
        ------
        NotImplementedError
            If it does not multiply the number of rows by the stride.
        """
        axes, rows = weight.ndim - 2, x.shape[AXIS]
        dilation = [1] * axes if dilation is None else dilation
        output_padding = [0] * axes if output_padding is None else output_padding
        reach = dilation[0] * (weight.shape[AXIS] - 1)
        if reach + 1 + output_padding[0] - 2 * padding[0] != stride[0]:
            raise NotImplementedError(
                f"expected a transposed convolution that multiplies the rows by its stride, got a "
                f"kernel of {tuple(weight.shape[2:])}, stride {tuple(stride)} and padding "
                f"{tuple(padding)}"
            )
        # Input rows whose windows reach into this rank's rows of the output.
        before, after = max(0, reach - padding[0]) // stride[0], -(-padding[0] // stride[0])
        head, tail = self.halo(x, AXIS, before, after)
        x = torch.cat((head, x, tail), dim=AXIS)
        operation = (
            functional.conv_transpose1d,
            functional.conv_transpose2d,
            functional.conv_transpose3d,
        )[axes - 1]
        others = [0, *padding[1:]], [0, *output_padding[1:]]
        y: Tensor = operation(x, weight, None, stride, *others, groups, dilation)
        first = padding[0] + head.shape[AXIS] * stride[0]
        missing = first + rows * stride[0] - y.shape[AXIS]
        if missing > 0:  # what output_padding adds, which no window reaches
            y = functional.pad(y, [*[0, 0] * (axes - 1), 0, missing])
        y = y.narrow(AXIS, first, rows * stride[0])
        return y if bias is None else y + bias.view(-1, *[1] * axes)

    def _check_reach(self, local: int, before: int, after: int) -> None:
        """Raise an error if a layer looks beyond the neighbouring ranks."""
        # Rounded up, as grids are whose rows no stride divides.
        own = self._known_sizes()[self.rank]
        fewest = min(-(-size * local // own) for size in self.sizes)
        if max(before, after) > fewest:
            raise ValueError(
                f"a layer looks {max(before, after)} rows far, and a rank holds {fewest} there; "
                f"use fewer ranks or a finer grid"
            )

    def _known_sizes(self) -> tuple[int, ...]:
        if not self.sizes:
            raise RuntimeError("expected inputs that physicsnemo.distributed.split has divided")
        return self.sizes

    def part(self, graph: Any, sources: Tensor, targets: Tensor) -> Part:
        """Return this rank's part of a graph, given the rank of each source and each target."""
        return part_of(graph, sources, targets, self.group)

    def _rows(self, sizes: Sequence[int]) -> Rows:
        first = sum(sizes[: self.rank])
        return Rows(first, first + sizes[self.rank], sum(sizes))
