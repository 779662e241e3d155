# SPDX-License-Identifier: Apache-2.0
"""Guards: what a step reads besides its arguments, and must find as it was to be replayed.

As in Dynamo, a cache entry serves a call only while its guards hold. Each call reads a
:class:`GuardState` and compares it with those of the entries. It is one flat structure rather than
a closure for each guard: a model has hundreds of modules, and lists are compared without running
Python code for each.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from operator import is_
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
from physicsnemo.core.format.sharded import is_sharded
from physicsnemo.core.pytree import flatten

_PARTS = ("_parameters", "_buffers", "_modules")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
# What every module has, and how a physicsnemo.Module was built.
_UNGUARDED = {*vars(nn.Module()), "_constructed_from", "meta"}
_NOTES_OF_FSDP = ("__composable_api_state_key", "_is_fsdp", "_fsdp")
_WRAPPERS = ("torch.nn.parallel", "torch.distributed", "torch._dynamo")


class IdentityKey:
    """Key that equals another only if both hold the very same object.

    It keeps the object alive: otherwise a new one could get the same ``id``.
    """

    __slots__ = ("_object",)

    def __init__(self, value: Any) -> None:
        self._object = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdentityKey) and self._object is other._object

    def __hash__(self) -> int:
        return id(self._object)

    def __str__(self) -> str:
        return str(getattr(self._object, "__qualname__", type(self._object).__qualname__))


def leaf_metadata(leaf: Any) -> Hashable:
    """Return what a recording bakes in of a leaf: no values of tensors, no states of generators."""
    if isinstance(leaf, Tensor):
        bits = (leaf.requires_grad, leaf.is_conj(), leaf.is_neg())
        return (leaf.shape, leaf.stride(), leaf.dtype, leaf.device, *bits)
    if isinstance(leaf, torch.Generator):
        return (torch.Generator, leaf.device)
    return (type(leaf), leaf if isinstance(leaf, CONSTANT_TYPES) else IdentityKey(leaf))


class Objects:
    """Objects of one moment, to see whether those of another are the very same.

    Parameters
    ----------
    objects
        The objects.
    """

    def __init__(self, objects: Iterable[Any]) -> None:
        self._objects = list(objects)
        # Lists look for identity before they ask for equality, much faster than Python code can.
        # Where they go on to ask, tensors of several elements refuse to answer.
        self._refuse = all(map(_is_never_equal, self._objects))

    def __len__(self) -> int:
        return len(self._objects)

    def are(self, others: list[Any]) -> bool:
        """Return whether these are the others."""
        if not self._refuse:
            mine = self._objects
            return len(mine) == len(others) and all(map(is_, mine, others))
        try:
            return self._objects == others
        except (RuntimeError, TypeError, ValueError):
            return False


@dataclass(eq=False)
class GuardState:
    """What the guards read in one call.

    Attributes
    ----------
    names
        The names of values and of attributes, for messages.
    values
        What sources hold: constants, the metadata of tensors, the identity of other things.
    sizes
        How many attributes each module has.
    attributes
        Those of all modules that are constants.
    objects
        Parameters, buffers, submodules, hooks and other attributes of modules.
    addresses
        Where parameters and buffers lie, and then whether they require gradients.
    modes
        Settings of PyTorch that choose what is computed.
    """

    names: Sequence[str]
    values: list[Any]
    sizes: list[int]
    attributes: list[Any]
    objects: list[Any]
    addresses: list[Any]
    modes: tuple[Hashable, ...]

    def matches(self, other: "GuardState") -> bool:
        """Return whether a recording made in the other state serves in this one."""
        return (
            self.addresses == other.addresses
            # By identity: ``==`` of tensors compares values, and waits for the device.
            and self._own_objects.are(other.objects)
            and self.sizes == other.sizes
            and _equal(self.attributes, other.attributes)
            and self.modes == other.modes
            and _equal(self.values, other.values)
        )

    @cached_property
    def _own_objects(self) -> Objects:
        return Objects(self.objects)

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
            if not _equal(value, other_value):
                return f"{name!r}, which the step reads from outside its arguments, changes"
        return "parameters, buffers, submodules, hooks or other objects of a module are exchanged"

    def _named(self) -> Iterator[tuple[str, Any]]:
        return zip(self.names, (*self.values, *self.attributes), strict=True)


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
        self._readers = [(s.read, _summary if s.small else IdentityKey) for s in sources]
        constants = [(part.items, name) for part in attributes for name in part.constants]
        labels = [f"{part.label}.{name}" for part in attributes for name in part.constants]
        self._names = [*(source.label for source in sources), *labels]
        self._modules = [part.items for part in attributes]
        self._constants = _columns(constants)
        others = [(part.items, name) for part in attributes for name in part.others]
        self._others = _columns(others)
        parts = list(_tables(found.modules, _PARTS))
        hooks = list(_tables(found.modules, _HOOKS))
        self._filled = [table for table in (*parts, *hooks) if table]
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

    def state(self) -> GuardState:
        """Return what the guards read now."""
        if any(self._empty) or self._has_first_hook():
            self.rescan()
        try:
            attributes = list(map(dict.__getitem__, *self._constants))
            others = list(map(dict.__getitem__, *self._others))
        except KeyError:  # a module has lost an attribute
            self.rescan()
            return self.state()
        return GuardState(
            self._names,
            [summarize(read()) for read, summarize in self._readers],
            list(map(len, self._modules)),
            attributes,
            [*chain.from_iterable(map(dict.values, self._filled)), *others],
            _addresses(self._tensors, self._sharded),
            _modes(),
        )

    def _has_first_hook(self) -> bool:
        if self._hooks_so_far == RemovableHandle.next_id:
            return False
        self._hooks_so_far = RemovableHandle.next_id
        return any(self._without_hooks)

    def tensors(self) -> Iterator[Tensor]:
        """Yield the tensors that code reads by name, and all parameters and buffers."""
        yield from self._tensors
        values = (read() for read, _ in self._readers)
        yield from (value for value in values if isinstance(value, Tensor))


class _Attributes:
    """How to guard the attributes of a module, sorted by what it takes.

    Attributes
    ----------
    constants
        Names of those to be compared by value.
    others
        Names of those to be compared by identity.
    sources
        Containers and tensors.
    """

    def __init__(self, label: str, module: nn.Module) -> None:
        self.label, self.items = label, vars(module)
        self.constants, self.others, self.sources = ["training"], list[str](), list[Source]()
        if not class_of(module).__module__.startswith(_WRAPPERS):  # which note there what they do
            for name in sorted(self.items.keys() - _UNGUARDED):
                if name.startswith(_NOTES_OF_FSDP):
                    continue
                self._sort(name, self.items[name], f"{label}.{name}", of_pytorch(module))

    def _sort(self, name: str, value: Any, label: str, of_pytorch: bool) -> None:
        if _is_constant(value):
            self.constants.append(name)
        elif of_pytorch:
            pass  # Derived from the rest, such as the weights that a recurrent layer lists.
        elif isinstance(value, Tensor | list | dict | tuple):
            self.sources.append(Source(label, partial(self.items.get, name), is_small(value)))
        else:
            self.others.append(name)


def _columns(pairs: list[tuple[dict[str, Any], str]]) -> tuple[list[Any], list[str]]:
    return [items for items, _ in pairs], [name for _, name in pairs]


def _tables(modules: Iterable[nn.Module], names: Sequence[str]) -> Iterator[dict[Any, Any]]:
    owned = map(vars, modules)
    return (own[name] for own in owned for name in names if name in own)


def _is_never_equal(value: Any) -> bool:
    """Return whether a value equals nothing but itself, or raises when it is compared."""
    if isinstance(value, Tensor):
        return type(value) in (Tensor, nn.Parameter) and value.numel() > 1
    return value is None or getattr(type(value), "__eq__", None) is object.__eq__


def _is_constant(value: Any) -> bool:
    return isinstance(value, CONSTANT_TYPES) or (
        type(value) is tuple and all(map(_is_constant, value))
    )


def _equal(mine: Any, theirs: Any) -> bool:
    try:
        return bool(mine == theirs)
    except (RuntimeError, ValueError):  # a number has become a tensor or an array
        return False


def _summary(value: Any) -> Any:
    if isinstance(value, CONSTANT_TYPES):
        return (type(value), value)  # 1 and 1.0 do not compute the same
    if isinstance(value, Tensor):
        return _tensor_summary(value)
    if isinstance(value, tuple | list | dict):
        leaves: list[Any] = []
        spec = flatten(value, leaves)
        return (spec, *(IdentityKey(x) if x is value else _leaf_summary(x) for x in leaves))
    return IdentityKey(value)


def _leaf_summary(value: Any) -> Any:
    return _summary(value) if isinstance(value, (*CONSTANT_TYPES, Tensor)) else IdentityKey(value)


def _tensor_summary(tensor: Tensor) -> Any:
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout is not torch.strided:
        return IdentityKey(tensor)
    # A recording reads tensors on the device at each replay, but bakes in values from the host.
    version = tensor._version if tensor.is_cpu and not tensor.is_inference() else 0
    return (tensor.data_ptr(), version, leaf_metadata(tensor))


def _addresses(tensors: Sequence[Tensor], sharded: bool) -> list[Any]:
    flags = [tensor.requires_grad for tensor in tensors]
    try:
        return [*map(_address if sharded else Tensor.data_ptr, tensors), *flags]
    except (RuntimeError, ValueError):
        return [*map(_address, tensors), *flags]


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
