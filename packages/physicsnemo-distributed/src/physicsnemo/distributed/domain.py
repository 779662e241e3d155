# SPDX-License-Identifier: Apache-2.0
"""Domain parallelism: one sample over several ranks, by rows of its grid.

Each rank holds some consecutive rows of every field, as a plain local tensor. Layers that look at
single points work as they are. The others are given another forward, by rules: those of PyTorch's
own layers are here, and each family states those of its layers and models, in a module that its
distribution names in the entry-point group ``physicsnemo.domain``. A rule sees the ranks through
:class:`Domain` alone.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.metadata import entry_points
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.nn import functional

from physicsnemo.distributed import collectives
from physicsnemo.distributed.partition import Part, part_of

__all__ = ["GROUP", "Domain", "Plan", "Rows", "distribute", "gather", "split"]

GROUP = "physicsnemo.domain"

Model = TypeVar("Model", bound=nn.Module)
Forward = Callable[..., Any]
Rule = Callable[[Any, "Domain"], Forward | None]


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
        # Rounded up, as grids are whose rows no stride divides.
        own = self._known_sizes()[self.rank]
        fewest = min(-(-size * x.shape[axis] // own) for size in self.sizes)
        if max(before, after) > fewest:
            raise ValueError(
                f"a layer looks {max(before, after)} rows far, and a rank holds {fewest} there; "
                f"use fewer ranks or a finer grid"
            )
        return collectives.halo(x, axis, before, after, self.group, periodic)

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
        self,
        x: Tensor,
        axes: Sequence[int],
        row: int,
        eps: float,
        *,
        unbiased: bool = False,
        rows: int | None = None,
    ) -> Tensor:
        """Return values less their mean, divided by their standard deviation, over all ranks.

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
        unbiased
            Whether the variance is the sum of squares divided by one less than their number.
        rows
            How many rows all ranks have, if that does not follow from the division of the input.
        """
        points = math.prod([x.shape[axis] for axis in axes])
        rows = sum(self.counts(x.shape[row])) if rows is None else rows
        share = x.shape[row] / rows
        count = points // x.shape[row] * rows
        correction = count / max(1, count - 1) if unbiased else 1.0
        result, _, _ = collectives.normalize(x, axes, share, eps, correction, self.group)
        return result

    def moments(self, x: Tensor, axes: Sequence[int], row: int) -> tuple[Tensor, Tensor]:
        """Return mean and biased variance over axes and over all ranks, without gradients.

        Takes what :meth:`normalize` does.
        """
        counts = self.counts(x.shape[row])
        share = counts[self.rank] / sum(counts)
        with torch.no_grad():
            return collectives.moments(x, axes, share, self.group)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, **options: Any) -> Tensor:
        """Return a convolution; see :func:`physicsnemo.distributed.layers.convolve`."""
        from physicsnemo.distributed.layers import convolve

        return convolve(x, weight, bias, domain=self, **options)

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


class Plan(Protocol):
    """What a family's module of rules holds.

    Attributes
    ----------
    MODELS
        For each model, a function of it that returns the axis of its inputs to divide and the
        unit of the division.
    RULES
        For each class of layers, a function of a layer and a :class:`Domain` that returns the
        forward to use instead, or changes the layer and returns None.
    """

    MODELS: Mapping[type[nn.Module], Callable[[Any], tuple[int, int]]]
    RULES: Mapping[type[nn.Module], Rule]


def distribute(model: Model, mesh: DeviceMesh, *, axis: int | None = None, unit: int = 1) -> Model:
    """Let a model work on rows of its fields, in place: domain parallelism.

    Each rank then calls the model with its rows, as :func:`split` gives them, and gets its rows of
    the output. Collectives inside make them those of the whole fields, and gradients with respect
    to parameters each rank's share of the sum of all ranks' losses; what averages them, as
    ``DistributedDataParallel`` or :func:`~physicsnemo.distributed.shard` do, gives those of the
    mean loss. All ranks must call the model equally often.

    Parameters
    ----------
    model
        A model of a class that its family supports. Its parameters stay what they are.
    mesh
        The ranks among which rows are divided, of one dimension.
    axis, unit
        For a model of one's own, made of PyTorch's layers and of functions of single points: the
        axis of its inputs to divide, and what the numbers of rows must be multiples of.

    Returns
    -------
    The model.

    Raises
    ------
    NotImplementedError
        If there are no rules for the model, or for a layer in it.
    ValueError
        If it was distributed before.
    """
    from physicsnemo.distributed import layers

    plans: list[Plan] = [entry.load() for entry in entry_points(group=GROUP)]
    models = {known: plan for each in plans for known, plan in each.MODELS.items()}
    rules = {known: rule for each in plans for known, rule in each.RULES.items()} | layers.RULES
    if "_domain" in vars(model):
        raise ValueError(f"this {type(model).__name__} was distributed before; build another one")
    if axis is None:
        if type(model) not in models:
            raise NotImplementedError(
                f"{type(model).__name__} has no rules for domain parallelism; these have: "
                f"{', '.join(sorted(known.__name__ for known in models))}. Pass axis= for a model "
                f"of your own"
            )
        axis, unit = models[type(model)](model)
    domain = Domain(mesh.get_group(), axis, unit)
    # All rules first, so that one that refuses leaves the model as it was.
    found = [(it, rules[type(it)](it, domain)) for it in model.modules() if type(it) in rules]
    for module, forward in found:
        if forward is not None:
            module.forward = forward
    vars(model)["_domain"] = domain
    return model


def domain_of(model: nn.Module) -> Domain:
    """Return the division that :func:`distribute` gave a model."""
    domain: Domain | None = vars(model).get("_domain")
    if domain is None:
        raise ValueError(f"call distribute() on this {type(model).__name__} first")
    return domain


def split(x: Tensor, model: nn.Module, axis: int | None = None) -> Tensor:
    """Return this rank's rows of whole fields.

    Parameters
    ----------
    x
        The fields.
    model
        The model.
    axis
        Their axis of rows, if it is another than that of a batch of inputs.

    Raises
    ------
    ValueError
        If there are too few rows for each rank to have some.
    """
    domain = domain_of(model)
    axis = domain.axis if axis is None else axis
    sizes = domain.chunks(x.shape[axis], domain.unit)
    if not all(sizes):
        units = "" if domain.unit == 1 else f", which are divided in units of {domain.unit}"
        raise ValueError(
            f"expected at least one row for each of {domain.size} ranks, got {x.shape[axis]} "
            f"rows{units}; use fewer ranks or a finer grid"
        )
    domain.sizes = sizes
    rows = domain.rows(domain.sizes[domain.rank])
    return x.narrow(axis, rows.first, rows.stop - rows.first)


def gather(y: Tensor, model: nn.Module, rows: int | None = None, axis: int | None = None) -> Tensor:
    """Return whole fields of the ranks' rows.

    Parameters
    ----------
    y
        This rank's rows of an input or an output.
    model
        The model.
    rows
        How many rows there are, if neither as many as in the input nor a multiple or a part.
    axis
        Their axis of rows, if it is another than that of inputs.
    """
    domain = domain_of(model)
    axis = domain.axis if axis is None else axis
    counts = domain.counts(y.shape[axis]) if rows is None else domain.chunks(rows, domain.unit)
    return domain.all_gather(y, axis, counts)
