# SPDX-License-Identifier: Apache-2.0
"""Training and evaluation steps with mixed precision, CUDA graphs and compilation."""

import logging

import torch

from physicsnemo.core.capture.compilation import Compilation
from physicsnemo.core.capture.decorator import StaticCapture as _StaticCapture
from physicsnemo.core.capture.options import Compile, Options
from physicsnemo.core.capture.step_program import EvaluationStep, StepProgram
from physicsnemo.core.capture.training_step import TrainingStep

__all__ = ["StaticCaptureEvaluateNoGrad", "StaticCaptureTraining"]


class StaticCaptureTraining(_StaticCapture):
    """Training step of a function that returns the loss, with mixed precision and CUDA graphs.

    A step zeroes the gradients, calls the function under autocast, calls ``backward`` on the loss,
    clips the gradients where asked to, and advances the optimizer. The function returns the loss
    alone, first in a tuple or list, or among other things under the name ``loss``, as an item or
    as an attribute. The caller gets all that it returns, detached, to keep.

    On a GPU, if the model's metadata sets ``cuda_graphs``, the step is recorded as a CUDA graph
    after ``cuda_graph_warmup`` eager calls, and later calls replay the recording, as long as it
    computes the same; the decorated function has a method ``replays()`` that counts them. The graph
    holds the whole step for Adam, AdamW and SGD, learning rates being read from ``param_groups`` at
    each call; other optimizers make their step outside, which is logged. Where PyTorch's default
    implementation needs the host, the fused one makes the step, to rounding the same: parameter
    groups, state dict and steps outside a captured call are as ever. Gradients
    (``parameter.grad``) can be read until the next captured call.

    Guards watch what a recording bakes in: the shapes of tensors and the numbers among the
    arguments, and whatever the code of the function and of what it calls reads by name, in
    closures, globals, defaults and attributes. If that changes, another recording is made, or, if
    it changes at each call, the steps run eagerly, which is logged. The values of tensors may
    change in any way. Not guarded is what is found only by running code (the inside of libraries,
    sets, queues or large containers, hooks of tensors): ``verify`` finds it.

    Calls whose arguments contain tensors that are on another device or require gradients, or
    objects that are no tuples, lists, dictionaries or dataclasses, run eagerly, which is logged as
    well.

    Parameters
    ----------
    model
        A :class:`physicsnemo.Module`, or a wrapper such as ``DistributedDataParallel`` around one.
    optim
        Its optimizer.
    logger
        Logger of decisions, by default the one named ``physicsnemo.capture``.
    use_graphs
        CUDA graphs, where the device and the model allow them.
    use_amp
        Mixed precision, where the model allows it: autocast, and a gradient scaler for float16.
    compile
        Compilation with ``torch.compile``: True, of the function; ``blocks``, of the model's
        blocks, each kind once however often it is repeated, while the rest runs as it is;
        ``auto``, of these (of the function, if no third of the model is repeated) where the step
        is recorded as a CUDA graph, and there are Triton and a C++ compiler. If it fails, the step
        runs uncompiled, which is logged. With any of these, the first call of a step that is to be
        recorded also lets cuDNN search for the fastest algorithms of convolutions, unless they are
        to be deterministic.
    cuda_graph_warmup
        Number of eager calls before one is recorded; ``DistributedDataParallel`` needs 11.
    amp_type
        Autocast type, ``torch.float16`` or ``torch.bfloat16``; a CPU always uses bfloat16.
    gradient_clip_norm
        Largest norm of the gradients of all parameters of the optimizer together, by default
        unlimited.
    label
        Name of the gradient scaler's state in :meth:`state_dict`, by default ``scaler_<number>``.
    accumulation_steps
        Gradient accumulation: number of calls that make one step of the optimizer, which descends
        the mean of their losses; each call returns its own loss. Calls left over at the end of an
        epoch count towards the next step.
    verify
        Number of first replays to compare with an eager call on the same data, or True for
        three. Slow, but finds what is not guarded.
    promote_optimizer
        Whether Adam, AdamW and SGD with PyTorch's default implementation may make the steps of
        captured calls with the fused one, so that the CUDA graph holds them.
    recompute
        Whether the repeated blocks of the model keep their inputs alone for the backward pass, and
        compute their activations again (Chen et al. 2016, arXiv:1604.06174): much less memory, for
        about a third more time.

    Raises
    ------
    ValueError
        If the model is no :class:`physicsnemo.Module`, ``amp_type`` another type, a number out of
        range, the optimizer one that needs a closure, such as LBFGS, or nothing in a model to be
        recomputed is repeated; by the step, if the function does not return a loss.
    TypeError
        If the function is a generator or coroutine function.
    CaptureError
        By the step, if ``verify`` finds a replay that differs from an eager call.

    Notes
    -----
    The step raises what the function raises. The gradients of an unfinished accumulation are then
    lost, and the next call begins another.

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
        compile: Compile = False,
        cuda_graph_warmup: int = 11,
        amp_type: torch.dtype = torch.float16,
        gradient_clip_norm: float | None = None,
        label: str | None = None,
        accumulation_steps: int = 1,
        verify: bool | int = False,
        promote_optimizer: bool = True,
        recompute: bool = False,
    ) -> None:
        super().__init__(
            model,
            optim,
            logger=logger,
            label=label,
            options=Options(
                use_graphs=use_graphs,
                use_amp=use_amp,
                compile=compile,
                cuda_graph_warmup=cuda_graph_warmup,
                amp_type=amp_type,
                gradient_clip_norm=gradient_clip_norm,
                accumulation_steps=accumulation_steps,
                verify=verify,
                promote_optimizer=promote_optimizer,
                recompute=recompute,
            ),
        )

    def _program(self, function: Compilation) -> StepProgram:
        return TrainingStep(
            function,
            model=self.model,
            wrapper=self.wrapper,
            optimizer=self.optim,
            scaler=self.scaler,
            precision=self.precision,
            options=self.options,
            logger=self.logger,
        )


class StaticCaptureEvaluateNoGrad(_StaticCapture):
    """Evaluation step of a function, without gradients, with mixed precision and CUDA graphs.

    The function may return anything. :class:`StaticCaptureTraining` says when it is recorded as a
    CUDA graph, and what is guarded then.

    Parameters
    ----------
    model, logger, use_graphs, use_amp, compile, cuda_graph_warmup, amp_type, verify
        As for :class:`StaticCaptureTraining`; there is no gradient scaler.
    label
        Not used; accepted as by :class:`StaticCaptureTraining`.

    Raises
    ------
    ValueError
        If the model is no :class:`physicsnemo.Module`, ``amp_type`` another type, or a number out
        of range.
    TypeError
        If the function is a generator or coroutine function.
    CaptureError
        By the step, if ``verify`` finds a replay that differs from an eager call.

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
        compile: Compile = False,
        cuda_graph_warmup: int = 11,
        amp_type: torch.dtype = torch.float16,
        label: str | None = None,
        verify: bool | int = False,
    ) -> None:
        super().__init__(
            model,
            None,
            logger=logger,
            label=label,
            options=Options(
                use_graphs=use_graphs,
                use_amp=use_amp,
                compile=compile,
                cuda_graph_warmup=cuda_graph_warmup,
                amp_type=amp_type,
                verify=verify,
            ),
        )

    def _program(self, function: Compilation) -> StepProgram:
        return EvaluationStep(function, self.model, self.precision)
