# SPDX-License-Identifier: Apache-2.0
"""Optimizers in a CUDA graph: which can be recorded, and what that takes."""

import inspect
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim import optimizer as shared

from physicsnemo.core.capture.dependency_scan import CONSTANT_TYPES
from physicsnemo.core.capture.identity import IdentityKey, equal

_BOUND = ("lr", "capturable")
"""Entries of a parameter group that a recording replaces by its own."""

_UNBOUND = dict.fromkeys(_BOUND)


def why_outside(optimizer: Optimizer) -> str | None:
    """Return why a CUDA graph cannot hold the step of an optimizer, None if it can."""
    name = type(optimizer).__name__
    if type(optimizer) not in (Adam, AdamW, SGD):
        return f"{name} is not known to run without the host"
    if not all(runs_on_device(optimizer, group) for group in optimizer.param_groups):
        return f"{name} reads its state on the host; make it with fused=True"
    if any(p.device.type != "cuda" for p in parameters(optimizer)):
        return f"{name} has parameters that are not on a CUDA device"
    if any(_hooks(optimizer)):
        return f"{name} has hooks, which a replay would not call"
    step = vars(optimizer).get("step")
    if step is not None and not hasattr(step, "_wrapped_by_lr_sched"):
        return f"the step method of {name} was replaced"
    return None


def check_optimizer(optimizer: Optimizer) -> None:
    """Check that an optimizer makes its step without a closure.

    Raises
    ------
    ValueError
        If not, as with LBFGS, which calls for the loss several times a step.
    """
    found = inspect.signature(type(optimizer).step).parameters.values()
    closures = [given for given in found if given.name == "closure"]
    if any(given.default is given.empty for given in closures):
        name = type(optimizer).__name__
        raise ValueError(
            f"{name} needs a closure that it calls for the loss several times a step, which a "
            f"captured step does not give it: use another optimizer, or call {name}.step(closure) "
            f"without a capture"
        )


def settings(optimizer: Optimizer) -> Hashable:
    """Return what a recording of the step bakes in: all but the learning rates and the state.

    The state is left to :class:`OptimizerState`: a recording whose settings are gone may be of use
    again, one whose state is gone may not.
    """
    groups = (
        (
            tuple(map(id, group["params"])),
            *((key, _hashable(group[key])) for key in _settings_in(group)),
        )
        for group in optimizer.param_groups
    )
    return (IdentityKey(vars(optimizer).get("step")), *map(len, _hooks(optimizer)), *groups)


def parameters(optimizer: Optimizer) -> list[Tensor]:
    """Return the parameters of all groups."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def state_tensors(optimizer: Optimizer) -> list[Tensor]:
    """Return the tensors of an optimizer's state."""
    values = chain.from_iterable(map(dict.values, optimizer.state.values()))
    return [value for value in values if isinstance(value, Tensor)]


