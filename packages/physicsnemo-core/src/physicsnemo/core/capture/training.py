# SPDX-License-Identifier: Apache-2.0
"""A training step, all of it or around a recording."""

import logging
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from operator import is_
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from physicsnemo.core.capture.loss import find_loss
from physicsnemo.core.capture.optimizers import (
    LearningRates,
    has_state,
    parameters,
    settings,
    state_objects,
    state_tensors,
    step_if_finite,
    why_outside,
)
from physicsnemo.core.capture.precision import Precision
from physicsnemo.core.capture.programs import Program, Step, finished
from physicsnemo.core.pytree import detach

Gradients = list[tuple[Tensor, Tensor | None]]

_MANY_CHANGES = 3


class Kept(NamedTuple):
    """What belongs to a recording of a step.

    Attributes
    ----------
    before, after
        The gradient of each parameter that the recording adds to, and that it leaves.
    optimizer_state
        What the recorded step of the optimizer reads and writes.
    buckets
        Which of the buckets that processes exchange gradients in, counted from the first.
    """

    before: Gradients
    after: Gradients
    optimizer_state: Sequence[Any]
    buckets: int


class Training(Program):
    """Zero gradients, loss, backward pass, clipping, optimizer.

    Parameters
    ----------
    function
        Returns the loss, alone or among other things.
    model
        The model inside wrappers.
    wrapper
        The model as the caller has it, which may be wrapped for data-parallel training.
    optimizer, scaler, precision
        What the step uses.
    clip
        Largest norm of the gradients of all parameters of the optimizer, None for no limit.
    accumulation
        Number of calls whose mean loss one step of the optimizer descends.
    logger
        Where it is said why the optimizer stays outside a recording.
    """

    needs_gradients = True

    def __init__(
        self,
        function: Step,
        model: nn.Module,
        wrapper: nn.Module,
        optimizer: Optimizer,
        scaler: torch.amp.GradScaler,
        precision: Precision,
        clip: float | None,
        accumulation: int,
        logger: logging.Logger,
    ) -> None:
        self._function, self._model, self._wrapper = function, model, wrapper
        self._parallel = [m for m in wrapper.modules() if isinstance(m, DistributedDataParallel)]
        self._optimizer, self._scaler, self._precision = optimizer, scaler, precision
        self._clip, self._accumulation, self._logger = clip, accumulation, logger
        self._call = self._buckets = 0
        self._rates = LearningRates(optimizer)
        self._outside: str | None = None
        self._settings: Hashable = None
        self._changes = 0
        self._before: Gradients = []
        self._pinned: dict[Tensor, Tensor] = {}

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Make all of a step."""
        result = self._differentiate(args, kwargs)
        if self._is_last:
            self._clip_gradients()
            self._scaler.step(self._optimizer)
            self._scaler.update()
        self._advance()
        return result

    def key(self) -> Hashable:
        """Return the place in an accumulation, and the optimizer's settings if recorded."""
        if self._outside is None:
            self._watch_settings()
        now = self._settings if self._outside is None else None
        return (self._is_first, self._is_last, now)

    def may_record(self) -> bool:
        """Return whether the optimizer has its state, which is made in its first step."""
        return self._outside is not None or has_state(self._optimizer)

    def prepare(self) -> None:
        """Make the tensors that learning rates are read from, and that gradients add up in."""
        self._rates.prepare()
        if not self._is_first:
            self._pin()

    def record(self, *args: Any, **kwargs: Any) -> tuple[Any, Kept]:
        """Make the part of a step that a recording can hold."""
        self._before = [] if self._is_first else self._gradients()
        result = self._differentiate(args, kwargs)
        gradients = self._gradients()
        if self._outside is not None:
            return result, Kept(self._before, gradients, (), self._buckets)
        if self._is_last:
            self._clip_gradients()
            with self._rates.bound():
                step_if_finite(self._optimizer, self._scaler)
            self._scaler.update()
        state = state_objects(self._optimizer)
        return result, Kept(self._before, gradients, state, self._buckets)

    def recover(self) -> None:
        """Take back what ``record`` has changed in Python: gradients, and the scaler's notes."""
        self._forget()
        _attach(self._before)

    def may_replay(self, kept: Kept) -> bool:
        """Return whether the same parameters have gradients to add to."""
        if not self._is_first:
            self._pin()
        return all(parameter.grad is gradient for parameter, gradient in kept.before)

    def is_outdated(self, kept: Kept) -> bool:
        """Return whether the optimizer's state was replaced, as by ``load_state_dict``."""
        state = () if self._outside is not None else state_objects(self._optimizer)
        return (
            kept.buckets != self._buckets
            or len(kept.optimizer_state) != len(state)
            or not all(map(is_, kept.optimizer_state, state))
        )

    def refresh(self) -> None:
        """Bring learning rates up to date."""
        self._rates.refresh()

    def finish(self, kept: Kept) -> None:
        """Show the gradients, and make the part of the step that is not recorded."""
        _attach(kept.after)
        if not self._is_last:
            self._pin()
        elif self._outside is not None:
            self._clip_gradients()
            self._scaler.step(self._optimizer)
            self._scaler.update()
        self._advance()

    def abandon(self) -> None:
        """Begin anew after a call that failed: gradients of an unfinished accumulation are lost."""
        self._call, self._before = 0, []
        self._forget()

    def state(self) -> list[Tensor]:
        """Return weights, buffers, sums of gradients, and the states of optimizer and scaler."""
        enabled = self._scaler.is_enabled()
        scaler = (self._scaler._scale, self._scaler._growth_tracker) if enabled else ()
        gradients = [] if self._is_first else [gradient for _, gradient in self._gradients()]
        return [
            *(tensor.detach() for tensor in (*self._parameters(), *self._model.buffers())),
            *state_tensors(self._optimizer),
            *(tensor for tensor in (*scaler, *gradients) if tensor is not None),
        ]

    @property
    def _is_first(self) -> bool:
        return self._call == 0

    @property
    def _is_last(self) -> bool:
        return self._call == self._accumulation - 1

    def _advance(self) -> None:
        self._call = (self._call + 1) % self._accumulation

    def _differentiate(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._is_first:
            self._drop_gradients()
        with self._synchronization():
            with self._precision.context():
                result = finished(self._function(*args, **kwargs))
            loss = find_loss(result)
            if self._accumulation > 1:
                loss = loss / self._accumulation
            self._scaler.scale(loss).backward()
        return detach(result)

    def _synchronization(self) -> AbstractContextManager[Any]:
        """Let processes exchange gradients in the last call of an accumulation only."""
        if self._is_last or not hasattr(self._wrapper, "no_sync"):
            return nullcontext()
        no_sync = cast(Callable[[], AbstractContextManager[Any]], self._wrapper.no_sync)
        return no_sync()

    def _drop_gradients(self) -> None:
        # Dropped, not zeroed: so those of a recording live in its own memory.
        self._model.zero_grad(set_to_none=True)
        self._optimizer.zero_grad(set_to_none=True)

    def _clip_gradients(self) -> None:
        if self._clip is not None:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(parameters(self._optimizer), self._clip)

    def _pin(self) -> None:
        """Move the sums of an unfinished accumulation to memory that all recordings add to.

        Other recordings may use the memory that a recording's own gradients lie in.
        """
        for parameter, gradient in self._gradients():
            if gradient is None or gradient is self._pinned.get(parameter):
                continue
            if parameter not in self._pinned:
                self._pinned[parameter] = torch.empty_like(gradient)
            parameter.grad = self._pinned[parameter].copy_(gradient)

    def _gradients(self) -> Gradients:
        return [(parameter, parameter.grad) for parameter in self._parameters()]

    def _parameters(self) -> list[Tensor]:
        return list(dict.fromkeys([*self._model.parameters(), *parameters(self._optimizer)]))

    def _forget(self) -> None:
        self._drop_gradients()
        if self._scaler.is_enabled():
            self._scaler._per_optimizer_states.clear()
        for parallel in self._parallel:
            try:
                parallel._check_reducer_finalized()
            except RuntimeError:  # a backward pass was broken off, and would be waited for
                parallel.reducer._reset_state()
                self._buckets += 1

    def _watch_settings(self) -> None:
        now = settings(self._optimizer)
        if now == self._settings:
            return
        self._changes += self._settings is not None
        self._settings = now
        self._outside = why_outside(self._optimizer)
        if self._changes >= _MANY_CHANGES:
            self._outside = "its settings, besides the learning rate, keep changing"
        if self._outside is not None:
            self._logger.warning(
                "the optimizer's step stays outside the CUDA graph: %s", self._outside
            )


def _attach(gradients: Gradients) -> None:
    for parameter, gradient in gradients:
        parameter.grad = gradient
