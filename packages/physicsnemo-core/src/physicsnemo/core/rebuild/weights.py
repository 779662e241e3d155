# SPDX-License-Identifier: Apache-2.0
"""The weights of a file, checked against a model's and loaded into it."""

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from typing import Any

import torch

from physicsnemo.core.base import class_of, forgive_device_buffer, is_device_buffer
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.format.sharded import is_sharded, is_sharded_model, part_like
from physicsnemo.core.format.storable import SPARSE_LAYOUTS
from physicsnemo.core.rebuild.rollback import rollback_on_failure
from physicsnemo.core.releases import (
    State,
    constants,
    convert_before_loading,
    to_current_keys,
)

__all__ = [
    "State",
    "adopt_weights",
    "check_shapes",
    "check_weights",
    "copy_weights",
    "customizes_loading",
    "customizes_state_dict",
    "moved",
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
    # The check above leaves only code of the modules themselves to fail halfway.
    with rollback_on_failure([model] if customizes_state_dict(model) else []):
        put_weights(model, state, strict, source)


def check_weights(model: torch.nn.Module, state: State, strict: bool, source: str) -> State:
    """Return a state dict by the model's own keys, after finding that it fits.

    Which keys are missing is not known before loading where :func:`customizes_state_dict`. Raises
    what :func:`copy_weights` does.
    """
    state = to_current_keys(model, state, source)
    _check_shapes(model, state, source)
    _check_kinds(model, state, source)
    if strict and not customizes_state_dict(model):
        own = model.state_dict()
        buffers = _device_buffers({**own, **state}) if _forgives(model) else set()
        _refuse(
            model,
            source,
            missing=[key for key in own if key not in {*state, *buffers}],
            unexpected=[key for key in state if key not in {*own, *buffers}],
        )
    return state


def put_weights(model: torch.nn.Module, state: State, strict: bool, source: str) -> None:
    """Copy a state dict that :func:`check_weights` has returned.

    Raises
    ------
    CheckpointError
        If a module that customizes loading refuses it.
    """
    state = _with_parts_put(model, _with_sparse_buffers_put(model, state))
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except Exception as error:  # a module's own code can fail in any way
        if any(getattr(value, "is_meta", False) for value in state.values()):
            raise  # moved there by the caller, the file is right
        name = class_of(model).__name__
        raise CheckpointError(f"the weights in {source} do not fit {name}: {error}") from error
    if strict:
        _refuse(model, source, missing=missing, unexpected=unexpected)


def customizes_state_dict(model: torch.nn.Module) -> bool:
    """Tell whether a module overrides how state dicts are made or loaded, or hooks into it.

    Loading can then do more, or less, than copy each tensor to its own key, and fail halfway.
    """
    return type(model).load_state_dict is not torch.nn.Module.load_state_dict or any(
        customizes_loading(module) or _customizes_saving(module) for module in model.modules()
    )


def adopt_weights(
    model: torch.nn.Module,
    outline: State,
    read: Callable[[], State],
    strict: bool,
    source: str,
) -> None:
    """Let a new model's tensors be those of a file, without a copy where types agree.

    The model's own memory is freed before the file's is taken, so that loading needs room for one
    set of weights, not two. A model that customizes loading is given copies instead.

    Parameters
    ----------
    model
        The model.
    outline
        The file's state dict on the meta device.
    read
        Returns the state dict with its numbers.
    strict, source
        As for :func:`copy_weights`, which raises the same errors.
    """
    own, expected = model.state_dict(keep_vars=True), to_current_keys(model, outline, source)
    if (
        own.keys() - _device_buffers(own) != expected.keys() - _device_buffers(expected)
        or customizes_state_dict(model)
        or not all(map(_is_strided, (*own.values(), *expected.values())))
    ):
        copy_weights(model, read(), strict, source)
        return
    _check_shapes(model, expected, source)
    # What the file leaves out, since the arguments fix it, is the model's own already.
    keys = [
        key
        for key in own.keys() & expected.keys()
        if own[key].numel() and expected[key] is not own[key]
    ]
    # One number in place of all, with the same shape, frees the memory; constants keep theirs, as
    # they are compared with the file's.
    for key in set(keys) - constants(model):
        own[key].data = own[key].data.new_empty(()).expand(own[key].shape)
    state = to_current_keys(model, read(), source)
    taken: dict[int, torch.Tensor] = {}
    for key in keys:
        target, tensor = own[key], state[key].detach().to(own[key].dtype)
        # Through .data, since optimizers and tied modules already hold these very parameters.
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
    _check_shapes(model, to_current_keys(model, state, source), source)


def _check_shapes(model: torch.nn.Module, state: State, source: str) -> None:
    own = _own_tensors(model)
    unequal = [
        f"{key} {tuple(state[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own.keys() & state.keys()
        if _has_shape(own[key]) and _has_shape(state[key]) and state[key].shape != own[key].shape
    ]
    if unequal:
        raise CheckpointError(_report(model, source, {"of another shape": sorted(unequal)}))


def _check_kinds(model: torch.nn.Module, state: State, source: str) -> None:
    """Check that each tensor can be copied to the model's one of that name."""
    own = _own_tensors(model)
    problems = [
        f"{key} is {_kind(state[key])}, expected {_kind(own[key])}"
        for key in sorted(own.keys() & state.keys())
        if _kind(state[key]) != _kind(own[key]) and not own[key].is_meta
    ]
    if problems:
        raise CheckpointError(_report(model, source, {"of another kind": problems}))


def _own_tensors(model: torch.nn.Module) -> State:
    """Return a model's tensors, less extra state, which may change its shape and kind."""
    return {
        key: value
        for key, value in model.state_dict().items()
        if isinstance(value, torch.Tensor) and key.rpartition(".")[2] != "_extra_state"
    }


def _kind(value: Any) -> str:
    """Return what has to agree for one tensor to be copied to another."""
    if not isinstance(value, torch.Tensor):
        return f"of type {type(value).__name__}"
    if value.is_meta:
        return "a tensor without numbers, on the meta device"
    return f"a tensor of layout {str(value.layout).removeprefix('torch.')}"


def moved(state: State, device: torch.device | str) -> State:
    """Return a state dict with its tensors on a device, and all else as it is."""
    result = copy(state)
    for key, value in state.items():
        result[key] = value.to(device) if isinstance(value, torch.Tensor) else value
    return result


def _has_shape(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and not torch.nn.parameter.is_lazy(value)


def _is_strided(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.layout is torch.strided


def _with_sparse_buffers_put(model: torch.nn.Module, state: State) -> State:
    """Put buffers that are compressed and sparse into a model, which cannot copy those in place.

    Returns the state dict with the very same tensors.
    """
    result = copy(state)
    for name, module in model.named_modules(remove_duplicate=False):
        for key, own in module._buffers.items():
            new = state.get(f"{name}.{key}" if name else key)
            if new is None or own is None or own.layout not in SPARSE_LAYOUTS[1:]:
                continue
            if new.layout is own.layout:
                module._buffers[key] = result[f"{name}.{key}" if name else key] = new.to(
                    own.device, own.dtype
                )
    return result


def _with_parts_put(model: torch.nn.Module, state: State) -> State:
    """Put this process's parts of sharded tensors into a model, one after the other.

    Returns the state dict with the model's own tensors in their place, for which loading has
    nothing to do.
    """
    if not is_sharded_model(model):
        return state
    result = copy(state)
    with torch.no_grad():
        for key, own in model.state_dict().items():
            if is_sharded(own) and isinstance(new := state.get(key), torch.Tensor):
                part = new.to_local() if is_sharded(new) else part_like(own, new)
                own.to_local().copy_(part)
                result[key] = own
    return result


def _device_buffers(keys: Iterable[str]) -> set[str]:
    return {key for key in keys if is_device_buffer(key)}


def customizes_loading(module: torch.nn.Module) -> bool:
    """Tell whether a module itself, not its children, overrides how it reads a state dict."""
    plain = torch.nn.Module._load_from_state_dict
    return type(module)._load_from_state_dict is not plain or any(
        getattr(hook, "hook", hook) is not convert_before_loading
        for hook in _others(module._load_state_dict_pre_hooks)
    )


def _customizes_saving(module: torch.nn.Module) -> bool:
    kind, plain = type(module), torch.nn.Module
    return (
        kind.state_dict is not plain.state_dict
        or kind._save_to_state_dict is not plain._save_to_state_dict
        or kind.get_extra_state is not plain.get_extra_state
        or any(hook is not forgive_device_buffer for hook in _post_hooks(module))
        or bool(module._state_dict_hooks or _others(module._state_dict_pre_hooks))
    )


def _others(hooks: Mapping[int, Any]) -> list[Any]:
    """Return hooks less those of FSDP2, which free gathered parameters and change no value."""
    return [
        hook
        for hook in hooks.values()
        if not getattr(hook, "hook", hook).__module__.startswith("torch.distributed.fsdp")
    ]


def _forgives(model: torch.nn.Module) -> bool:
    return any(forgive_device_buffer in _post_hooks(module) for module in model.modules())


def _post_hooks(module: torch.nn.Module) -> Iterable[Any]:
    return module._load_state_dict_post_hooks.values()


def _refuse(model: torch.nn.Module, source: str, **problems: list[str]) -> None:
    if any(problems.values()):
        raise CheckpointError(_report(model, source, problems))


def _report(model: torch.nn.Module, source: str, problems: Mapping[str, Iterable[str]]) -> str:
    parts = []
    for what, keys in problems.items():
        if keys := list(keys):
            more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
            parts.append(f"{len(keys)} {what}: {', '.join(keys[:_SHOWN])}{more}")
    name = class_of(model).__name__
    return f"the weights in {source} are not those of {name}: {'; '.join(parts)}"
