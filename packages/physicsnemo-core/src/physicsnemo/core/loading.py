# SPDX-License-Identifier: Apache-2.0
"""A model built from a checkpoint without initializing weights that the file replaces."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import Parameter
from torch.nn.modules.module import register_module_module_registration_hook
from torch.overrides import TorchFunctionMode

from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.rebuilding import Blueprint
from physicsnemo.core.weights import State, adopt_weights, check_shapes

if TYPE_CHECKING:
    from physicsnemo.models.module import Module

# Modules that a file of few tensors may build, and for each tensor: many hold no weights.
_FREE_MODULES, _MODULES_PER_TENSOR = 2_000, 100


def load_model(blueprint: Blueprint, state: State, strict: bool) -> "Module":
    """Build the model of a checkpoint and give it the weights.

    The constructor runs twice. The first time it builds on the meta device, where nothing is
    allocated, so that arguments which do not belong to the weights are refused whatever their
    size; a constructor that cannot run there is trusted. The second time, random initialization is
    skipped if every weight comes from the file.

    Raises
    ------
    CheckpointError
        If the model cannot be built, or its weights are not those of the file.
    """
    with _limited_modules(_FREE_MODULES + _MODULES_PER_TENSOR * len(state), blueprint.source):
        _rehearse(blueprint, state)
        with _SkippedInitialization() if strict else nullcontext():
            model = blueprint.build()
    adopt_weights(model, state, strict, blueprint.source)
    return model


def _rehearse(blueprint: Blueprint, state: State) -> None:
    try:
        with torch.device("meta"):
            model = blueprint.build()
    except CheckpointError as error:
        if error.__cause__ is None:
            raise
        return  # the constructor needs values, or really fails: building it in earnest will tell
    check_shapes(model, state, blueprint.source)


class _SkippedInitialization(TorchFunctionMode):
    """Leave parameters as they are where a constructor would fill them with random numbers.

    Others it fills, and after some times parameters too, for constructors may draw numbers until
    they like them, as ``torch.nn.init.trunc_normal_`` does.
    """

    _TIMES = 4

    _SKIPPED = (
        torch.Tensor.uniform_,
        torch.Tensor.normal_,
        torch.nn.init.uniform_,
        torch.nn.init.normal_,
        torch.nn.init.kaiming_uniform_,
    )

    def __init__(self) -> None:
        super().__init__()
        self._skipped: Counter[int] = Counter()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in self._SKIPPED:
            tensor = args[0] if args else kwargs["tensor"]
            self._skipped[id(tensor)] += 1
            if isinstance(tensor, Parameter) and self._skipped[id(tensor)] <= self._TIMES:
                return tensor
        return func(*args, **kwargs)


@contextmanager
def _limited_modules(limit: int, source: str) -> Iterator[None]:
    """Refuse to register more modules than a file of so many tensors can mean."""
    thread, count = threading.get_ident(), 0

    def register(module: torch.nn.Module, name: str, child: torch.nn.Module) -> None:
        nonlocal count
        count += threading.get_ident() == thread
        if count > limit:
            raise CheckpointError(f"{source} asks for more than {limit} modules, for few weights")

    handle = register_module_module_registration_hook(register)
    try:
        yield
    finally:
        handle.remove()
