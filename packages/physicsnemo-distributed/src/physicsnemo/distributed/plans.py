# SPDX-License-Identifier: Apache-2.0
"""What a family of models says of its modules, so that they can be sharded.

A distribution names a plan for each package of models that it ships, in the entry-point group
``physicsnemo.distributed``: the entry point's name is that of the package, as in
``physicsnemo.models.fno``, its value a dictionary with any of the keys of :class:`Plan`. It imports
neither this package nor ``torch.distributed``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from torch import nn

__all__ = ["GROUP", "Plan", "plan_of"]

GROUP = "physicsnemo.distributed"


@dataclass(frozen=True)
class Plan:
    """How the modules of a model are sharded.

    Parameters
    ----------
    blocks
        Classes of modules that repeat and hold most parameters: one unit each, whose parameters
        are gathered, and whose activations are computed again, as one.
    whole
        Classes of modules that read parameters of the modules in them, without calling these: they
        are not divided further.
    methods
        Methods besides ``forward`` that compute with parameters, by class.

    Examples
    --------
    >>> from torch import nn
    >>> Plan(blocks=(nn.TransformerEncoderLayer,)).is_block(nn.Linear(1, 1))
    False
    """

    blocks: tuple[type[nn.Module], ...] = ()
    whole: tuple[type[nn.Module], ...] = ()
    methods: Mapping[type[nn.Module], tuple[str, ...]] = field(default_factory=dict)

    def is_block(self, module: nn.Module) -> bool:
        """Tell whether a module is a block."""
        return isinstance(module, self.blocks)

    def is_whole(self, module: nn.Module) -> bool:
        """Tell whether a module is not to be divided."""
        return isinstance(module, self.whole)

    def methods_of(self, module: nn.Module) -> list[str]:
        """Return the methods of a module that compute with parameters, less ``forward``."""
        found = (names for kind, names in self.methods.items() if isinstance(module, kind))
        return list(dict.fromkeys(name for names in found for name in names))


def plan_of(model: nn.Module) -> Plan:
    """Return what the families say of the modules of a model.

    Raises
    ------
    TypeError
        If an entry point's value is not a plan.
    """
    plans = [_load(point) for point in entry_points_of(model, GROUP)]
    return Plan(
        tuple(kind for plan in plans for kind in plan.blocks),
        tuple(kind for plan in plans for kind in plan.whole),
        {kind: names for plan in plans for kind, names in plan.methods.items()},
    )


def entry_points_of(model: nn.Module, group: str) -> list[EntryPoint]:
    """Return the entry points of a group whose names are packages that modules of a model are in.

    So a model waits for no family but its own.
    """
    modules = {kind.__module__ for it in model.modules() for kind in type(it).__mro__}
    return [point for point in _entry_points(group) if any(_covers(point, it) for it in modules)]


def _covers(point: EntryPoint, module: str) -> bool:
    return f"{module}.".startswith(f"{point.name}.")


@cache
def _entry_points(group: str) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=group))


def _load(point: EntryPoint) -> Plan:
    value: Any = point.load()
    known = {it.name for it in fields(Plan)}
    if not isinstance(value, Mapping) or not value.keys() <= known:
        raise TypeError(
            f"{point.dist and point.dist.name} names {point.value!r} in the entry-point group "
            f"{GROUP!r}: expected a dictionary with keys of {', '.join(sorted(known))}, got "
            f"{value!r}"
        )
    return Plan(**value)
