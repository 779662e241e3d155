# SPDX-License-Identifier: Apache-2.0
"""Weights of a file put into a model."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.releases import State, in_own_keys
from physicsnemo.core.undo import undone_on_failure

__all__ = [
    "State",
    "adopt_weights",
    "check_shapes",
    "check_weights",
    "copy_weights",
    "forgive_device_buffer",
    "has_own_ways",
    "has_surprises",
    "put_weights",
]

_SHOWN = 10


def copy_weights(model: torch.nn.Module, state: State, strict: bool, source: str) -> None:
    """Copy a state dict into a model's own tensors, cast and moved as they need, or change nothing.

    Raises
    ------
    CheckpointError
        If a tensor has another shape than the model's or, when ``strict``, if tensors are missing
        or unexpected.
    """
    state = check_weights(model, state, strict, source)
    with undone_on_failure([model] if has_surprises(model) else []):
        put_weights(model, state, strict, source)


def check_weights(model: torch.nn.Module, state: State, strict: bool, source: str) -> State:
    """Return a state dict by the model's own keys, after finding that it fits.

    Which keys are missing is not known before loading where :func:`has_surprises`. Raises what
    :func:`copy_weights` does.
    """
    state = in_own_keys(model, state, source)
    _check_shapes(model, state, source)
    _check_kinds(model, state, source)
    if strict and not has_surprises(model):
        own = model.state_dict()
        marks = _marks({**own, **state}) if _forgives(model) else set()
        _refuse(
            model,
            source,
            missing=[key for key in own if key not in {*state, *marks}],
            unexpected=[key for key in state if key not in {*own, *marks}],
        )
    return state


def put_weights(model: torch.nn.Module, state: State, strict: bool, source: str) -> None:
    """Copy a state dict that :func:`check_weights` has returned.

    Raises
    ------
    CheckpointError
        If a module that reads it in ways of its own refuses.
    """
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except Exception as error:  # a module's own code can fail in any way
        if any(getattr(value, "is_meta", False) for value in state.values()):
            raise  # moved there by the caller, the file is right
        name = type(model).__name__
        raise CheckpointError(f"the weights in {source} do not fit {name}: {error}") from error
    if strict:
        _refuse(model, source, missing=missing, unexpected=unexpected)


def has_surprises(model: torch.nn.Module) -> bool:
    """Tell whether loading can do more, or less, than to copy each tensor to its own key."""
    return type(model).load_state_dict is not torch.nn.Module.load_state_dict or any(
        has_own_ways(module) or _saves_in_own_ways(module) for module in model.modules()
    )


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
        if _has_shape(own[key]) and _has_shape(state[key]) and state[key].shape != own[key].shape
    ]
    if unequal:
        raise CheckpointError(_report(model, source, {"of another shape": sorted(unequal)}))


def _check_kinds(model: torch.nn.Module, state: State, source: str) -> None:
    """Check that each tensor can be copied to the model's one of that name."""
    own = {key: it for key, it in model.state_dict().items() if isinstance(it, torch.Tensor)}
    problems = [
        f"{key} is {_kind(state[key])}, expected {_kind(own[key])}"
        for key in sorted(own.keys() & state.keys())
        if _kind(state[key]) != _kind(own[key]) and not own[key].is_meta
    ]
    if problems:
        raise CheckpointError(_report(model, source, {"of another kind": problems}))


def _kind(value: Any) -> str:
    """Return what has to agree for one tensor to be copied to another."""
    if not isinstance(value, torch.Tensor):
        return f"of type {type(value).__name__}"
    if value.is_meta:
        return "a tensor without numbers, on the meta device"
    return f"a tensor of layout {str(value.layout).removeprefix('torch.')}"


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


def _saves_in_own_ways(module: torch.nn.Module) -> bool:
    kind, plain = type(module), torch.nn.Module
    return (
        kind._save_to_state_dict is not plain._save_to_state_dict
        or kind.get_extra_state is not plain.get_extra_state
        or any(hook is not forgive_device_buffer for hook in _post_hooks(module))
        or bool(module._state_dict_hooks or module._state_dict_pre_hooks)
    )


def _forgives(model: torch.nn.Module) -> bool:
    return any(forgive_device_buffer in _post_hooks(module) for module in model.modules())


def _post_hooks(module: torch.nn.Module) -> Iterable[Any]:
    return module._load_state_dict_post_hooks.values()


def _has_shape(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and not torch.nn.parameter.is_lazy(value)


def _refuse(model: torch.nn.Module, source: str, **problems: list[str]) -> None:
    if any(problems.values()):
        raise CheckpointError(_report(model, source, problems))


def _report(model: torch.nn.Module, source: str, problems: Mapping[str, Iterable[str]]) -> str:
    parts = []
    for what, keys in problems.items():
        if keys := list(keys):
            more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
            parts.append(f"{len(keys)} {what}: {', '.join(keys[:_SHOWN])}{more}")
    return f"the weights in {source} are not those of {type(model).__name__}: {'; '.join(parts)}"
