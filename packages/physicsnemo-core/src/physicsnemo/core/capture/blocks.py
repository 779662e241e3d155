# SPDX-License-Identifier: Apache-2.0
"""Blocks: the parts of a model that are compiled, each kind once however often it is repeated.

Compiling takes as long as there is code to compile, and a deep model repeats the same code. Which
parts those are is read off the tree of modules, so that no model has to say so.
"""

import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from physicsnemo.core.capture.dependency_scan import CONSTANT_TYPES

SMALL = 16
"""Number of layers up to which code is compiled at once, since little would be saved."""

_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)
_UNREAD = {*vars(nn.Module()), "_constructed_from", "meta"}

Compiler = Callable[[Callable[..., Any]], Callable[..., Any]]


def find_blocks(model: nn.Module, small: int = SMALL) -> list[list[nn.Module]]:
    """Return the parts of a model to compile by themselves, those of one kind together.

    A module is divided into its parts if that saves a third: if those that differ have at most two
    thirds of its layers. Layers are the modules that have parameters of their own, and none is
    compiled by itself; a small module is not divided. So a block of a transformer
    stays whole, a stack of them does not, and what stands before and behind it is compiled as well.

    Parameters
    ----------
    model
        Any module.
    small
        The number of layers of a small module.

    Returns
    -------
    Blocks that share code; nothing if the model is best compiled as a whole.
    """
    parts = _divide(model, small)
    return [] if parts == [model] else list(_kinds(parts).values())


class CompiledBlocks:
    """Blocks of a model whose ``forward`` is compiled while a step runs.

    Blocks of one kind run the same compiled code, with their own weights. What they are called
    with may have any number of rows, the size of the first axis: only the first change of it
    compiles again. Other sizes have code of their own.

    Parameters
    ----------
    blocks
        As :func:`find_blocks` returns them.
    compiler
        What compiles a function, by default :func:`torch.compile`.
    """

    def __init__(self, blocks: list[list[nn.Module]], compiler: Compiler = torch.compile) -> None:
        self._forwards = [
            (vars(block), partial(forward, block))
            for kind in blocks
            for forward in [_SharedForward(type(kind[0]).forward, compiler)]
            for block in kind
        ]

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let the blocks run their compiled code; to others, the model is as it was."""
        # One that has a forward of its own, or is active already, keeps it.
        idle = [(own, forward) for own, forward in self._forwards if "forward" not in own]
        for own, forward in idle:
            own["forward"] = forward
        try:
            with warnings.catch_warnings():
                # Dynamo reads the gradient of all that a block is called with.
                warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not")
                yield
        finally:
            for own, _ in idle:
                del own["forward"]


class _SharedForward:
    """The ``forward`` of one kind of block, compiled once for each layout of its inputs."""

    def __init__(self, forward: Callable[..., Any], compiler: Compiler) -> None:
        self._forward, self._compiler = forward, compiler
        self._compiled: dict[Hashable, Callable[..., Any]] = {}

    def __call__(self, block: nn.Module, *args: Any, **kwargs: Any) -> Any:
        inputs = (*args, *kwargs.values())
        layout = tuple(value.shape[1:] for value in inputs if isinstance(value, Tensor))
        if layout not in self._compiled:
            self._compiled[layout] = self._compiler(_copy(self._forward))
        return self._compiled[layout](block, *args, **kwargs)


_copies = iter(range(1, 2**62))


def _copy(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function with code of its own.

    Dynamo keeps what it compiled, how often it did, and which sizes it saw change by the code and
    its name: shared by all kinds of blocks, one would make the sizes of another dynamic.
    """
    if not isinstance(function, FunctionType):
        return function
    code = function.__code__.replace(co_name=f"{function.__code__.co_name}_{next(_copies)}")
    copied = FunctionType(
        code, function.__globals__, code.co_name, function.__defaults__, function.__closure__
    )
    copied.__kwdefaults__ = function.__kwdefaults__
    return copied


def _divide(module: nn.Module, small: int) -> list[nn.Module]:
    """Return what to compile of a module: itself, or parts of it."""
    size = len(_layers(module))
    if size <= 1:
        return []
    callable_ = not isinstance(module, _CONTAINERS)  # containers are looped over
    if callable_ and size <= small:
        return [module]
    parts = [part for child in module.children() for part in _divide(child, small)]
    inside = {layer for part in parts for layer in _layers(part)}
    different = sum(len(_layers(kind[0])) for kind in _kinds(parts).values())
    saves = 3 * (different + size - len(inside)) <= 2 * size
    return [module] if callable_ and not saves else parts


def _kinds(modules: list[nn.Module]) -> dict[Hashable, list[nn.Module]]:
    kinds: dict[Hashable, list[nn.Module]] = {}
    for module in dict.fromkeys(modules):
        kinds.setdefault(_kind(module), []).append(module)
    return kinds


def _kind(module: nn.Module) -> Hashable:
    """Return what modules have in common that can run the same compiled code.

    A guess: Dynamo's guards see to it that code only runs where it fits.
    """
    return tuple(
        (name, type(part), _constants(part), _tensors(part))
        for name, part in module.named_modules()
    )


def _constants(module: nn.Module) -> Hashable:
    own = vars(module)
    names = sorted(own.keys() - _UNREAD)
    # With their types and in words, since 1 and True are equal, and nan is not.
    return tuple((name, repr(own[name])) for name in names if _is_constant(own[name]))


def _is_constant(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_constant, value))
    return isinstance(value, CONSTANT_TYPES)


def _tensors(module: nn.Module) -> Hashable:
    own = (*module._parameters.items(), *module._buffers.items())
    return tuple(
        (name, None if t is None else (t.shape, t.dtype, t.requires_grad)) for name, t in own
    )


def _layers(module: nn.Module) -> list[nn.Module]:
    return [part for part in module.modules() if part._parameters]
