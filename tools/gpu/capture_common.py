# SPDX-License-Identifier: Apache-2.0
"""What checks of captured steps share: a small model, its data, and ways to fail."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from physicsnemo import ModelMetaData, Module
from physicsnemo.utils import StaticCaptureTraining

WARMUP = 3


def checks_of(module: ModuleType) -> dict[str, Callable[[], float]]:
    """Return the functions of a module that are named ``_check_...``, by what they check.

    Each returns the largest relative difference found, which is zero where it compares by itself.
    """

    def compare(function: Callable[[], None]) -> Callable[[], float]:
        def run() -> float:
            function()
            return 0.0

        return run

    return {
        name.removeprefix("_check_").replace("_", " "): compare(function)
        for name, function in vars(module).items()
        if name.startswith("_check_")
    }


def require(condition: bool, text: str) -> None:
    """Fail with a text unless a condition holds."""
    if not condition:
        raise AssertionError(text)


class Small(nn.Module):
    """Two layers with batch normalization and a factor that is a plain number."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Dropout(dropout))
        self.head, self.factor = nn.Linear(16, 1), 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, 4) to (batch, 1)."""
        output: Tensor = self.factor * self.head(torch.tanh(self.layers(x)))
        return output


def small(**kwargs: Any) -> Module:
    """Return the same small model each time, on the GPU."""
    torch.manual_seed(0)
    supports = ModelMetaData(name="Small", cuda_graphs=True, amp=True)
    model: Module = Module.from_torch(Small, supports)(**kwargs).cuda()
    return model


def inner(model: Module) -> Any:
    """Return the plain PyTorch model that it was made from."""
    return model.inner_model


def sgd(model: Module) -> torch.optim.Optimizer:
    """Return an optimizer that a CUDA graph can hold."""
    return torch.optim.SGD(model.parameters(), lr=0.01, fused=True)


def training(model: Module, optimizer: Any = None, **options: Any) -> StaticCaptureTraining:
    """Return a capture that warms up for a short time."""
    options = {"use_amp": False, "cuda_graph_warmup": WARMUP} | options
    return StaticCaptureTraining(model, optimizer or sgd(model), **options)


def batches(count: int = 12, size: int = 8) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the same batches each time."""
    generator = torch.Generator("cuda").manual_seed(1)
    for _ in range(count):
        x = torch.randn(size, 4, device="cuda", generator=generator)
        yield x, x.sum(1, keepdim=True)


def close(got: Any, expected: Any, text: str, tolerance: float = 1e-4) -> None:
    """Fail with a text unless two numbers or tensors agree."""
    difference = float((torch.as_tensor(got) - torch.as_tensor(expected)).abs().max())
    scale = float(torch.as_tensor(expected).abs().max())
    require(difference <= tolerance * max(scale, 1e-6), f"{text}: {got} is not {expected}")


@contextmanager
def log() -> Iterator[list[str]]:
    """Collect what the logger of captures says."""
    texts: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: texts.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("capture")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield texts
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
