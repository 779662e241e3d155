# SPDX-License-Identifier: Apache-2.0
"""A small model on the GPU, its data, and captured steps that warm up for a short time."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from physicsnemo import ModelMetaData, Module
from physicsnemo.utils import StaticCaptureEvaluateNoGrad, StaticCaptureTraining


class Small(nn.Module):
    """Two layers with batch normalization and a factor that is a plain number."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Dropout(dropout))
        self.head, self.factor = nn.Linear(16, 1), 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.head(torch.tanh(self.layers(x)))


@pytest.fixture
def small(gpu: torch.device) -> Callable[..., Module]:
    """Build the same model each time; ``inner_model`` is the plain one that it is made from."""

    def build(**arguments: Any) -> Module:
        torch.manual_seed(0)
        supports = ModelMetaData(name="Small", cuda_graphs=True, amp=True)
        return Module.from_torch(Small, supports)(**arguments).to(gpu)

    return build


@pytest.fixture
def batches(gpu: torch.device) -> Callable[..., Iterator[tuple[Tensor, Tensor]]]:
    """Yield the same inputs and targets each time."""

    def draw(count: int = 12, size: int = 8) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator(gpu).manual_seed(1)
        for _ in range(count):
            x = torch.randn(size, 4, device=gpu, generator=generator)
            yield x, x.sum(1, keepdim=True)

    return draw


@pytest.fixture
def capture_training() -> Callable[..., StaticCaptureTraining]:
    """Capture a training step that is recorded after three calls, by default with SGD."""

    def capture(model: Module, optimizer: Any = None, **options: Any) -> StaticCaptureTraining:
        # One that a CUDA graph can hold.
        optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.01, fused=True)
        options = {"use_amp": False, "cuda_graph_warmup": 3} | options
        return StaticCaptureTraining(model, optimizer, **options)

    return capture


@pytest.fixture
def capture_evaluation() -> Callable[..., StaticCaptureEvaluateNoGrad]:
    """Capture an evaluation that is recorded after two calls."""

    def capture(model: Module, **options: Any) -> StaticCaptureEvaluateNoGrad:
        options = {"use_amp": False, "cuda_graph_warmup": 2} | options
        return StaticCaptureEvaluateNoGrad(model, **options)

    return capture


@pytest.fixture
def assert_close() -> Callable[..., None]:
    """Compare two numbers or tensors, relative to the largest that is expected."""

    def check(got: Any, expected: Any, tolerance: float = 1e-4) -> None:
        scale = max(float(torch.as_tensor(expected).abs().max()), 1e-6)
        torch.testing.assert_close(got, expected, rtol=0, atol=tolerance * scale, check_dtype=False)

    return check
