# SPDX-License-Identifier: Apache-2.0
"""Weights of a file put into a model."""

from collections.abc import Iterable
from typing import Any

import torch

from physicsnemo.core.errors import CheckpointError

_SHOWN = 10


def load_weights(
    model: torch.nn.Module, state: dict[str, torch.Tensor], strict: bool, source: str
) -> None:
    """Copy a state dict into a model.

    Raises
    ------
    CheckpointError
        If a tensor has another shape than the model's or, when ``strict``, if tensors are missing
        or unexpected. Shapes are compared before anything is copied.
    """
    own = model.state_dict()
    unequal = [
        f"{key} {tuple(state[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own.keys() & state.keys()
        if state[key].shape != own[key].shape
    ]
    if unequal:
        raise CheckpointError(_report(model, source, {"of another shape": sorted(unequal)}))
    missing, unexpected = model.load_state_dict(state, strict=False)
    if strict and (missing or unexpected):
        problems = {"missing": missing, "unexpected": unexpected}
        raise CheckpointError(_report(model, source, problems))


def forgive_device_buffer(module: torch.nn.Module, incompatible: Any) -> None:
    """Leave the empty ``device_buffer``, which some writers leave out, off the lists of keys.

    A hook for ``register_load_state_dict_post_hook``.
    """
    for keys in (incompatible.missing_keys, incompatible.unexpected_keys):
        keys[:] = [key for key in keys if key.rpartition(".")[2] != "device_buffer"]


def _report(model: torch.nn.Module, source: str, problems: dict[str, Iterable[str]]) -> str:
    parts = []
    for what, keys in problems.items():
        if keys := list(keys):
            more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
            parts.append(f"{len(keys)} {what}: {', '.join(keys[:_SHOWN])}{more}")
    return f"the weights in {source} are not those of {type(model).__name__}: {'; '.join(parts)}"
