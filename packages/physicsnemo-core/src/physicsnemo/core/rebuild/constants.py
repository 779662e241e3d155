# SPDX-License-Identifier: Apache-2.0
"""Constants of models that were built without memory: buffers that no file holds, made again."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import torch
from torch.nn.modules.module import register_module_parameter_registration_hook

from physicsnemo.core.base import ModelBase, class_of, record_of
from physicsnemo.core.rebuild.blueprint import construct

Twins = dict[int, ModelBase]


def missing_constants(model: torch.nn.Module) -> list[str]:
    """Return the names of a model's buffers on the meta device that are not in its state dict.

    Modules that override ``_apply`` see to their own, and to those of the modules in them.
    """
    found: list[str] = []

    def visit(module: torch.nn.Module, prefix: str) -> None:
        if class_of(module)._apply is not torch.nn.Module._apply:
            return
        for name in module._non_persistent_buffers_set:
            buffer = module._buffers.get(name)
            if buffer is not None and buffer.is_meta:
                found.append(f"{prefix}{name}")
        for name, child in module.named_children():
            visit(child, f"{prefix}{name}.")

    visit(model, "")
    return found


def restore_constants(model: ModelBase, names: list[str]) -> None:
    """Give constants the numbers that the constructor gives them, by calling it again.

    Parameters of what it makes take no memory, and random numbers go on as if it had not run.
    """
    if not names:
        return
    with torch.random.fork_rng(devices=[]), torch.device("cpu"), _parameters_on_meta():
        twin = _twin(model, {})
    for name in names:
        model.get_buffer(name).copy_(twin.get_buffer(name))


def _twin(model: ModelBase, twins: Twins) -> ModelBase:
    if id(model) not in twins:
        arguments = _with_twins(record_of(model)["__args__"], twins)
        twins[id(model)] = construct(class_of(model), arguments)
    return twins[id(model)]


def _with_twins(value: Any, twins: Twins) -> Any:
    """Put new models in the place of those among recorded arguments, at any depth."""
    if isinstance(value, ModelBase):
        return _twin(value, twins)
    if isinstance(value, dict):
        return type(value)((key, _with_twins(item, twins)) for key, item in value.items())
    if type(value) in (list, tuple):
        return type(value)(_with_twins(item, twins) for item in value)
    return value


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Let parameters of modules that this thread makes take memory for no longer than a moment."""
    thread = get_ident()

    def without_numbers(
        module: torch.nn.Module, name: str, parameter: torch.nn.Parameter | None
    ) -> torch.nn.Parameter | None:
        if parameter is None or torch.nn.parameter.is_lazy(parameter) or get_ident() != thread:
            return None
        return torch.nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)

    hook = register_module_parameter_registration_hook(without_numbers)  # type: ignore[arg-type]
    try:
        yield
    finally:
        hook.remove()
