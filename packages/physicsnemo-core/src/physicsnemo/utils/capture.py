# SPDX-License-Identifier: Apache-2.0
"""Decorators that run a training or evaluation step with AMP, CUDA graphs and compilation."""

import functools
import logging
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch.utils import _pytree as pytree

from physicsnemo.core.graphs import GraphedCall
from physicsnemo.core.precision import choose_precision
from physicsnemo.core.scalers import ScalerStore, State
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module

__all__ = ["StaticCaptureEvaluateNoGrad", "StaticCaptureTraining"]

Step = Callable[..., Any]


class _StaticCapture:
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
    ) -> None:
        self.logger = logger or logging.getLogger("capture")
        self.model, self.optim = _unwrap(model), optim
        self.compile, self.cuda_graph_warmup = compile, cuda_graph_warmup
        self.gradient_clip_norm = gradient_clip_norm
        meta, device = self.model.meta or ModelMetaData(), self.model.device
        self.use_graphs = use_graphs and device.type == "cuda"
        if self.use_graphs and not meta.cuda_graphs:
            self.logger.warning(
                "CUDA graphs are off: the metadata of %s does not set cuda_graphs", meta.name
            )
            self.use_graphs = False
        self.precision = choose_precision(
            meta, device, use_autocast, use_gradscaler, amp_type, self.logger
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision.scale)
        self.label = label if optim is None else self._scalers.add(self.scaler, label, self.logger)

    def __call__(self, fn: Step) -> Step:
        """Decorate a step function."""
        step = self._make_step(torch.compile(fn) if self.compile else fn)
        return functools.wraps(fn)(step)

    def _make_step(self, fn: Step) -> Step:
        raise NotImplementedError

    def _graphed(self, function: Step) -> Step:
        if not self.use_graphs:
            return function
        mode = functools.partial(getattr, self.model, "training")
        return GraphedCall(function, self.cuda_graph_warmup, mode, self.logger)

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


