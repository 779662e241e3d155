# SPDX-License-Identifier: Apache-2.0
"""What a training consists of besides its models: optimizer, schedules, scalers, random numbers."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from physicsnemo.core.capture.decorator import SCALERS
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.format.container import Checkpoint, write_checkpoint
from physicsnemo.core.format.tensors import write_state
from physicsnemo.core.pytree import map_tensors
from physicsnemo.core.rebuild.contents import contents, state_of
from physicsnemo.core.rebuild.weights import check_weights, moved
from physicsnemo.core.training.serializable import check_data
from physicsnemo.models.module import Module

# The first five are those of the reference implementation, which ignores the last.
OPTIMIZER, SCHEDULER, SCALER = "optimizer_state_dict", "scheduler_state_dict", "scaler_state_dict"
CAPTURES, METADATA, RANDOM = "static_capture_state_dict", "metadata", "random_state"

Stateful = Mapping[str, Any]  # objects with a state_dict, by the key of their state


def collect(stateful: Stateful, epoch: int, metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a training.

    Raises
    ------
    TypeError
        If a state holds more than data.
    """
    state = {key: owner.state_dict() for key, owner in stateful.items()}
    for group in state.get(OPTIMIZER, {}).get("param_groups", []):
        if "param_names" in group:  # a compiled model adds its wrapper to the names
            group["param_names"] = [n.replace("_orig_mod.", "") for n in group["param_names"]]
    if captures := {label: own for label, own in SCALERS.state_dict().items() if own}:
        state[CAPTURES] = captures
    for key, value in state.items():
        check_data(value, key)
    kept = {METADATA: metadata} if metadata else {}
    return state | kept | {"epoch": epoch, RANDOM: _random_state()}


def check_training(state: dict[str, Any], stateful: Stateful, source: str) -> None:
    """Check that there is a state for each object, and that the rest can be restored.

    Raises
    ------
    CheckpointError
        If not.
    """
    if absent := stateful.keys() - state.keys():
        found = ", ".join(map(str, state)) or "nothing"
        raise CheckpointError(f"{source} has no {', '.join(sorted(absent))}; it has {found}")
    for key in (CAPTURES, METADATA, RANDOM):
        if not isinstance(state.get(key, {}), dict):
            raise CheckpointError(f"{key} in {source} is no dictionary")
    try:
        _set_random(state, torch.Generator("cpu").set_state, _check_cuda)
    except (TypeError, RuntimeError, AttributeError) as error:
        raise CheckpointError(f"{RANDOM} in {source} is not valid: {error}") from error


def restore(state: dict[str, Any], stateful: Stateful, source: str) -> None:
    """Put the state of a training back, but for the random numbers.

    Raises
    ------
    CheckpointError
        If a state does not fit its object.
    """
    for key, owner in with_grad_scalers(stateful).items():
        if key == CAPTURES and key not in state:
            continue
        try:
            owner.load_state_dict(state[key])
        except Exception as error:  # each class has its own ways to refuse
            raise CheckpointError(f"{key} in {source} does not fit: {error!r}") from error


def with_grad_scalers(stateful: Stateful) -> Stateful:
    """Add the gradient scalers of captured steps."""
    return {**stateful, CAPTURES: SCALERS}


def restore_random(state: dict[str, Any]) -> None:
    """Let PyTorch's random numbers go on where they were; those of a GPU where there is one."""
    _set_random(state, torch.set_rng_state, torch.cuda.set_rng_state)


def _set_random(
    state: dict[str, Any], on_cpu: Callable[[Any], Any], on_gpu: Callable[[Any], Any]
) -> None:
    own = state.get(RANDOM, {})
    if "cpu" in own:
        on_cpu(own["cpu"].cpu())
    if "cuda" in own and torch.cuda.is_available():
        on_gpu(own["cuda"].cpu())


def _check_cuda(state: torch.Tensor) -> None:
    torch.Generator("cuda").set_state(state)


def write_model(model: torch.nn.Module, path: Path) -> None:
    """Write a model as a ``.mdlus`` file, or a plain one's weights as PyTorch does."""
    if isinstance(model, Module):
        write_checkpoint(path, state_of(model), *contents(model))
        return
    state = model.state_dict()
    check_data(dict(state), f"the state of {type(model).__name__}")
    write_data(state, path)


def read_model(
    model: torch.nn.Module,
    file: BinaryIO,
    device: torch.device | str,
    strict: bool,
    source: str,
) -> dict[str, Any]:
    """Read weights that :func:`write_model` wrote, by the model's own keys; it is left as it is.

    Raises
    ------
    CheckpointError
        If the file is damaged, or the weights are not the model's.
    """
    if isinstance(model, Module):
        state: dict[str, Any] = Checkpoint(file, source).state_dict()
    else:
        state = read_data(file, source)
        if not all(isinstance(key, str) for key in state):
            raise CheckpointError(f"{source} is not the state of a model: its keys are not text")
    return moved(check_weights(model, state, strict, source), device)


def move(state: dict[str, Any], device: torch.device | str) -> dict[str, Any]:
    """Return a state with its tensors on a device."""
    result: dict[str, Any] = map_tensors(state, lambda tensor: tensor.to(device))
    return result


def write_data(content: Any, path: Path) -> None:
    """Write tensors and what holds them, and see it on the disk."""
    with open(path, "xb") as file:
        write_state(content, file)
        file.flush()
        os.fsync(file.fileno())


def read_data(file: BinaryIO, source: str) -> dict[str, Any]:
    """Read a dictionary of tensors and plain values as data only.

    Raises
    ------
    CheckpointError
        If it is damaged, or holds anything else.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch reports damage by many types
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"{source} cannot be read as data: {reason}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{source} is not a dictionary")
    return content


def _random_state() -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state