class OptimizerState:
    """What the state of an optimizer consists of, to see by identity whether it was replaced.

    It equals another that consists of the same objects.

    Parameters
    ----------
    optimizer
        The optimizer.
    tables
        What kernels of a recorded step read besides, which has to live as long.
    """

    def __init__(self, optimizer: Optimizer, tables: Sequence[Tensor] = ()) -> None:
        self._optimizer, self._tables = optimizer, tables
        self._states = list(map(dict, optimizer.state.values()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OptimizerState) and equal(self._states, other._states)

    def is_there(self) -> bool:
        """Return whether it is there still; that of other parameters may have come after."""
        states = self._optimizer.state.values()
        return equal(self._states, list(islice(states, len(self._states))))


def has_state(optimizer: Optimizer) -> bool:
    """Return whether all state exists that a step needs: a recording would make it anew each time.

    A gradient scaler that skips the first steps leaves Adam without.
    """
    needed = "momentum_buffer" if isinstance(optimizer, SGD) else "step"
    return all(
        optimizer.state.get(parameter, {}).get(needed) is not None
        for group in optimizer.param_groups
        if not isinstance(optimizer, SGD) or group["momentum"]
        for parameter in group["params"]
        if parameter.grad is not None
    )


class SettingsWatch:
    """Settings of an optimizer, worked out anew only where a glance finds another object.

    Parameters
    ----------
    optimizer
        The optimizer.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._settings: Hashable = None
        self._seen: list[Any] | None = None

    def read(self) -> Hashable:
        """Return :func:`settings`, the same object as long as they are equal."""
        if self._seen is None or not equal(self._seen, self._glance()):
            now = settings(self._optimizer)
            if now != self._settings:
                self._settings = now
            self._seen = self._copy()
        return self._settings

    def _glance(self) -> list[Any]:
        groups = [group | _UNBOUND for group in self._optimizer.param_groups]
        return [groups, vars(self._optimizer).get("step"), *map(len, _hooks(self._optimizer))]

    def _copy(self) -> list[Any] | None:
        """Return a glance to compare others with, None if it does not show all that may change."""
        groups, *rest = self._glance()
        if not all(_is_constant(group[key]) for group in groups for key in _settings_in(group)):
            return None
        return [[group | {"params": list(group["params"])} for group in groups], *rest]


class LearningRates:
    """Learning rates as tensors, one for each parameter group, which recordings read.

    A number would be baked in. The tensors follow the groups' ``lr``, so schedules may assign
    numbers as always.

    Parameters
    ----------
    optimizer
        The optimizer.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._rates: list[Tensor] = []
        self._values: list[Any] = []

    def prepare(self) -> None:
        """Make a tensor for each group that has none yet."""
        for group in self._optimizer.param_groups[len(self._rates) :]:
            device = group["params"][0].device if group["params"] else None
            self._rates.append(torch.zeros((), dtype=torch.float32, device=device))
            self._values.append(None)

    def refresh(self) -> None:
        """Write the groups' learning rates into the tensors, where they have changed."""
        for index, group in enumerate(self._optimizer.param_groups[: len(self._rates)]):
            rate = group["lr"]
            if isinstance(rate, Tensor):  # comparing its value would wait for the device
                self._rates[index].copy_(rate.detach(), non_blocking=True)
                self._values[index] = None
            elif rate != self._values[index]:
                self._rates[index].fill_(rate)
                self._values[index] = rate

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Let the optimizer read these tensors, and allow its step to be recorded."""
        groups = self._optimizer.param_groups
        before = [{key: group[key] for key in _BOUND if key in group} for group in groups]
        recording = torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
        try:
            for group, rate in zip(groups, self._rates, strict=True):
                group["lr"] = rate
                # Which PyTorch demands of a step in a stream capture, fused ones included.
                if recording and "capturable" in group:
                    group["capturable"] = True
            yield
        finally:
            for group, own in zip(groups, before, strict=True):
                group.update(own)


def step_if_finite(optimizer: Optimizer, scaler: torch.amp.GradScaler) -> None:
    """Advance an optimizer unless gradients overflowed, which the host does not come to know.

    Fused optimizers can skip a step by themselves; for others, what the step has changed is
    turned back by kernels, so that one recording holds both outcomes.
    """
    if not scaler.is_enabled() or getattr(optimizer, "_step_supports_amp_scaling", False):
        scaler.step(optimizer)
        return
    # As ``scaler.step`` does, but for its last question, which waits for the device. Gradients that
    # were clipped are unscaled already.
    if scaler._per_optimizer_states[id(optimizer)]["stage"].name == "READY":
        scaler.unscale_(optimizer)
    found = scaler._per_optimizer_states[id(optimizer)]["found_inf_per_device"].values()
    overflowed = torch.stack([value.reshape(()) for value in found]).amax() > 0
    changed = [*(p.detach() for p in parameters(optimizer)), *state_tensors(optimizer)]
    before = [tensor.clone() for tensor in changed]
    optimizer.step()
    with torch.no_grad():
        for tensor, old in zip(changed, before, strict=True):
            # Into the same tensors: a recording reads and writes fixed addresses.
            torch.where(overflowed, old, tensor, out=tensor)


def runs_on_device(optimizer: Optimizer, group: dict[str, Any]) -> bool:
    """Return whether the implementation that a parameter group asks for needs no host."""
    if group.get("differentiable"):
        return False
    # Other implementations count steps on the host, and the count would be baked in. Plain SGD
    # counts none, but takes its learning rate as a number.
    return bool(group.get("fused") or (not isinstance(optimizer, SGD) and group["capturable"]))


def _settings_in(group: dict[str, Any]) -> list[str]:
    return [key for key in group if key not in ("params", *_BOUND)]


def _hashable(value: Any) -> Hashable:
    if isinstance(value, Tensor):
        return id(value)
    return tuple(map(_hashable, value)) if isinstance(value, tuple | list) else value


def _is_constant(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_constant, value))
    return isinstance(value, CONSTANT_TYPES)


def _hooks(optimizer: Optimizer) -> tuple[dict[int, Any], ...]:
    return (
        *(optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks),
        *(shared._global_optimizer_pre_hooks, shared._global_optimizer_post_hooks),
    )