class StaticCaptureTraining(_StaticCapture):
    """Make a training step of a function that returns the loss.

    The step zeroes the gradients, calls the function under autocast, calls ``backward`` on the
    loss, clips the gradients where asked to, and advances the optimizer. On a GPU, a model whose
    metadata sets ``cuda_graphs`` has forward and backward pass recorded as a CUDA graph after
    ``cuda_graph_warmup`` ordinary steps. Tensors may be new ones at each call, or the same ones
    written in place.

    Parameters
    ----------
    model
        A :class:`physicsnemo.Module`, or a wrapper such as ``DistributedDataParallel`` around one.
    optim
        Its optimizer.
    logger
        Where decisions are logged, by default the logger ``capture``.
    use_graphs
        Whether to use CUDA graphs, where the device and the model allow it.
    use_amp
        Whether to use autocast, and a gradient scaler for float16, where the model allows it.
    compile
        Whether to compile the function with ``torch.compile``.
    cuda_graph_warmup
        Number of ordinary steps before a graph is recorded; ``DistributedDataParallel`` needs 11.
    amp_type
        Type for autocast, ``torch.float16`` or ``torch.bfloat16``; a CPU always uses bfloat16.
    gradient_clip_norm
        Largest norm of all gradients together, by default unlimited.
    label
        Name of the gradient scaler's state in :meth:`state_dict`, by default ``scaler_<number>``.

    Raises
    ------
    ValueError
        If the model is no :class:`physicsnemo.Module`, or ``amp_type`` another type.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo import Module
    >>> model = Module.from_torch(torch.nn.Linear)(2, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> @StaticCaptureTraining(model=model, optim=optimizer, use_amp=False)
    ... def training_step(x, y):
    ...     return torch.mean((model(x) - y) ** 2)
    >>> x, y = torch.ones(8, 2), torch.zeros(8, 1)
    >>> losses = [training_step(x, y).item() for _ in range(20)]
    >>> losses[-1] < losses[0]
    True
    """

    optim: torch.optim.Optimizer

    def __init__(
        self,
        model: torch.nn.Module,
        optim: torch.optim.Optimizer,
        logger: logging.Logger | None = None,
        use_graphs: bool = True,
        use_amp: bool = True,
        compile: bool = False,
        cuda_graph_warmup: int = 11,
        amp_type: torch.dtype = torch.float16,
        gradient_clip_norm: float | None = None,
        label: str | None = None,
    ) -> None:
        super().__init__(
            model,
            optim,
            logger=logger,
            use_graphs=use_graphs,
            use_autocast=use_amp,
            use_gradscaler=use_amp,
            compile=compile,
            cuda_graph_warmup=cuda_graph_warmup,
            amp_type=amp_type,
            gradient_clip_norm=gradient_clip_norm,
            label=label,
        )

    def _make_step(self, fn: Step) -> Step:
        def differentiate(*args: Any, **kwargs: Any) -> tuple[torch.Tensor, list[Any]]:
            # Gradients are dropped, not zeroed: so those of a recording live in its own memory.
            self.model.zero_grad(set_to_none=True)
            self.optim.zero_grad(set_to_none=True)
            with self.precision.context():
                loss = _as_loss(fn(*args, **kwargs))
            self.scaler.scale(loss).backward()
            return loss.detach(), self._gradients() if self.use_graphs else []

        run = self._graphed(differentiate)

        def step(*args: Any, **kwargs: Any) -> torch.Tensor:
            loss: torch.Tensor
            loss, gradients = run(*args, **kwargs)
            for parameter, gradient in gradients:
                parameter.grad = gradient
            self._update()
            return loss.clone()

        return step

    def _gradients(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return the tensors that a recording writes gradients to, for each replay to put back."""
        groups = (group["params"] for group in self.optim.param_groups)
        parameters = dict.fromkeys([*self.model.parameters(), *(p for g in groups for p in g)])
        return [(p, p.grad) for p in parameters if p.grad is not None]

    def _update(self) -> None:
        if self.gradient_clip_norm is not None:
            self.scaler.unscale_(self.optim)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.gradient_clip_norm)
        self.scaler.step(self.optim)
        self.scaler.update()


class StaticCaptureEvaluateNoGrad(_StaticCapture):
    """Make an evaluation step of a function: no gradients, autocast, CUDA graphs.

    Parameters
    ----------
    model
        A :class:`physicsnemo.Module`, or a wrapper such as ``DistributedDataParallel`` around one.
    logger
        Where decisions are logged, by default the logger ``capture``.
    use_graphs
        Whether to use CUDA graphs, where the device and the model allow it.
    use_amp
        Whether to use autocast, where the model allows it.
    compile
        Whether to compile the function with ``torch.compile``.
    cuda_graph_warmup
        Number of ordinary calls before a graph is recorded.
    amp_type
        Type for autocast, ``torch.float16`` or ``torch.bfloat16``; a CPU always uses bfloat16.
    label
        Accepted for symmetry with :class:`StaticCaptureTraining`; evaluation has no scaler.

    Raises
    ------
    ValueError
        If the model is no :class:`physicsnemo.Module`, or ``amp_type`` another type.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo import Module
    >>> model = Module.from_torch(torch.nn.Linear)(2, 1)
    >>> @StaticCaptureEvaluateNoGrad(model=model, use_amp=False)
    ... def evaluate(x):
    ...     return model(x)
    >>> evaluate(torch.ones(8, 2)).requires_grad
    False
    """

    def __init__(
        self,
        model: torch.nn.Module,
        logger: logging.Logger | None = None,
        use_graphs: bool = True,
        use_amp: bool = True,
        compile: bool = False,
        cuda_graph_warmup: int = 11,
        amp_type: torch.dtype = torch.float16,
        label: str | None = None,
    ) -> None:
        super().__init__(
            model,
            logger=logger,
            use_graphs=use_graphs,
            use_autocast=use_amp,
            use_gradscaler=False,
            compile=compile,
            cuda_graph_warmup=cuda_graph_warmup,
            amp_type=amp_type,
            label=label,
        )

    def _make_step(self, fn: Step) -> Step:
        def evaluate(*args: Any, **kwargs: Any) -> Any:
            with torch.no_grad(), self.precision.context():
                return fn(*args, **kwargs)

        run = self._graphed(evaluate)
        if not self.use_graphs:
            return run
        # A replay overwrites the recording's outputs; the caller gets copies to keep.
        return lambda *args, **kwargs: pytree.tree_map_only(
            torch.Tensor, torch.clone, run(*args, **kwargs)
        )


def _unwrap(model: torch.nn.Module) -> Module:
    inner = model if isinstance(model, Module) else getattr(model, "module", model)
    if not isinstance(inner, Module):
        raise ValueError(
            f"Model not a PhysicsNeMo Module! Got {type(model).__name__}; subclass "
            f"physicsnemo.Module, or convert the class with physicsnemo.Module.from_torch"
        )
    return inner


def _as_loss(result: Any) -> torch.Tensor:
    if isinstance(result, torch.Tensor) and result.numel() == 1 and result.requires_grad:
        return result
    got = type(result).__name__
    if isinstance(result, torch.Tensor):
        got = f"a tensor of shape {tuple(result.shape)}, requires_grad={result.requires_grad}"
    raise ValueError(f"a training step must return the loss, one number with gradient; got {got}")
