# SPDX-License-Identifier: Apache-2.0
"""What a step depends on besides its arguments, as far as Python can tell."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from operator import is_, itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from physicsnemo.core.capture.search import Search, Slot, is_small, of_pytorch
from physicsnemo.core.capture.structure import PLAIN, Same, describe, flatten

_PARTS = (
    *("_parameters", "_buffers", "_modules"),
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
)
# What every module has, and how a physicsnemo.Module was built.
_UNWATCHED = {*vars(nn.Module()), "_constructed_from", "meta"}
_WRAPPERS = ("torch.nn.parallel", "torch.distributed", "torch._dynamo")


@dataclass(frozen=True)
class Observation:
    """The surroundings of one call.

    Attributes
    ----------
    names
        The names of values and of attributes, for messages.
    values
        What code reads by name: numbers, a description of tensors, the identity of other things.
    attributes
        For each module, how many attributes it has, and those of them that are plain values.
    objects
        Parameters, buffers, submodules, hooks and other attributes of modules.
    addresses
        Where parameters and buffers lie, and whether they require gradients.
    modes
        Settings of PyTorch that choose what is computed.
    """

    names: tuple[Sequence[str], Sequence[Sequence[str]]]
    values: list[Any]
    attributes: list[tuple[Any, ...]]
    objects: list[Any]
    addresses: list[tuple[Any, ...]]
    modes: tuple[Hashable, ...]

    def same(self, other: "Observation") -> bool:
        """Return whether a recording made there serves here."""
        return (
            self.addresses == other.addresses
            and len(self.objects) == len(other.objects)
            and all(map(is_, self.objects, other.objects))
            and _equal(self.attributes, other.attributes)
            and self.modes == other.modes
            and _equal(self.values, other.values)
        )

    def difference(self, other: "Observation") -> str:
        """Say what differs, for a reader who wants to mend it."""
        if self.modes != other.modes:
            return "a global setting of PyTorch, such as autocast, changes"
        mine, theirs = list(self._named()), list(other._named())
        names = [name for name, _ in mine], [name for name, _ in theirs]
        if names[0] != names[1]:
            new = set(names[0]).symmetric_difference(names[1])
            return f"{min(new, default='an attribute')!r} appears or disappears"
        for (name, value), (_, other_value) in zip(mine, theirs, strict=True):
            if not _equal(value, other_value):
                return f"{name!r}, which the step reads from outside its arguments, changes"
        return "parameters, buffers, submodules, hooks or other objects of a module are exchanged"

    def _named(self) -> Iterator[tuple[str, Any]]:
        names, attributes = self.names
        yield from zip(names, self.values, strict=True)
        for labels, plain in zip(attributes, self.attributes, strict=True):
            yield from zip(labels, plain[1:], strict=True)


class Surroundings:
    """Observe what a function may read: what its code names, and the modules found there.

    See :class:`~physicsnemo.core.capture.search.Search` for what names lead to. Of the model and
    of modules found, all is watched: modes, attributes, parameters, buffers, submodules, hooks.

    Parameters
    ----------
    function
        The step function.
    model
        Its model.
    """

    def __init__(self, function: Callable[..., Any], model: nn.Module) -> None:
        self._function, self._model = function, model
        self.refresh()

    def refresh(self) -> None:
        """Look again for what there is to watch; needed when the observation has changed."""
        found = Search(self._function, self._model)
        watched = [_Attributes(name, module) for module, name in found.modules.items()]
        slots = [*found.slots, *chain.from_iterable(part.slots for part in watched)]
        self._readers = [(slot.read, _summary if slot.small else Same) for slot in slots]
        self._names = ([slot.label for slot in slots], [part.labels for part in watched])
        self._plain = [(part.items, itemgetter("training", *part.plain)) for part in watched]
        self._others = [(part.items, part.others) for part in watched if part.others]
        parts = [items for module in found.modules for items in _parts(module)]
        self._filled, self._empty = [p for p in parts if p], [p for p in parts if not p]
        self._tensors = list(
            chain.from_iterable(
                chain(module.parameters(recurse=False), module.buffers(recurse=False))
                for module in found.modules
            )
        )

    def observe(self) -> Observation:
        """Return what the surroundings are now."""
        if any(self._empty):  # a module has got its first hook, say
            self.refresh()
        try:
            attributes = [(len(items), *get(items)) for items, get in self._plain]
            others = [items[name] for items, names in self._others for name in names]
        except KeyError:  # a module has lost an attribute
            self.refresh()
            return self.observe()
        return Observation(
            self._names,
            [summarize(read()) for read, summarize in self._readers],
            attributes,
            [*chain.from_iterable(map(dict.values, self._filled)), *others],
            list(map(_address, self._tensors)),
            _modes(),
        )

    def tensors(self) -> Iterator[Tensor]:
        """Yield the tensors that code reads by name, and all parameters and buffers."""
        yield from self._tensors
        values = (read() for read, _ in self._readers)
        yield from (value for value in values if isinstance(value, Tensor))


class _Attributes:
    """How to watch the attributes of a module, sorted by what it takes.

    Attributes
    ----------
    plain
        Names of those to be compared by value, ``labels`` with the module's name before them.
    others
        Names of those to be compared by identity.
    slots
        Containers and tensors.
    """

    def __init__(self, label: str, module: nn.Module) -> None:
        self.items = vars(module)
        self.plain, self.others, self.slots = ["training"], list[str](), list[Slot]()
        if not type(module).__module__.startswith(_WRAPPERS):  # which note there what they do
            for name in sorted(self.items.keys() - _UNWATCHED):
                self._sort(name, self.items[name], f"{label}.{name}", of_pytorch(module))
        self.labels = [f"{label}.{name}" for name in ("training", *self.plain)]

    def _sort(self, name: str, value: Any, label: str, of_pytorch: bool) -> None:
        if _is_plain(value):
            self.plain.append(name)
        elif of_pytorch:
            pass  # Derived from the rest, such as the weights that a recurrent layer lists.
        elif isinstance(value, Tensor | list | dict | tuple):
            self.slots.append(Slot(label, partial(self.items.get, name), is_small(value)))
        else:
            self.others.append(name)


def _parts(module: nn.Module) -> Iterator[dict[Any, Any]]:
    own = vars(module)
    return (own[name] for name in _PARTS if name in own)


def _is_plain(value: Any) -> bool:
    return isinstance(value, PLAIN) or (type(value) is tuple and all(map(_is_plain, value)))


def _equal(mine: Any, theirs: Any) -> bool:
    try:
        return bool(mine == theirs)
    except (RuntimeError, ValueError):  # a number has become a tensor or an array
        return False


def _summary(value: Any) -> Any:
    if isinstance(value, PLAIN):
        return (type(value), value)  # 1 and 1.0 do not compute the same
    if isinstance(value, Tensor):
        return _tensor_summary(value)
    if isinstance(value, tuple | list | dict):
        leaves: list[Any] = []
        structure = flatten(value, leaves)
        return (structure, *(Same(x) if x is value else _leaf_summary(x) for x in leaves))
    return Same(value)


def _leaf_summary(value: Any) -> Any:
    return _summary(value) if isinstance(value, (*PLAIN, Tensor)) else Same(value)


def _tensor_summary(tensor: Tensor) -> Any:
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout is not torch.strided:
        return Same(tensor)
    # A recording bakes in values that lie on the host.
    version = tensor._version if tensor.is_cpu and not tensor.is_inference() else 0
    return (tensor.data_ptr(), version, describe(tensor))


def _address(tensor: Tensor) -> tuple[Any, ...]:
    try:
        return tensor.data_ptr(), tensor.requires_grad
    except (RuntimeError, ValueError):  # a sparse tensor, or a parameter of no shape yet
        return Same(tensor), tensor.requires_grad


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
