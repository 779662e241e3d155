# SPDX-License-Identifier: Apache-2.0
"""Gradient scalers by label, so that their states can be saved and restored together."""

import itertools
import logging
import weakref
from typing import Any

import torch

from physicsnemo.core.rebuild.rollback import undone_on_failure

State = dict[str, dict[str, Any]]


class ScalerStore:
    """The living gradient scalers of a process, and states loaded before their scaler exists."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all scalers and states."""
        self._scalers: weakref.WeakValueDictionary[str, torch.amp.GradScaler] = (
            weakref.WeakValueDictionary()
        )
        self._waiting: State = {}
        self._numbers = itertools.count()

    def add(self, scaler: torch.amp.GradScaler, label: str | None, logger: logging.Logger) -> str:
        """Register a scaler, restore the state that waits for it, and return its label."""
        label = f"scaler_{next(self._numbers)}" if label is None else label
        if label in self._scalers:
            logger.warning("the gradient scaler %r takes the place of an older one", label)
        self._scalers[label] = scaler
        if label in self._waiting:
            _load(scaler, self._waiting.pop(label), label)
        return label

    def state_dict(self) -> State:
        """Return the state of each living scaler by its label."""
        return {label: scaler.state_dict() for label, scaler in sorted(self._scalers.items())}

    def load_state_dict(self, state: State) -> None:
        """Restore scalers by label; a state without a scaler waits for one of that label."""
        living = {label: self._scalers[label] for label in state if label in self._scalers}
        with undone_on_failure(holders=living.values()):
            for label, scaler in living.items():
                _load(scaler, state[label], label)
        waiting = {label: own for label, own in state.items() if label not in living}
        self._waiting = {**self._waiting, **waiting}


def _load(scaler: torch.amp.GradScaler, state: dict[str, Any], label: str) -> None:
    try:
        scaler.load_state_dict(state)
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"the state of the gradient scaler {label!r} is not valid: {error}"
        ) from error
