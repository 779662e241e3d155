# SPDX-License-Identifier: Apache-2.0
"""Weights of a file put into a model."""

from collections.abc import Iterable
from typing import Any

import torch

from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.releases import State, in_own_keys

__all__ = ["State", "adopt_weights", "check_shapes", "copy_weights", "forgive_device_buffer"]

_SHOWN = 10


def copy_weights(model: torch.nn.Module, state: State, strict: bool, source: str) -> None:
    """Copy a state dict into a model's own tensors, cast and moved as they need.

    Raises
    ------
    CheckpointError
        If a tensor has another shape than the model's or, when ``strict``, if tensors are missing
        or unexpected. Shapes are compared before anything is copied.
    """
    state = in_own_keys(model, state, source)
    _check_shapes(model, state, source)
    missing, unexpected = model.load_state_dict(state, strict=False)
    if strict and (missing or unexpected):
        problems = {"missing": missing, "unexpected": unexpected}
        raise CheckpointError(_report(model, source, problems))


def adopt_weights(model: torch.nn.Module, state: State, strict: bool, source: str) -> None:
    """Let a new model's tensors be those of a state dict, without a copy where types agree.

    Modules that read a state dict in ways of their own are given copies instead. Raises what
    :func:`copy_weights` does.
    """
    state = in_own_keys(model, state, source)
    own = model.state_dict(keep_vars=True)
    if own.keys() - _marks(own) != state.keys() - _marks(state) or any(
        map(has_own_ways, model.modules())
    ):
        copy_weights(model, state, strict, source)
        return
    _check_shapes(model, state, source)
    taken: dict[int, torch.Tensor] = {}
    for key in (key for key in own.keys() & state.keys() if own[key].numel()):
        target, tensor = own[key], state[key].detach().to(own[key].dtype)
        # Tensors that share memory in the file but not in the model would train as one.
        address = tensor.untyped_storage().data_ptr()
        shared = taken.setdefault(address, target) is not target
        target.data = tensor.clone() if shared else tensor


def check_shapes(model: torch.nn.Module, state: State, source: str) -> None:
    """Compare the shapes of a state dict with those of a model.

    Raises
    ------
    CheckpointError
        If one differs.
    """
    _check_shapes(model, in_own_keys(model, state, source), source)


def _check_shapes(model: torch.nn.Module, state: State, source: str) -> None:
    own = model.state_dict()
    unequal = [
        f"{key} {tuple(state[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own.keys() & state.keys()
        if isinstance(own[key], torch.Tensor) and state[key].shape != own[key].shape
    ]
    if unequal:
        raise CheckpointError(_report(model, source, {"of another shape": sorted(unequal)}))


def forgive_device_buffer(module: torch.nn.Module, incompatible: Any) -> None:
    """Leave the empty ``device_buffer``, which some writers leave out, off the lists of keys.

    A hook for ``register_load_state_dict_post_hook``.
    """
    for keys in (incompatible.missing_keys, incompatible.unexpected_keys):
        keys[:] = [key for key in keys if not _is_mark(key)]


def _is_mark(key: str) -> bool:
    return key.rpartition(".")[2] == "device_buffer"


def _marks(keys: Iterable[str]) -> set[str]:
    return {key for key in keys if _is_mark(key)}


def has_own_ways(module: torch.nn.Module) -> bool:
    """Tell whether a module itself, not its children, renames or converts what it loads."""
    plain = torch.nn.Module._load_from_state_dict
    return type(module)._load_from_state_dict is not plain or bool(
        module._load_state_dict_pre_hooks
    )


def _report(model: torch.nn.Module, source: str, problems: dict[str, Iterable[str]]) -> str:
    parts = []
    for what, keys in problems.items():
        if keys := list(keys):
            more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
            parts.append(f"{len(keys)} {what}: {', '.join(keys[:_SHOWN])}{more}")
    return f"the weights in {source} are not those of {type(model).__name__}: {'; '.join(parts)}"
