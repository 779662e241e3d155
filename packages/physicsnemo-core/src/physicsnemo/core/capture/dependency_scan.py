# SPDX-License-Identifier: Apache-2.0
"""Dependency scan: what a function can read besides its arguments, by the names in its code.

Dynamo learns what to guard by interpreting the step's bytecode. This reads the bytecode without
running it: a scan costs milliseconds, works with any library inside the step, and finds names that
this call happened not to reach. What no name leads to, it misses.
"""

import dis
import enum
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from itertools import islice
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    NoneType,
)
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from physicsnemo.core.base import class_of
from physicsnemo.core.pytree import named_leaves

CONSTANT_TYPES: tuple[type, ...] = (
    *(bool, int, float, complex, str, bytes, NoneType, enum.Enum),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format),
    *([torch.distributed.ProcessGroup] if torch.distributed.is_available() else []),
)
"""Types whose values never change, and are compared by value; a process group is its value."""

CODE_TYPES = (type, FunctionType, BuiltinFunctionType)
"""Types of what does not change, although what it reads may."""

MISSING = object()
"""Stands for a name that has no value yet."""

_MAX_ITEMS = 1000
_LIBRARIES = {"torch", "numpy", "physicsnemo", *sys.stdlib_module_names} - {"builtins"}
_READ_GLOBAL = {"LOAD_GLOBAL", "LOAD_NAME"}
_READ_ATTRIBUTE = {"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"}
# Methods that syntax or PyTorch calls, so that no code names them.
_CALLED_UNNAMED = {
    "__call__",
    "__enter__",
    "__getattr__",
    "__getitem__",
    "__iter__",
    "backward",
    "forward",
}


class Source(NamedTuple):
    """A place that code reads by name, such as a closure's cell, a global or an attribute."""

    label: str
    read: Callable[[], Any]
    small: bool
    """Whether its items are guarded; a large container is guarded by its identity."""


