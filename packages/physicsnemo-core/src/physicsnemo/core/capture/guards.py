# SPDX-License-Identifier: Apache-2.0
"""Guards: what a step reads besides its arguments, and must find as it was to be replayed.

As in Dynamo, a cache entry serves a call only while its guards hold: the :class:`GuardState` of a
call is compared with those of the entries. It is one flat structure rather than a closure for each
guard: a model has hundreds of modules, and lists are compared without running Python code for each.
As long as nothing has changed since the call before, which is seen by identity, it is not even made
anew.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, compress
from operator import attrgetter, not_
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from physicsnemo.core.base import class_of
from physicsnemo.core.capture.dependency_scan import (
    CONSTANT_TYPES,
    DependencyScan,
    Source,
    is_small,
    of_pytorch,
)
from physicsnemo.core.capture.fully_sharded import own_part
from physicsnemo.core.capture.identity import IdentityKey, equal, equals_itself_alone, same
from physicsnemo.core.capture.summaries import SourceValues
from physicsnemo.core.format.sharded import is_sharded

_PARTS = ("_parameters", "_buffers", "_modules")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
# What every module has, and how a physicsnemo.Module was built.
_UNGUARDED = {*vars(nn.Module()), "_constructed_from", "meta"}
_NOTES_OF_FSDP = ("__composable_api_state_key", "_is_fsdp", "_fsdp")
_WRAPPERS = ("torch.nn.parallel", "torch.distributed", "torch._dynamo")
_flag = attrgetter("requires_grad")


@dataclass(eq=False)
class GuardState:
    """What the guards read in one call.

    Attributes
    ----------
    names
        The names of sources and of attributes, for messages.
    sources
        What sources hold.
    attributes
        Attributes of modules.
    modes
        Settings of PyTorch that choose what is computed.
    compared
        They, and what else is compared as it is: how many attributes each module has, where
        parameters and buffers lie, whether they require gradients, and tables of them, of
        submodules and of hooks.
    identical
        Objects that are compared by identity, since their own equality may say more.
    """

    names: Sequence[str]
    sources: SourceValues
    attributes: list[Any]
    modes: tuple[Hashable, ...]
    compared: list[Any]
    identical: list[Any]

    def matches(self, other: "GuardState") -> bool:
        """Return whether a recording made in the other state serves in this one."""
        return self is other or (
            equal(self.compared, other.compared)
            and same(self.identical, other.identical)
            and equal(self.sources.summaries, other.sources.summaries)
        )

    def difference(self, other: "GuardState") -> str:
        """Say which guard fails first, for a message."""
        if self.modes != other.modes:
            return "a global setting of PyTorch, such as autocast, changes"
        mine, theirs = list(self._named()), list(other._named())
        names = [name for name, _ in mine], [name for name, _ in theirs]
        if names[0] != names[1]:
            new = set(names[0]).symmetric_difference(names[1])
            return f"{min(new, default='an attribute')!r} appears or disappears"
        for (name, value), (_, other_value) in zip(mine, theirs, strict=True):
            if not equal(value, other_value):
                return f"{name!r}, which the step reads from outside its arguments, changes"
        return "parameters, buffers, submodules, hooks or other objects of a module are exchanged"

    def _named(self) -> Iterator[tuple[str, Any]]:
        return zip(self.names, (*self.sources.summaries, *self.attributes), strict=True)


class Guards:
    """Guards on what a function may read: what its code names, and the modules found there.

    The :class:`~physicsnemo.core.capture.dependency_scan.DependencyScan` says what names lead to.
    Of the model and of modules found, all is guarded: modes, attributes, parameters, buffers,
    submodules, hooks.

    Parameters
    ----------
    function
        The step function.
    model
        Its model.
    """

    def __init__(self, function: Callable[..., Any], model: nn.Module) -> None:
        self._function, self._model = function, model
        self.rescan()

    def rescan(self) -> None:
        """Scan again for what to guard; needed when the guard state has changed."""
        found = DependencyScan(self._function, self._model)
        attributes = [_Attributes(name, module) for module, name in found.modules.items()]
        sources = [*found.sources, *chain.from_iterable(part.sources for part in attributes)]
        self._sources = sources
        compared = [(part, name) for part in attributes for name in part.compared]
        labels = [f"{part.label}.{name}" for part, name in compared]
        self._names = [*(source.label for source in sources), *labels]
        self._modules = [part.items for part in attributes]
        self._attributes = [part.items for part, _ in compared], [name for _, name in compared]
        parts = list(_tables(found.modules, _PARTS))
        hooks = list(_tables(found.modules, _HOOKS))
        filled = [table for table in (*parts, *hooks) if table]
        plain = [all(map(equals_itself_alone, table.values())) for table in filled]
        self._filled = list(compress(filled, plain))
        self._mixed = list(compress(filled, map(not_, plain)))
        # Most modules have no hooks: looking whether all those tables are still empty is cheaper
        # than reading them, and not needed before another hook is registered anywhere.
        self._empty = [table for table in parts if not table]
        self._without_hooks = [table for table in hooks if not table]
        self._hooks_so_far = RemovableHandle.next_id
        self._tensors = list(
            chain.from_iterable(
                chain(module.parameters(recurse=False), module.buffers(recurse=False))
                for module in found.modules
            )
        )
        self._sharded = any(map(is_sharded, self._tensors))
        self._last: GuardState | None = None

    def state(self) -> GuardState:
        """Return what the guards read now, the same object as long as nothing changes."""
        if any(self._empty) or self._has_first_hook():
            self.rescan()
        try:
            attributes = list(map(dict.__getitem__, *self._attributes))
        except KeyError:  # a module has lost an attribute
            self.rescan()
            return self.state()
        modes, sizes = _modes(), list(map(len, self._modules))
        addresses, flags = _addresses(self._tensors, self._sharded), list(map(_flag, self._tensors))
        compared = [attributes, modes, sizes, addresses, flags, self._filled]
        identical = [*chain.from_iterable(map(dict.values, self._mixed))]
        last = self._last
        if (
            last is None
            or not equal(last.compared, compared)
            or not same(last.identical, identical)
            or not last.sources.are_unchanged()
        ):
            compared[-1] = list(map(dict, self._filled))
            sources = SourceValues(self._sources)
            last = GuardState(self._names, sources, attributes, modes, compared, identical)
            self._last = last
        return last

    def _has_first_hook(self) -> bool:
        if self._hooks_so_far == RemovableHandle.next_id:
            return False
        self._hooks_so_far = RemovableHandle.next_id
        return any(self._without_hooks)

    def tensors(self) -> Iterator[Tensor]:
        """Yield the tensors that code reads by name, and all parameters and buffers."""
        yield from self._tensors
        values = (source.read() for source in self._sources)
        yield from (value for value in values if isinstance(value, Tensor))


class _Attributes:
    """How to guard the attributes of a module, sorted by what it takes.

    Attributes
    ----------
    compared
        Names of those to be compared as they are: constants, and objects equal to themselves alone.
    sources
        All others.
    """

    def __init__(self, label: str, module: nn.Module) -> None:
        self.label, self.items = label, vars(module)
        # What PyTorch 2.11 wraps compiled modules in has the mode of the module within.
        self.compared = ["training"] if "training" in self.items else []
        self.sources = list[Source]()
        if not class_of(module).__module__.startswith(_WRAPPERS):  # which note there what they do
            for name in sorted(self.items.keys() - _UNGUARDED):
                if name.startswith(_NOTES_OF_FSDP):
                    continue
                self._sort(name, self.items[name], f"{label}.{name}", of_pytorch(module))

    def _sort(self, name: str, value: Any, label: str, of_pytorch: bool) -> None:
        if _is_constant(value):
            self.compared.append(name)
        elif of_pytorch:
            pass  # Derived from the rest, such as the weights that a recurrent layer lists.
        elif isinstance(value, Tensor | list | dict | tuple):
            self.sources.append(Source(label, partial(self.items.get, name), is_small(value)))
        elif equals_itself_alone(value):
            self.compared.append(name)
        else:
            self.sources.append(Source(label, partial(self.items.get, name), small=False))


def _tables(modules: Iterable[nn.Module], names: Sequence[str]) -> Iterator[dict[Any, Any]]:
    owned = map(vars, modules)
    return (own[name] for own in owned for name in names if name in own)


def _is_constant(value: Any) -> bool:
    return isinstance(value, CONSTANT_TYPES) or (
        type(value) is tuple and all(map(_is_constant, value))
    )


def _addresses(tensors: Sequence[Tensor], sharded: bool) -> list[Any]:
    try:
        return list(map(_address if sharded else Tensor.data_ptr, tensors))
    except (RuntimeError, ValueError):
        return list(map(_address, tensors))


def _address(tensor: Tensor) -> int | IdentityKey:
    try:
        return own_part(tensor).data_ptr()
    except (RuntimeError, ValueError):  # a sparse tensor, or a parameter of no shape yet
        return IdentityKey(tensor)


def _modes() -> tuple[Hashable, ...]:
    return (
        torch.is_autocast_enabled("cuda"),
        torch.get_autocast_dtype("cuda"),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_default_dtype(),
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
    )
