# SPDX-License-Identifier: Apache-2.0
"""Training step: loss, backward pass, clipping and optimizer, eagerly or around a recording."""

import logging
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from operator import attrgetter, is_
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from physicsnemo.core.capture.compilation import Compilation
from physicsnemo.core.capture.many_tensors import ManyTensors
from physicsnemo.core.capture.optimizers import (
    LearningRates,
    OptimizerState,
    SettingsWatch,
    has_state,
    parameters,
    state_tensors,
    step_if_finite,
    why_outside,
)
from physicsnemo.core.capture.options import Options, Precision
from physicsnemo.core.capture.promotion import Promotion
from physicsnemo.core.capture.recomputation import RecomputedBlocks
from physicsnemo.core.capture.step_program import StepProgram, finished
from physicsnemo.core.pytree import detach

_MANY_CHANGES = 3
_gradient_of = attrgetter("grad")


class Gradients(NamedTuple):
    """Gradients of some moment.

    Attributes
    ----------
    parameters, values
        Parameters, and the gradient of each.
    """

    parameters: list[Tensor]
    values: list[Tensor | None]

    @classmethod
    def of(cls, parameters: list[Tensor]) -> "Gradients":
        """Return what parameters have now."""
        return cls(parameters, list(map(_gradient_of, parameters)))

    def are_attached(self) -> bool:
        """Return whether the parameters still have these very gradients."""
        return all(map(is_, map(_gradient_of, self.parameters), self.values))

    def attach(self) -> None:
        """Give them back to the parameters, which takes longer than to see that they are there."""
        if not self.are_attached():
            for parameter, gradient in zip(self.parameters, self.values, strict=True):
                parameter.grad = gradient


class GraphState(NamedTuple):
    """Graph state: which tensors the recording of a step reads and writes.

    Attributes
    ----------
    before, after
        The gradient of each parameter that the recording adds to, and that it leaves.
    optimizer_state
        What the recorded step of the optimizer reads and writes; None if there is none.
    buckets
        How often the buckets that processes exchange gradients in had been reset by then.
    """

    before: Gradients
    after: Gradients
    optimizer_state: OptimizerState | None
    buckets: int


