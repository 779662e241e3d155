# SPDX-License-Identifier: Apache-2.0
"""Base of the decorators for training and evaluation steps, and their gradient scalers."""

import functools
import itertools
import logging
import weakref
from collections.abc import Callable
from itertools import chain
from typing import Any, ClassVar, ParamSpec, Protocol, TypeVar, cast

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass as _is_wrapped

from physicsnemo.core.base import class_of, device_of, metadata_of, unwrap
from physicsnemo.core.capture.compilation import Compilation, StepFunction
from physicsnemo.core.capture.fully_sharded import ShardedUnits, own_part
from physicsnemo.core.capture.guards import Guards
from physicsnemo.core.capture.optimizers import check_optimizer
from physicsnemo.core.capture.options import Options, choose_precision
from physicsnemo.core.capture.recorder import Recorder
from physicsnemo.core.capture.step_program import StepProgram, check_step
from physicsnemo.core.rebuild.rollback import rollback_on_failure
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module

State = dict[str, dict[str, Any]]
"""States of gradient scalers by label."""

_SHARDING = "torch.distributed.fsdp"


Parameters = ParamSpec("Parameters")
Result_co = TypeVar("Result_co", covariant=True)


class CapturedStep(Protocol[Parameters, Result_co]):
    """Captured step: what the decorators make of a function."""

    def __call__(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result_co:
        """Make a step."""

    def replays(self) -> int:
        """Return the number of calls so far that replayed a CUDA graph."""


class ScalerStore:
    """Gradient scalers of a process that are alive, and states loaded before their scaler."""

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
        with rollback_on_failure(stateful=living.values()):
            for label, scaler in living.items():
                _load(scaler, state[label], label)
        waiting = {label: own for label, own in state.items() if label not in living}
        self._waiting = {**self._waiting, **waiting}


SCALERS = ScalerStore()
"""The gradient scalers of all captured steps."""


class StaticCapture:
    """Base of both decorators: the model, the precision, and the choice to use CUDA graphs.

    Parameters
    ----------
    model
        A :class:`physicsnemo.Module`, or a wrapper around one.
    optim
        Its optimizer, None for an evaluation.
    logger
        Where decisions are logged, by default the logger ``physicsnemo.capture``.
    label
        Name of the gradient scaler's state.
    options
        What the step is asked to do.

    Attributes
    ----------
    wrapper, model
        The model as it was given, and the :class:`physicsnemo.Module` in it.
    use_graphs
        Whether functions to be decorated will be recorded: on a GPU, if the model allows it.
    precision, scaler
        Autocast settings, and the gradient scaler, which may be switched off.
    """

    _scalers: ClassVar[ScalerStore] = SCALERS

    def __init__(
        self,
        model: torch.nn.Module,
        optim: torch.optim.Optimizer | None,
        *,
        logger: logging.Logger | None,
        label: str | None,
        options: Options,
    ) -> None:
        if optim is not None:
            check_optimizer(optim)
        self.logger = logger or logging.getLogger("physicsnemo.capture")
        self.wrapper, self.model, self.optim = model, _module_in(model), optim
        self.options, self._units = options, ShardedUnits(model)
        meta, device = metadata_of(self.model) or ModelMetaData(), device_of(self.model)
        self.use_graphs = options.use_graphs and device.type == "cuda"
        reason = _why_no_graphs(self.wrapper, self.model, meta)
        if self.use_graphs and reason is not None:
            self.logger.warning("CUDA graphs are off: %s", reason)
            self.use_graphs = False
        self.precision = choose_precision(
            options, meta, device, trains=optim is not None, logger=self.logger
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision.scale)
        self.label = label if optim is None else self._scalers.add(self.scaler, label, self.logger)

    def __call__(self, fn: Callable[Parameters, Result_co]) -> CapturedStep[Parameters, Result_co]:
        """Decorate a step function.

        Raises
        ------
        TypeError
            If it is a generator or coroutine function, whose code runs after the call.
        """
        check_step(fn)
        compilation = Compilation(
            fn,
            self.model,
            self.options.compile,
            # Of a sharded model, fully_shard compiles the units where it is asked to.
            captured=self.use_graphs and not self._units,
            logger=self.logger,
        )
        program = self._program(compilation)
        recorder = self._recorder(program, fn) if self.use_graphs else None
        run = program.run if recorder is None else recorder

        @functools.wraps(fn)
        def step(*args: Any, **kwargs: Any) -> Any:
            try:
                return run(*args, **kwargs)
            except BaseException as error:
                program.reset()
                self._units.reset()
                if not compilation.give_up(error):
                    raise
            return step(*args, **kwargs)

        captured = cast(CapturedStep[Parameters, Result_co], step)
        captured.replays = lambda: 0 if recorder is None else recorder.replays  # type: ignore[method-assign]
        return captured

    def _program(self, function: Compilation) -> StepProgram:
        raise NotImplementedError

    def _recorder(self, program: StepProgram, fn: StepFunction) -> Recorder:
        # Of the function itself: what torch.compile makes of it is code of Dynamo's.
        return Recorder(
            program,
            Guards(fn, self.model),
            units=self._units,
            device=device_of(self.model),
            options=self.options,
            logger=self.logger,
        )

    @classmethod
    def state_dict(cls) -> State:
        """Return the states of the gradient scalers of all captures, by their labels."""
        return cls._scalers.state_dict()

    @classmethod
    def load_state_dict(cls, state_dict: State) -> None:
        """Restore gradient scalers by label, those of captures yet to be made included.

        Raises
        ------
        ValueError
            If a state does not fit its scaler.
        """
        cls._scalers.load_state_dict(state_dict)

    @classmethod
    def reset_state(cls) -> None:
        """Forget all gradient scalers and loaded states."""
        cls._scalers.clear()


def _load(scaler: torch.amp.GradScaler, state: dict[str, Any], label: str) -> None:
    try:
        scaler.load_state_dict(state)
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"the state of the gradient scaler {label!r} is not valid: {error}"
        ) from error


def _module_in(model: torch.nn.Module) -> Module:
    inner = unwrap(model)
    while not isinstance(inner, Module):  # a wrapper of another library
        wrapped = inner._modules.get("module")
        if wrapped is None:
            raise ValueError(
                f"Model not a PhysicsNeMo Module! Got {type(model).__name__}; subclass "
                f"physicsnemo.Module, or convert the class with physicsnemo.Module.from_torch"
            )
        inner = unwrap(wrapped)
    return inner


def _why_no_graphs(wrapper: torch.nn.Module, model: Module, meta: ModelMetaData) -> str | None:
    if not meta.cuda_graphs:
        return f"the metadata of {meta.name} does not set cuda_graphs"
    # The first FSDP gathers parameters into memory where a graph would not look for them, unlike
    # fully_shard, which leaves the model's class among those of its own.
    sharding = (class_of(part).__module__.startswith(_SHARDING) for part in wrapper.modules())
    if any(sharding) or any(_is_wrapped(own_part(it)) for it in model.parameters()):
        return (
            f"the parameters of {meta.name} are sharded or quantized, in another way than by "
            f"fully_shard"
        )
    devices = {str(tensor.device) for tensor in chain(model.parameters(), model.buffers())}
    if len(devices) > 1:
        return f"the parameters and buffers of {meta.name} are on {', '.join(sorted(devices))}"
    return None
