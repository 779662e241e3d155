# SPDX-License-Identifier: Apache-2.0
"""Kernels over many tensors, against PyTorch's optimizers in double precision."""

import logging
import math

import pytest
import torch
from torch.nn.functional import mse_loss
from torch.optim import Adam, AdamW

from physicsnemo.core.capture import many_tensors
from physicsnemo.core.capture.kernels import compile_kernels
from physicsnemo.core.capture.many_tensors import (
    AdamSettings,
    adam_table,
    check_table,
    run_adam,
    run_check,
)

pytestmark = pytest.mark.gpu

SHAPES = [(3,), (2048,), (5000,), (7, 11), (), (300, 70), (8, 3, 3, 3)]


@pytest.mark.parametrize("kind", [Adam, AdamW])
@pytest.mark.parametrize(
    "options",
    [{}, {"weight_decay": 0.1}, {"maximize": True, "betas": (0.0, 0.9)}, {"eps": 1e-3}],
    ids=str,
)
@pytest.mark.parametrize("scale", [None, 1024.0])
def test_steps_of_adam(kind, options, scale):
    torch.manual_seed(0)
    parameters = [torch.randn(shape, device="cuda") for shape in SHAPES]
    parameters[-1] = parameters[-1].to(memory_format=torch.channels_last)
    precise = [p.double().requires_grad_() for p in parameters]
    reference = kind(precise, lr=0.01, **options)
    means, squares = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    counts = [torch.zeros((), device="cuda") for _ in parameters]
    rate, found = torch.tensor(0.01, device="cuda"), torch.zeros(1, device="cuda")
    by = None if scale is None else torch.tensor([scale], device="cuda")
    defaults = reference.defaults
    settings = AdamSettings(
        *defaults["betas"],
        *(defaults["eps"], defaults["weight_decay"]),
        decoupled=kind is AdamW,
        maximize=defaults["maximize"],
        scaled=scale is not None,
        checked=True,
    )
    for _ in range(5):
        exact = [torch.randn_like(p) for p in parameters]
        gradients = [g * (scale or 1.0) for g in exact]
        for p, g in zip(precise, exact, strict=True):
            p.grad = g.double()
        reference.step()
        torch._foreach_add_(counts, 1)
        table = adam_table([parameters, gradients, means, squares], counts, settings).cuda()
        run_adam(table, rate, by, found)
        torch.testing.assert_close(gradients, exact)
        for own, theirs in zip(parameters, precise, strict=True):
            torch.testing.assert_close(own.double(), theirs.detach(), rtol=1e-5, atol=1e-5)
    before = [p.clone() for p in parameters]
    run_adam(table, rate, by, torch.ones_like(found))
    torch.testing.assert_close(parameters, before, rtol=0, atol=0)


def test_what_does_not_compile_is_an_error(gpu):
    with pytest.raises(RuntimeError, match="NVRTC_ERROR_COMPILATION: .*error: "):
        compile_kernels("not a kernel", ["adam"], gpu, threads=1)


def test_nothing_is_launched_for_tensors_without_numbers(gpu):
    assert many_tensors.is_usable(gpu, logging.getLogger(__name__))
    found = torch.zeros(1, device=gpu)
    run_check(check_table([torch.zeros(0, device=gpu)]).to(gpu), found, torch.ones(1, device=gpu))
    torch.cuda.synchronize()
    assert found.item() == 0


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan, None])
def test_a_check_for_overflow(bad):
    gradients = [torch.randn(5000, device="cuda"), torch.randn(3, 3, device="cuda")]
    found = torch.zeros(1, device="cuda")
    halves = [g / 2 for g in gradients]
    run_check(check_table(gradients).cuda(), found, torch.tensor(0.5, device="cuda"))
    assert found.item() == 0
    torch.testing.assert_close(gradients, halves, rtol=0, atol=0)
    if bad is not None:
        gradients[0][4097] = bad
        run_check(check_table(gradients).cuda(), found, torch.ones(1, device="cuda"))
        assert found.item() == 1


@pytest.mark.parametrize("use_amp", [False, True])
def test_recordings_have_them(use_amp, small, batches, capture_training, monkeypatch):
    calls = []
    for name in ("run_adam", "run_check"):
        own = getattr(many_tensors, name)
        monkeypatch.setattr(
            many_tensors, name, lambda *given, own=own, name=name: (calls.append(name), own(*given))
        )
    model = small()
    step = capture_training(model, Adam(model.parameters()), use_amp=use_amp, verify=3)(
        lambda x, y: mse_loss(model(x), y)
    )
    many_tensors.is_usable.cache_clear()
    for x, y in batches(10):
        step(x, y)
    assert step.replays() > 3
    tried = ["run_adam", "run_check"]
    assert calls == tried + (["run_check", "run_adam"] if use_amp else ["run_adam"])
