# SPDX-License-Identifier: Apache-2.0
"""What a training consists of besides its models: optimizer, schedules, scalers, random numbers."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from physicsnemo.core.base import class_of
from physicsnemo.core.capture.decorator import SCALERS
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.format.container import Checkpoint, write_checkpoint
from physicsnemo.core.format.sharded import is_sharded, is_sharded_model, placed_like
from physicsnemo.core.format.tensors import write_state
from physicsnemo.core.pytree import map_tensors
from physicsnemo.core.ranks import Accord, Ranks
from physicsnemo.core.rebuild.contents import contents, state_of
from physicsnemo.core.rebuild.weights import check_weights, moved
from physicsnemo.core.training.random_numbers import (
    check_random_state,
    random_state,
    set_random_state,
)
from physicsnemo.core.training.serializable import check_data
from physicsnemo.models.module import Module

# The first five are those of the reference implementation, which ignores the last.
OPTIMIZER, SCHEDULER, SCALER = "optimizer_state_dict", "scheduler_state_dict", "scaler_state_dict"
CAPTURES, METADATA, RANDOM = "static_capture_state_dict", "metadata", "random_state"
RANDOM_BY_RANK = "random_state_by_rank"  # of processes that share their files

Stateful = Mapping[str, Any]  # objects with a state_dict, by the key of their state


def collect(
    stateful: Stateful, epoch: int, metadata: dict[str, Any], accord: Accord
) -> dict[str, Any]:
    """Return the state of a training, of all processes if they share it.

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
    if metadata:
        state[METADATA] = metadata
    if accord.together:
        state[RANDOM_BY_RANK] = accord.gather(random_state())
    return state | {"epoch": epoch, RANDOM: random_state()}


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
        check_random_state(state.get(RANDOM, {}))
    except Exception as error:  # each generator has its own ways to refuse
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


def restore_random(state: dict[str, Any], ranks: Ranks, rank: int) -> None:
    """Let random numbers go on where they were; those of a GPU where there is one.

    Parameters
    ----------
    state
        The state of the training.
    ranks, rank
        The processes that load it, and whose it is.
    """
    own = ranks.own(state.get(RANDOM_BY_RANK, []))
    if own is None and not ranks.owns(rank):
        return
    set_random_state(state.get(RANDOM, {}) if own is None else own)


def model_state(model: torch.nn.Module) -> dict[str, Any]:
    """Return a model's state dict as :func:`write_model` takes it.

    Raises
    ------
    TypeError
        If a file cannot hold it.
    """
    if isinstance(model, Module):
        return state_of(model)
    state: dict[str, Any] = model.state_dict()
    check_data(dict(state), f"the state of {class_of(model).__name__}")
    return state


def write_model(model: torch.nn.Module, state: Any, path: Path) -> None:
    """Write a model as a ``.mdlus`` file, or a plain one's weights as PyTorch does."""
    if isinstance(model, Module):
        write_checkpoint(path, state, *contents(model))
    else:
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
        state: dict[str, Any] = Checkpoint(file, source).state_dict(is_sharded_model(model))
    else:
        state = read_data(file, source, is_sharded_model(model))
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


def placed_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Return an optimizer's state with tensors sharded as the parameters that they belong to."""
    parameters = [it for group in optimizer.param_groups for it in group["params"]]
    if not any(map(is_sharded, parameters)) or not isinstance(state.get("state"), dict):
        return state

    def placed(place: Any, value: Any) -> Any:
        own = parameters[place] if place in range(len(parameters)) else None
        if not is_sharded(own) or not isinstance(value, torch.Tensor) or is_sharded(value):
            return value
        return placed_like(own, value) if value.shape == own.shape else value

    return state | {
        "state": {
            place: {key: placed(place, value) for key, value in values.items()}
            for place, values in state["state"].items()
        }
    }


def read_data(file: BinaryIO, source: str, mmap: bool = False) -> dict[str, Any]:
    """Read a dictionary of tensors and plain values as data only.

    Parameters
    ----------
    file
        The open file.
    source
        What to call it in error texts.
    mmap
        Whether tensors may be maps of the file, for those who need but parts of them.

    Raises
    ------
    CheckpointError
        If it is damaged, or holds anything else.
    """
    try:
        opened = f"/proc/self/fd/{file.fileno()}" if mmap else ""  # nobody can replace that
        if os.path.exists(opened):
            content = torch.load(opened, map_location="cpu", weights_only=True, mmap=True)
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch reports damage by many types
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"{source} cannot be read as data: {reason}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{source} is not a dictionary")
    return content
