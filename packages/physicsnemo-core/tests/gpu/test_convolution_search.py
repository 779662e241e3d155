# SPDX-License-Identifier: Apache-2.0
"""What is searched for in the first call of a captured step is what is recorded, on a GPU."""

from collections import Counter

import pytest
import torch
from torch.nn.functional import mse_loss
from torch.profiler import ProfilerActivity, profile

from physicsnemo import ModelMetaData, Module

pytestmark = pytest.mark.gpu


class Convolutions(torch.nn.Sequential):
    """Two convolutions."""

    def __init__(self):
        layers = [torch.nn.Conv2d(n, 56 - n, 3, padding=1) for n in (24, 32)]
        super().__init__(layers[0], torch.nn.Tanh(), layers[1])


def kernels(function):
    """Return how often each kernel runs."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        function()
        torch.cuda.synchronize()
    events = profiler.key_averages()
    return Counter({it.key: it.count for it in events if it.device_type.name == "CUDA"})


def convolutions(counts):
    known = ("xmma", "cudnn", "conv", "cutlass", "gemm", "implicit")
    return {name for name in counts if any(word in name for word in known)}


@pytest.mark.parametrize("trains", [False, True])
def test_what_was_found_is_recorded(gpu, capture_training, capture_evaluation, monkeypatch, trains):
    # What compiled code calls for convolutions is the same, and this starts at once.
    monkeypatch.setattr(torch, "compile", lambda function: function)
    torch.manual_seed(0)
    supports = ModelMetaData(name="Convolutions", cuda_graphs=True, amp=True)
    model = Module.from_torch(Convolutions, supports)().to(gpu)
    # Of a size that nothing else in this process has, which would have been chosen by then.
    x = torch.randn(3, 24, 37 + trains, 41, device=gpu)
    capture = capture_training if trains else capture_evaluation
    step = capture(model, use_amp=True, compile=True)(lambda x: mse_loss(model(x), x))
    first = kernels(lambda: step(x))
    second = kernels(lambda: step(x))
    assert not torch.backends.cudnn.benchmark
    assert first.total() > 1.5 * second.total()
    for _ in range(3):
        step(x)
    assert step.replays() > 0
    replayed = convolutions(kernels(lambda: step(x)))
    assert replayed
    assert replayed == convolutions(second)
