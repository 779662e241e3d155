# SPDX-License-Identifier: Apache-2.0
"""Promotion: an ordinary optimizer makes its step with an implementation that a graph can hold.

PyTorch's default implementations of Adam and AdamW count steps on the host, and that of SGD takes
its learning rate from there. The fused ones do the same arithmetic on the device, skip a step there
when gradients overflowed, and keep the same state but for where the counts lie. Others that a graph
can hold do not skip a step: with a gradient scaler, each of their tensors would have to be kept and
restored, by more kernels than a small model has.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from physicsnemo.core.capture.optimizers import has_state, parameters, runs_on_device

# ``foreach`` is switched off since SGD would prefer it.
_FUSED = {"fused": True, "foreach": False}
# Fused ones take no complex parameters.
_CAPTURABLE = {"capturable": True}


class Promotion:
    """Promotion of an optimizer, in force only while it makes a step.

    Parameter groups are then as the caller set them at any other time, and a step that is made
    outside a captured one works as well: counts that lie on the device are read from there.

    Parameters
    ----------
    optimizer
        The optimizer.
    allowed
        Whether it may be promoted.
    scaler
        The gradient scaler that says which steps to skip, if there is one.
    """

    def __init__(
        self, optimizer: Optimizer, allowed: bool, scaler: torch.amp.GradScaler | None = None
    ) -> None:
        self._optimizer, self._allowed = optimizer, allowed
        self._skips = scaler is not None and scaler.is_enabled()
        self.name: str | None = None

    def choose(self) -> None:
        """Choose an implementation, ``name``, for the settings that the optimizer has now."""
        self.name = _implementation(self._optimizer, self._groups()) if self._allowed else None

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Let the optimizer take the implementation that was chosen."""
        if self.name is None:
            yield
            return
        entries = _FUSED if self.name == "fused" else _CAPTURABLE
        groups = self._groups()
        before = [{key: group[key] for key in entries} for group in groups]
        own = vars(self._optimizer)
        # What the constructor notes about the implementation.
        notes = {"_step_supports_amp_scaling": self.name == "fused"}
        notes["_warned_capturable_if_run_uncaptured"] = True
        noted = {key: own[key] for key in notes if key in own}
        try:
            own.update(notes)
            for group in groups:
                group.update(entries)
            yield
        finally:
            for group, entry in zip(groups, before, strict=True):
                group.update(entry)
            for key in notes:
                own.pop(key)
            own.update(noted)

    @contextmanager
    def of_step(self) -> Iterator[None]:
        """Let the optimizer make a step with it, unless its own has state to make first.

        Implementations make the same state, but the fused one of SGD leaves momenta undefined if
        gradients overflowed in the very first step.
        """
        if self.name is None:
            yield
        elif has_state(self._optimizer) and self.why_not() is None:
            self.place_counts()
            with self.bound():
                yield
        else:
            # Where only state is missing, those that recordings read stay where they lie.
            if has_state(self._optimizer):
                _place_counts(self._optimizer, on_host=True)
            yield

    def why_not(self) -> str | None:
        """Return why gradients or state do not suit the implementation, None if they do."""
        for parameter in parameters(self._optimizer):
            if self.name is None or parameter.grad is None:
                continue
            if parameter.grad.layout is not torch.strided:
                return "its gradients are sparse"
            state = self._optimizer.state.get(parameter, {}).values()
            for tensor in (parameter.grad, *(it for it in state if isinstance(it, Tensor))):
                if self.name == "fused" and not are_aligned(parameter, tensor):
                    return "its gradients or its state lie in memory unlike its parameters"
        return None

    def place_counts(self) -> None:
        """Move the counts of steps to the device, from where a state dict brings them back."""
        if self.name is None:
            return
        _place_counts(self._optimizer, on_host=False)
        hooks = self._optimizer._optimizer_state_dict_post_hooks
        if _counts_on_host not in hooks.values():
            self._optimizer.register_state_dict_post_hook(_counts_on_host)

    def _groups(self) -> list[dict[str, Any]]:
        """Return the parameter groups for which another implementation is wanted."""
        return [
            group
            for group in self._optimizer.param_groups
            if not runs_on_device(self._optimizer, group)
            or (self._skips and not group.get("fused"))
        ]

    def revoke(self) -> None:
        """Go back to the optimizer's own implementation."""
        if self.name is not None:
            self.name = None
            _place_counts(self._optimizer, on_host=True)


def _implementation(optimizer: Optimizer, groups: list[dict[str, Any]]) -> str | None:
    if type(optimizer) not in (Adam, AdamW, SGD):
        return None
    # Who asks for another implementation than the default gets it.
    asked = any(group["differentiable"] or group["fused"] is False for group in groups)
    if not groups or asked:
        return None
    if all(p.is_floating_point() for group in groups for p in group["params"]):
        return "fused"
    on_host = not all(runs_on_device(optimizer, group) for group in groups)
    return "capturable" if on_host and isinstance(optimizer, Adam) else None


def are_aligned(parameter: Tensor, tensor: Tensor) -> bool:
    """Return whether a kernel may go through both by one index; counts of steps lie elsewhere."""
    strides = zip(parameter.shape, parameter.stride(), tensor.stride(), strict=False)
    return tensor.ndim == 0 or (
        parameter.dtype == tensor.dtype and all(n == 1 or one == two for n, one, two in strides)
    )


def _place_counts(optimizer: Optimizer, *, on_host: bool) -> None:
    for group in optimizer.param_groups:
        if runs_on_device(optimizer, group):
            continue
        for parameter in group["params"]:
            state = optimizer.state.get(parameter, {})
            count = state.get("step")
            device = torch.device("cpu") if on_host else parameter.device
            if isinstance(count, Tensor) and count.device != device:
                state["step"] = count.to(device, torch.float32)


def _counts_on_host(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    """Let a state dict be one of the optimizer as the caller made it."""
    groups = [g for g in state_dict["param_groups"] if not runs_on_device(optimizer, g)]
    numbers = set(chain.from_iterable(group["params"] for group in groups))
    moved = {
        number: state | {"step": state["step"].to("cpu", copy=True)}
        for number, state in state_dict["state"].items()
        if number in numbers and isinstance(state.get("step"), Tensor)
    }
    return state_dict | {"state": state_dict["state"] | moved}
