# SPDX-License-Identifier: Apache-2.0
"""Build: a model constructed as its blueprint says, and given the weights of its file."""

from collections import Counter
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch.nn import Parameter
from torch.overrides import TorchFunctionMode

from physicsnemo.core.base import ModelBase
from physicsnemo.core.format.container import Checkpoint
from physicsnemo.core.rebuild.blueprint import Blueprint
from physicsnemo.core.rebuild.limits import resource_limits
from physicsnemo.core.rebuild.weights import State, adopt_weights, check_shapes


def load_model(
    blueprint: Blueprint, checkpoint: Checkpoint, strict: bool, mmap: bool = False
) -> ModelBase:
    """Build the model of a checkpoint, on the CPU, and give it the weights.

    The constructor runs once and draws random numbers as ever, from the global generator where it
    does so; twice for a file that claims no release, and whose state shows a later one than its
    arguments do. Only where all classes of the file declare that they draw nothing but weights, and
    the file must hold all of them, weights are left undrawn. Numbers are read last, when all else
    has been found to fit, into the place of those that were drawn.

    Raises
    ------
    CheckpointError
        If the model cannot be built, is larger than the weights can mean, or its weights are not
        those of the file.
    """
    outline = checkpoint.outline()
    model = _build(blueprint, outline, strict)
    if blueprint.reconsider(model, outline):
        model = _build(blueprint, outline, strict)
    check_shapes(model, outline, blueprint.source)
    if blueprint.of_this_library:
        _follow_dtypes(model, outline)
    read = partial(checkpoint.state_dict, mmap)
    adopt_weights(model, outline, read, strict, blueprint.source)
    return model


def _build(blueprint: Blueprint, outline: State, strict: bool) -> ModelBase:
    with ExitStack() as stack:
        stack.enter_context(resource_limits(outline, blueprint.source))
        # Not on a default device: a constructor draws other numbers there, and the caller says by
        # map_location where the model is to be.
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if strict and all(map(draws_only_weights, blueprint.model_classes)):
            stack.enter_context(_SkippedInitialization())
        return blueprint.build()


def draws_only_weights(model_class: type[ModelBase]) -> bool:
    """Tell whether a class declares ``_draws_only_weights``, itself: a subclass may draw more."""
    return vars(model_class).get("_draws_only_weights") is True


def _follow_dtypes(model: ModelBase, state: State) -> None:
    """Convert a model's floating-point tensors to the dtypes that they have in a file.

    Where those are one dtype, the whole model is converted, constants besides the file included,
    as the saved model was.
    """
    own = model.state_dict(keep_vars=True)
    floating = {
        key: it for key, it in state.items() if _is_floating(it) and _is_floating(own.get(key))
    }
    if all(own[key].dtype == tensor.dtype for key, tensor in floating.items()):
        return
    types = {tensor.dtype for tensor in floating.values()}
    convert = _CONVERSIONS.get(next(iter(types))) if len(types) == 1 else None
    if convert is not None:
        convert(model)
        return
    for key, tensor in floating.items():
        own[key].data = own[key].data.to(tensor.dtype)


def _is_floating(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


_CONVERSIONS = {
    torch.float64: torch.nn.Module.double,
    torch.float32: torch.nn.Module.float,
    torch.float16: torch.nn.Module.half,
    torch.bfloat16: torch.nn.Module.bfloat16,
}


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