class DependencyScan:
    """Find everything that a function, and what it calls, can read by name.

    Names are followed through closures, globals, defaults, attributes, methods, properties and
    containers, but not into libraries.

    Parameters
    ----------
    function
        Where to begin.
    model
        A module to be found in any case.

    Attributes
    ----------
    sources
        What was found, except for attributes of modules that no code names.
    modules
        The modules that were found, and how to name them.
    """

    def __init__(self, function: Callable[..., Any], model: nn.Module) -> None:
        # Which attributes of an object matter depends on the code that is found, and which code is
        # found depends on the attributes: scan until no new name turns up.
        self._names: set[str] = set()
        known = -1
        while len(self._names) > known:
            known = len(self._names)
            self._sources: dict[tuple[int, str], Source] = {}
            self._seen: set[int] = set()
            self.modules: dict[nn.Module, str] = {}
            self._visit(model, "model")
            self._visit(function, getattr(function, "__name__", "step"))
        self.sources = list(self._sources.values())

    def _visit(self, value: Any, label: str) -> None:
        if (
            isinstance(value, (*CONSTANT_TYPES, Tensor))
            or id(value) in self._seen
            or _is_library(value)
        ):
            return
        self._seen.add(id(value))
        if isinstance(value, nn.Module):
            self._visit_modules(value, label)
        elif isinstance(value, tuple | list | dict):
            for name, leaf in named_leaves(value, label) if is_small(value) else ():
                self._visit(leaf, name)
        elif isinstance(value, partial):
            self._visit(value.func, label)
            for name in ("args", "keywords"):
                self._add(value, name, f"{label}.{name}", partial(getattr, value, name))
        elif isinstance(value, MethodType):
            self._visit(value.__func__, label)
            self._visit(value.__self__, f"{label}.__self__")
        elif isinstance(value, FunctionType):
            self._visit_function(value)
        else:
            self._visit_object(value, label)

    def _visit_modules(self, module: nn.Module, label: str) -> None:
        for path, part in module.named_modules():
            name = f"{label}.{path}".rstrip(".")
            known = self.modules.setdefault(part, name) != name
            if not known and not of_pytorch(part):  # whose attributes are constants
                self._visit_object(part, name)

    def _visit_function(self, function: FunctionType) -> None:
        self._visit(getattr(function, "__wrapped__", None), function.__name__)
        code, names = function.__code__, set(_names_in(function.__code__))
        self._names |= {name for operation, name in names if operation in _READ_ATTRIBUTE}
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            self._add(cell, name, name, partial(_contents, cell))
        read = {name for operation, name in names if operation in _READ_GLOBAL}
        for name in sorted(read & function.__globals__.keys()):
            self._add_item(function.__globals__, function.__globals__, name, name)
        for name, default in _defaults(function).items():
            self._add(function, name, f"{function.__name__}({name}=...)", _always(default))

    def _visit_object(self, value: Any, label: str) -> None:
        own = getattr(value, "__dict__", {})
        for name in sorted(self._names & own.keys()):
            self._add_item(value, own, name, f"{label}.{name}")
        for base in value.__mro__ if isinstance(value, type) else type(value).__mro__:
            if not _is_library(base):
                for name in sorted((self._names | _CALLED_UNNAMED) & vars(base).keys()):
                    self._visit_member(value, name, vars(base)[name], f"{label}.{name}")

    def _visit_member(self, value: Any, name: str, member: Any, label: str) -> None:
        code = _code_of(member)
        if code is not None:
            self._visit(code, label)
        # Other descriptors are left alone: reading one runs code of which nothing is known.
        elif isinstance(member, MemberDescriptorType) or not hasattr(member, "__get__"):
            self._add(value, name, label, partial(getattr, value, name, MISSING))

    def _add_item(self, owner: Any, items: Mapping[str, Any], name: str, label: str) -> None:
        self._add(owner, name, label, partial(items.get, name, MISSING))

    def _add(self, owner: Any, name: str, label: str, read: Callable[[], Any]) -> None:
        value = read()
        if not _is_library(value):
            self._sources.setdefault((id(owner), name), Source(label, read, is_small(value)))
            self._visit(value, label)


def is_foreign(value: Any) -> bool:
    """Return whether a function, class or module belongs to a library that is not scanned."""
    home = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", "")
    return str(home).partition(".")[0] in _LIBRARIES


def of_pytorch(module: nn.Module) -> bool:
    """Return whether a module's class is one of PyTorch's own."""
    return class_of(module).__module__.startswith("torch.")


def is_small(value: Any) -> bool:
    """Return whether the items of a container can be looked at each time; others are data."""
    return next(islice(named_leaves(value, ""), _MAX_ITEMS, None), None) is None


def _is_library(value: Any) -> bool:
    return isinstance(value, (*CODE_TYPES, ModuleType)) and is_foreign(value)


def _code_of(member: Any) -> FunctionType | None:
    if isinstance(member, property):
        member = member.fget
    elif isinstance(member, cached_property):
        member = member.func
    elif isinstance(member, staticmethod | classmethod):
        member = member.__func__
    return member if isinstance(member, FunctionType) else None


def _always(value: Any) -> Callable[[], Any]:
    return lambda: value


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the variable is not assigned yet
        return MISSING


def _defaults(function: FunctionType) -> dict[str, Any]:
    code, values = function.__code__, function.__defaults__ or ()
    names = code.co_varnames[: code.co_argcount][code.co_argcount - len(values) :]
    return dict(zip(names, values, strict=True)) | (function.__kwdefaults__ or {})


def _names_in(code: CodeType) -> Iterator[tuple[str, str]]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in _READ_GLOBAL | _READ_ATTRIBUTE:
            yield instruction.opname, instruction.argval
    for constant in code.co_consts:  # functions that are defined inside this one
        if isinstance(constant, CodeType):
            yield from _names_in(constant)
