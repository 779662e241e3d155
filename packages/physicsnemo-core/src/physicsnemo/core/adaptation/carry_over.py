# SPDX-License-Identifier: Apache-2.0
"""Weights of a model, in another one of the same class."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from physicsnemo.core.adaptation.rules import Change, Rule, Rules, matrix, rules_of
from physicsnemo.core.base import is_device_buffer

How = Literal["copied", "adapted", "computed", "fresh", "left out"]


class Carried(NamedTuple):
    """What became of a tensor.

    Parameters
    ----------
    name
        Its name in the new model; if it is left out, in the old one.
    how
        ``copied``: it is the same. ``adapted``: it has another shape, and values of the old one.
        ``computed``: it follows from the arguments. ``fresh``: it is as the constructor made it,
        for lack of a counterpart or of a rule. ``left out``: the new model has no such tensor.
    before, after
        Its shapes in both models, None where there is none.
    """

    name: str
    how: How
    before: tuple[int, ...] | None
    after: tuple[int, ...] | None


class _Place(NamedTuple):
    """Where a tensor lies: the innermost module that has rules for it, and its name from there."""

    prefix: str
    key: str
    module: nn.Module
    rules: Rules

    def is_constant(self) -> bool:
        return any(fnmatchcase(self.key, it) for it in self.rules.constants)

    def rule(self) -> Rule:
        found = (rule for it, rule in self.rules.tensors.items() if fnmatchcase(self.key, it))
        return next(found, matrix)


@torch.no_grad()
def carry_over(before: nn.Module, after: nn.Module) -> list[Carried]:
    """Give a model the weights of another one as far as they fit, and tell what became of each.

    Parameters
    ----------
    before
        The model to start from.
    after
        A model of the same class, as its constructor made it; it is changed in place.
    """
    places, old = _places(before), before.state_dict(keep_vars=True)
    new = after.state_dict(keep_vars=True)
    names = {_role(place): name for name, place in places.items()}
    report = []
    for name, place in _places(after).items():
        fresh = new[name]
        source = names.pop(_role(place), None)
        if source is not None and not place.is_constant():
            report.append(_carry(name, old[source], fresh, places[source], place))
        else:
            how: How = "computed" if place.is_constant() else "fresh"
            shape = None if source is None else tuple(old[source].shape)
            report.append(Carried(name, how, shape, tuple(fresh.shape)))
    dropped = (Carried(it, "left out", tuple(old[it].shape), None) for it in names.values())
    return [*report, *dropped]


def _carry(name: str, old: Tensor, fresh: Tensor, before: _Place, after: _Place) -> Carried:
    how: How = "copied"
    value: Tensor | None = old
    if old.shape != fresh.shape:
        how = "adapted"
        value = after.rule()(Change(after.key, old, fresh, before.module, after.module))
    if value is None:
        how = "fresh"
    else:
        fresh.copy_(value)
    return Carried(name, how, tuple(old.shape), tuple(fresh.shape))


def _role(place: _Place) -> tuple[str, str]:
    return place.prefix, place.rules.role(place.module, place.key)


def _places(model: nn.Module) -> dict[str, _Place]:
    """Return where each tensor of a model's state lies, by its name."""
    ruled = {path: (module, rules_of(module)) for path, module in model.named_modules()}
    found = {}
    for name in model.state_dict():
        if is_device_buffer(name):
            continue
        prefix = next(
            it for it in _prefixes(name) if it in ruled and _has_say(ruled[it][1], it, name)
        )
        module, rules = ruled[prefix]
        found[name] = _Place(prefix, _key(prefix, name), module, rules)
    return found


def _prefixes(name: str) -> Iterator[str]:
    """Yield the paths of the modules that a tensor is in, the innermost first."""
    while name:
        name = name.rpartition(".")[0]
        yield name


def _has_say(rules: Rules, prefix: str, name: str) -> bool:
    """Tell whether a module's rules are about a tensor; the whole model's are about any."""
    key = _key(prefix, name)
    patterns = (*rules.tensors, *rules.constants)
    return not prefix or rules.names_roles or any(fnmatchcase(key, it) for it in patterns)


def _key(prefix: str, name: str) -> str:
    return name.removeprefix(f"{prefix}.") if prefix else name