class TrainingStep(StepProgram):
    """Training step: zero gradients, loss, backward pass, clipping, optimizer.

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
    options
        Clipping and accumulation.
    logger
        Where it is said why the optimizer stays outside a recording, or runs PyTorch's kernels.
    """

    needs_gradients = True

    def __init__(
        self,
        function: Compilation,
        *,
        model: nn.Module,
        wrapper: nn.Module,
        optimizer: Optimizer,
        scaler: torch.amp.GradScaler,
        precision: Precision,
        options: Options,
        logger: logging.Logger,
    ) -> None:
        self._function, self._model, self._wrapper = function, model, wrapper
        self._parallel = [m for m in wrapper.modules() if isinstance(m, DistributedDataParallel)]
        self._optimizer, self._scaler, self._precision = optimizer, scaler, precision
        self._clip, self._accumulation = options.gradient_clip_norm, options.accumulation_steps
        self._recomputed = RecomputedBlocks(model) if options.recompute else None
        self._logger = logger
        self._call = self._buckets = 0
        self._rates = LearningRates(optimizer)
        self._promotion = Promotion(optimizer, options.promote_optimizer, scaler)
        self._kernels = ManyTensors(logger)
        self._outside: str | None = None
        self._watch = SettingsWatch(optimizer)
        self._settings: Hashable = None
        self._changes = 0
        self._before = Gradients([], [])
        self._pinned: dict[Tensor, Tensor] = {}

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Make all of a step."""
        result = self._differentiate(args, kwargs)
        if self._is_last:
            self._descend()
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
        reason = self._promotion.why_not()
        if self._outside is None and reason is not None:
            self._leave_outside(reason)
        return self._outside is not None or has_state(self._optimizer)

    def prepare(self) -> None:
        """Make the tensors that learning rates are read from, and that gradients add up in."""
        self._promotion.place_counts()
        self._rates.prepare()
        if self._outside is None and self._is_last:  # where the optimizer's step is recorded
            self._kernels.prepare(self._optimizer, checked=self._scaler.is_enabled())
        if not self._is_first:
            self._pin()

    def record(self, *args: Any, **kwargs: Any) -> tuple[Any, GraphState]:
        """Make the part of a step that a recording can hold."""
        self._before = Gradients.of([] if self._is_first else self._parameters())
        result = self._differentiate(args, kwargs)
        gradients = Gradients.of(self._parameters())
        if self._outside is not None:
            return result, GraphState(self._before, gradients, None, self._buckets)
        tables: list[Tensor] = []
        if self._is_last:
            self._clip_gradients()
            with self._promotion.bound(), self._rates.bound(), self._kernels.active() as tables:
                # For most optimizers, ``scaler.step`` waits to know whether gradients overflowed,
                # which ends a stream capture: here the device decides.
                step_if_finite(self._optimizer, self._scaler)
            self._scaler.update()
        state = OptimizerState(self._optimizer, tables)
        return result, GraphState(self._before, gradients, state, self._buckets)

    def rollback(self) -> None:
        """Take back what ``record`` has changed in Python: gradients, and the scaler's notes.

        The gradients that it made have no values, since no kernel has run; those that it was to
        add to come back. Where recording failed halfway, the scaler would go on taking gradients
        for unscaled, and refuse to unscale those of the eager step that follows.
        """
        self._forget()
        self._before.attach()
        self._kernels.write()

    def may_replay(self, graph_state: GraphState) -> bool:
        """Return whether the same parameters have gradients to add to."""
        if not self._is_first:
            self._pin()
        return graph_state.before.are_attached()

    def is_outdated(self, graph_state: GraphState) -> bool:
        """Return whether the optimizer's state or the buckets for gradients were replaced.

        ``load_state_dict`` does the one, an error in the backward pass the other.
        """
        # By identity: equal values in other tensors would not be those that the kernels read.
        state = graph_state.optimizer_state
        return graph_state.buckets != self._buckets or not (
            state is None or (self._outside is None and state.is_there())
        )

    def refresh(self) -> None:
        """Bring learning rates up to date."""
        self._rates.refresh()

    def finish(self, graph_state: GraphState) -> None:
        """Attach the gradients, and make the part of the step that is not recorded."""
        # Another recording, or an eager call, may have put its own in their place.
        graph_state.after.attach()
        if not self._is_last:
            self._pin()
        elif self._outside is not None:
            self._descend()
        self._advance()

    def reset(self) -> None:
        """Begin anew after a call that failed: gradients of an unfinished accumulation are lost."""
        self._call, self._before = 0, Gradients([], [])
        self._forget()

    def written_tensors(self) -> list[Tensor]:
        """Return weights, buffers, sums of gradients, and the states of optimizer and scaler."""
        enabled = self._scaler.is_enabled()
        scaler = (self._scaler._scale, self._scaler._growth_tracker) if enabled else ()
        gradients = [] if self._is_first else [p.grad for p in self._parameters()]
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
        # At the start rather than the end, so that gradients can be read between calls.
        if self._is_first:
            self._drop_gradients()
        # A block that is computed again in the backward pass has to run the same code there.
        with self._synchronization(), self._function.active(), self._recomputation():
            with self._precision.context():
                result = finished(self._function(*args, **kwargs))
            loss = find_loss(result)
            if self._accumulation > 1:
                loss = loss / self._accumulation
            self._scaler.scale(loss).backward()
        return detach(result)

    def _synchronization(self) -> AbstractContextManager[Any]:
        """Let processes exchange gradients in the last call of an accumulation only."""
        wrappers = (part for part in self._wrapper.modules() if hasattr(part, "no_sync"))
        outermost = None if self._is_last else next(wrappers, None)
        if outermost is None:
            return nullcontext()
        no_sync = cast(Callable[[], AbstractContextManager[Any]], outermost.no_sync)
        return no_sync()

    def _recomputation(self) -> AbstractContextManager[None]:
        return nullcontext() if self._recomputed is None else self._recomputed.active()

    def _drop_gradients(self) -> None:
        # Dropped, not zeroed: so those of a recording live in the graph pool.
        self._model.zero_grad(set_to_none=True)
        self._optimizer.zero_grad(set_to_none=True)

    def _descend(self) -> None:
        self._clip_gradients()
        with self._promotion.of_step():
            self._scaler.step(self._optimizer)
        self._scaler.update()

    def _clip_gradients(self) -> None:
        if self._clip is not None:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(parameters(self._optimizer), self._clip)

    def _pin(self) -> None:
        """Move the sums of an unfinished accumulation to memory that all recordings add to.

        They have to outlast other replays, which may write over what this one left in the graph
        pool; and the recordings of an accumulation's other calls expect them at fixed addresses.
        """
        for parameter in self._parameters():
            gradient = parameter.grad
            if gradient is None or gradient is self._pinned.get(parameter):
                continue
            if parameter not in self._pinned:
                self._pinned[parameter] = torch.empty_like(gradient)
            parameter.grad = self._pinned[parameter].copy_(gradient)

    def _parameters(self) -> list[Tensor]:
        return list(dict.fromkeys([*self._model.parameters(), *parameters(self._optimizer)]))

    def _forget(self) -> None:
        """Drop gradients, and what scaler and wrappers note about a step that is not finished."""
        self._drop_gradients()
        if self._scaler.is_enabled():
            # In public, only ``update`` drops these notes, and changes the scale with them.
            self._scaler._per_optimizer_states.clear()
        for parallel in self._parallel:
            try:
                parallel._check_reducer_finalized()
            except RuntimeError:  # a backward pass was broken off, and would be waited for
                parallel.reducer._reset_state()
                # The buckets are allocated anew after that, and recordings write to the old ones.
                self._buckets += 1

    def _watch_settings(self) -> None:
        now = self._watch.read()
        if now is self._settings:
            return
        self._changes += self._settings is not None
        self._settings = now
        promoted = self._promotion.name
        self._promotion.choose()
        with self._promotion.bound():
            reason = why_outside(self._optimizer)
        if reason is not None:
            self._promotion.revoke()
        if self._changes >= _MANY_CHANGES:
            reason = "its settings, besides the learning rate, keep changing"
        if reason is not None:
            self._leave_outside(reason)
        elif self._promotion.name not in (None, promoted):
            self._logger.info(
                "%s makes its step with its %s implementation, which a CUDA graph can hold; "
                "promote_optimizer=False keeps its own",
                type(self._optimizer).__name__,
                self._promotion.name,
            )

    def _leave_outside(self, reason: str) -> None:
        self._outside = reason
        self._logger.warning("the optimizer's step stays outside the CUDA graph: %s", reason)


def find_loss(result: Any) -> Tensor:
    """Return the loss: the result, its attribute or item ``loss``, or else its first item.

    Raises
    ------
    ValueError
        If that is not one number with a gradient.
    """
    loss = result
    while not isinstance(loss, Tensor):
        if hasattr(loss, "loss"):
            loss = loss.loss
        elif isinstance(loss, dict) and "loss" in loss:
            loss = loss["loss"]
        elif isinstance(loss, tuple | list) and loss:
            loss = loss[0]
        else:
            break
    if isinstance(loss, Tensor) and loss.numel() == 1 and loss.requires_grad:
        return loss
    got = type(loss).__name__
    if isinstance(loss, Tensor):
        got = f"a tensor of shape {tuple(loss.shape)}, requires_grad={loss.requires_grad}"
    raise ValueError(
        f"a training step must return the loss, one number with gradient, alone, first in a tuple "
        f"or list, or called 'loss'; got {got}"
    )
