# SPDX-License-Identifier: Apache-2.0
"""A model can be built, called, captured and trained."""

import logging

import torch

from physicsnemo.core.base import metadata_of
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.testing._compare import (
    LOW_PRECISION,
    SAME,
    assert_equal,
    call,
    disturb,
    gradients,
    move,
    prepare,
    run,
    tensors,
    vary,
)
from physicsnemo.testing.case import Case
from physicsnemo.utils.capture import StaticCaptureEvaluateNoGrad

# How often a path may be closed by chance, as dropout and stochastic depth do.
_TRIES = 3


def check_construction(case: Case, device: torch.device) -> None:
    """Arguments make a model, and its outputs are finite tensors on its device."""
    model, inputs = prepare(case, device)
    outputs = tensors(run(model, inputs))
    if not outputs:
        raise AssertionError("forward returns no tensor")
    for output in outputs:
        if output.device.type != device.type:
            raise AssertionError(f"an output is on {output.device}, but the model on {device}")
        if not output.isfinite().all():
            raise AssertionError("an output holds NaN or infinite numbers")


def check_capture(case: Case, device: torch.device) -> None:
    """Evaluate by a capture: it uses only what the metadata claims, and computes the same."""
    model, inputs = prepare(case, device)
    meta = metadata_of(model) or ModelMetaData()
    may_round = meta.amp_gpu if device.type == "cuda" else meta.amp_cpu
    evaluate = StaticCaptureEvaluateNoGrad(
        model,
        logger=logging.Logger("conformance", logging.CRITICAL),  # what it leaves out is no news
        cuda_graph_warmup=2,
        amp_type=torch.bfloat16,
    )(lambda *positional, **named: model(*positional, **named))
    for _ in range(4):  # warm-up calls, then replays where there are CUDA graphs
        inputs = vary(inputs)
        assert_equal(
            call(evaluate, inputs), call(model, inputs), LOW_PRECISION if may_round else SAME
        )


def check_gradients(case: Case, device: torch.device) -> None:
    """Gradients reach every trainable parameter but those, and all those, that the case lists."""
    model = case.build().to(device).train()
    disturb(model)  # a layer that starts at zero passes no gradient on
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    if unknown := case.dead.keys() - trainable:
        raise AssertionError(f"listed as dead, but no trainable parameters: {sorted(unknown)}")
    reached: set[str] = set()
    for _ in range(_TRIES):
        found = gradients(model, call(model, move(case.inputs(), device)))
        reached |= {name for name, gradient in found.items() if gradient.any()}
    if alive := case.dead.keys() & reached:
        raise AssertionError(f"listed as dead, but a gradient reaches: {sorted(alive)}")
    if missed := trainable - reached - case.dead.keys():
        raise AssertionError(
            f"no gradient reaches {sorted(missed)}; use them in forward, remove them, or list them "
            f"in the case: dead={{name: reason}}"
        )
