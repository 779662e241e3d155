# SPDX-License-Identifier: Apache-2.0
"""What a tensor of a model tells about one of another shape, in a model of the same class.

By shape alone nobody knows which entries of two tensors mean the same. A family says it of its
models in a mapping of classes to :class:`Rules`, which its distribution names in the entry-point
group ``physicsnemo.adaptation``, by the package that holds the classes. For all else there is
:func:`matrix`, which knows PyTorch's layers.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

GROUP = "physicsnemo.adaptation"


class Change(NamedTuple):
    """A tensor in two models.

    Parameters
    ----------
    key
        Its name in the second model, from the module on that the rule is for.
    old
        The tensor in the first model.
    fresh
        That in the second one, as its constructor made it.
    before, after
        The module that the rule is for, in the first and in the second model.
    """

    key: str
    old: Tensor
    fresh: Tensor
    before: nn.Module
    after: nn.Module

    @property
    def owner(self) -> nn.Module:
        """The module in the second model that holds the tensor."""
        return self.after.get_submodule(self.key.rpartition(".")[0])


Rule = Callable[[Change], Tensor | None]
"""Makes the new tensor of a change, of the shape of ``fresh``; None leaves it fresh."""


def _itself(module: nn.Module, key: str) -> str:
    return key


@dataclass(frozen=True)
class Rules:
    """What to do with the tensors of a class of modules.

    Parameters
    ----------
    tensors
        Rules by a pattern of names from the module on, such as ``blocks.*.weight``; the first that
        matches holds, in the innermost module that has one. They are asked for tensors of another
        shape only.
    constants
        Patterns of tensors that follow from constructor arguments, and are never carried over.
    role
        Tells of a module and a name what the tensor is in models of any arguments. By default, the
        name says it. A tensor takes its values from the one with the same role.
    """

    tensors: Mapping[str, Rule] = field(default_factory=dict)
    constants: Collection[str] = ()
    role: Callable[[nn.Module, str], str] = _itself

    @property
    def names_roles(self) -> bool:
        """Whether roles are other than names."""
        return self.role is not _itself


def overlap(
    old: Tensor, fresh: Tensor, *, reads: Collection[int] = (), from_end: Collection[int] = ()
) -> Tensor:
    """Carry over the entries that both tensors have, axis by axis.

    What the first tensor lacks stays fresh, but for one thing: an output that was there before
    reads nothing from what was not, so that it stays the same function.

    Parameters
    ----------
    old
        The tensor that is there.
    fresh
        A tensor with as many axes, as the constructor made it.
    reads
        Axes along which the tensor reads inputs; along the others, it has outputs.
    from_end
        Axes whose last entries correspond, instead of the first.

    Examples
    --------
    >>> import torch
    >>> overlap(torch.ones(2, 1), torch.full((3, 2), 7.0), reads=[1])
    tensor([[1., 0.],
            [1., 0.],
            [7., 7.]])
    """
    both = [min(sizes) for sizes in zip(old.shape, fresh.shape, strict=True)]
    spans = [
        slice(-size, None) if axis in from_end and size else slice(size)
        for axis, size in enumerate(both)
    ]
    result = fresh.clone()
    result[tuple(slice(None) if axis in reads else it for axis, it in enumerate(spans))] = 0
    result[tuple(spans)] = old[tuple(spans)].to(result)
    return result


def matrix(change: Change) -> Tensor | None:
    """Let the overlap of channels be carried over, for layers of PyTorch and biases of any.

    A weight reads inputs along its second axis, that of a transposed convolution along its first.
    Kernels of another size stay fresh.
    """
    if change.old.ndim != change.fresh.ndim:
        return None
    if change.fresh.ndim == 1:
        return overlap(change.old, change.fresh)
    if not isinstance(change.owner, nn.Linear | _ConvNd):
        return None
    return channels(change)


def channels(change: Change) -> Tensor | None:
    """Do what :func:`matrix` does, for layers of one's own with weights like PyTorch's."""
    if change.old.ndim != change.fresh.ndim or change.old.shape[2:] != change.fresh.shape[2:]:
        return None
    reads = () if change.fresh.ndim == 1 else (0,) if _is_transposed(change.owner) else (1,)
    return overlap(change.old, change.fresh, reads=reads)


def left_fresh(change: Change) -> None:
    """Leave a tensor as the constructor made it."""


def resampled(positions: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Interpolate values at the centers of the cells of a grid to those of another grid.

    Parameters
    ----------
    positions
        Values of shape (channels, rows, columns).
    grid
        Rows and columns of the other grid.

    Returns
    -------
    Values of shape (channels, *grid): cubic interpolation, with an average over the cells of the
    first grid where those of the other are larger.
    """
    if positions.shape[1:] == torch.Size(grid):
        return positions.clone()
    found: Tensor = nn.functional.interpolate(
        positions[None].to(torch.float64), grid, mode="bicubic", antialias=True
    )
    return found[0].to(positions.dtype)


def rules_of(module: nn.Module) -> Rules:
    """Return the rules for a module's class, or for the first of its bases that has any."""
    kinds = type(module).__mro__
    names = {kind.__module__ for kind in kinds}
    known: dict[type, Rules] = {}
    for point in _entry_points():
        if any(f"{name}.".startswith(f"{point.name}.") for name in names):
            known |= point.load()
    return next((known[kind] for kind in kinds if kind in known), _NO_RULES)


_NO_RULES = Rules()


@cache
def _entry_points() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=GROUP))


def _is_transposed(module: nn.Module) -> bool:
    return isinstance(module, _ConvTransposeNd)
