# SPDX-License-Identifier: Apache-2.0
"""What the decorators for training and evaluation steps share."""

import functools
import logging
from itertools import chain
from typing import Any, ClassVar, Protocol, cast

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from physicsnemo.core.base import device_of, metadata_of
from physicsnemo.core.capture.guards import Guards
from physicsnemo.core.capture.optimizers import check_optimizer
from physicsnemo.core.capture.precision import choose_precision
from physicsnemo.core.capture.programs import Program, Step, check_step
from physicsnemo.core.capture.recorder import Recorder
from physicsnemo.core.capture.scalers import ScalerStore, State
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module

_VERIFIED_REPLAYS = 3
_SHARDING = "torch.distributed.fsdp"


class CapturedStep(Protocol):
    """What the decorators make of a function."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Make a step."""

    def replays(self) -> int:
        """Return the number of calls so far that replayed a CUDA graph."""


class StaticCapture:
    """What both decorators share: the model, the precision, and the choice to use graphs."""

    _scalers: ClassVar[ScalerStore] = ScalerStore()

    def __init__(
        self,
        model: torch.nn.Module,
        optim: torch.optim.Optimizer | None = None,
        logger: logging.Logger | None = None,
        use_graphs: bool = True,
        use_autocast: bool = True,
        use_gradscaler: bool = True,
        compile: bool = False,
        cuda_graph_warmup: int = 11,
        amp_type: torch.dtype = torch.float16,
        gradient_clip_norm: float | None = None,
        label: str | None = None,
        accumulation_steps: int = 1,
        verify: bool | int = False,
    ) -> None:
        _check_number("accumulation_steps", accumulation_steps, 1)
        _check_number("cuda_graph_warmup", cuda_graph_warmup, 0)
        if not verify >= 0:
            raise ValueError(f"verify must be a number of replays from 0 on, got {verify}")
        if gradient_clip_norm is not None and not gradient_clip_norm > 0:
            raise ValueError(
                f"gradient_clip_norm must be a positive number, or None for no limit, got "
                f"{gradient_clip_norm}"
            )
        if optim is not None:
            check_optimizer(optim)
        self.logger = logger or logging.getLogger("capture")
        self.wrapper, self.model, self.optim = model, _unwrap(model), optim
        self.compile, self.cuda_graph_warmup = compile, cuda_graph_warmup
        self.gradient_clip_norm, self.accumulation_steps = gradient_clip_norm, accumulation_steps
        self.verify = _VERIFIED_REPLAYS if verify is True else int(verify)
        meta, device = metadata_of(self.model) or ModelMetaData(), device_of(self.model)
        self.use_graphs = use_graphs and device.type == "cuda"
        reason = _why_no_graphs(self.wrapper, self.model, meta)
        if self.use_graphs and reason is not None:
            self.logger.warning("CUDA graphs are off: %s", reason)
            self.use_graphs = False
        self.precision = choose_precision(
            meta, device, use_autocast, use_gradscaler, amp_type, self.logger
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision.scale)
        self.label = label if optim is None else self._scalers.add(self.scaler, label, self.logger)

    def __call__(self, fn: Step) -> CapturedStep:
        """Decorate a step function.

        Raises
        ------
        TypeError
            If it is a generator or coroutine function, whose code runs after the call.
        """
        check_step(fn)
        program = self._program(torch.compile(fn) if self.compile else fn)
        recorder = self._recorder(program, fn) if self.use_graphs else None
        run = program.run if recorder is None else recorder

        @functools.wraps(fn)
        def step(*args: Any, **kwargs: Any) -> Any:
            try:
                return run(*args, **kwargs)
            except BaseException:
                program.abandon()
                raise

        captured = cast(CapturedStep, step)
        captured.replays = lambda: 0 if recorder is None else recorder.replays  # type: ignore[method-assign]
        return captured

    def _program(self, fn: Step) -> Program:
        raise NotImplementedError

    def _recorder(self, program: Program, fn: Step) -> Recorder:
        return Recorder(
            program,
            Guards(fn, self.model),
            device_of(self.model),
            self.cuda_graph_warmup,
            self.verify,
            self.logger,
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


def _check_number(name: str, value: float, least: int) -> None:
    if not value >= least or value % 1:
        raise ValueError(f"{name} must be a whole number from {least} on, got {value}")


def _unwrap(model: torch.nn.Module) -> Module:
    inner = model
    while not isinstance(inner, Module):
        parts = inner._modules
        wrapped = parts.get("module", parts.get("_orig_mod"))
        if wrapped is None:
            raise ValueError(
                f"Model not a PhysicsNeMo Module! Got {type(model).__name__}; subclass "
                f"physicsnemo.Module, or convert the class with physicsnemo.Module.from_torch"
            )
        inner = wrapped
    return inner


def _why_no_graphs(wrapper: torch.nn.Module, model: Module, meta: ModelMetaData) -> str | None:
    if not meta.cuda_graphs:
        return f"the metadata of {meta.name} does not set cuda_graphs"
    sharding = (type(part).__module__.startswith(_SHARDING) for part in wrapper.modules())
    if any(sharding) or any(map(is_traceable_wrapper_subclass, model.parameters())):
        return f"the parameters of {meta.name} are sharded or quantized"
    devices = {str(tensor.device) for tensor in chain(model.parameters(), model.buffers())}
    if len(devices) > 1:
        return f"the parameters and buffers of {meta.name} are on {', '.join(sorted(devices))}"
    return None
