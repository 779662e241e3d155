# SPDX-License-Identifier: Apache-2.0
"""The models that captured steps are checked with, and their data."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from physicsnemo import Module
from physicsnemo.registry import ModelRegistry
from tools.bench.unet import UNet

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Example:
    """A model, the shapes of its input and output, and whether it runs under autocast."""

    build: Callable[[], Module]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    amp: bool


def _registered(name: str, *args: int, **kwargs: int) -> Callable[[], Module]:
    def build() -> Module:
        model: Module = ModelRegistry().factory(name)(*args, **kwargs)
        return model

    return build


FNO = _registered("FNO", 1, 1, latent_channels=16, num_fno_modes=8, padding=3)
MODELS = {
    "UNet": Example(UNet, (4, 1, 32, 32), (4, 1, 16, 16), amp=True),
    "FullyConnected": Example(
        _registered("FullyConnected", 32, 128, 32), (256, 32), (256, 32), amp=True
    ),
    "FNO": Example(FNO, (4, 1, 32, 32), (4, 1, 32, 32), amp=False),
}


def batches_of(model: str, count: int) -> Iterator[Batch]:
    """Yield the same random inputs and targets each time."""
    generator = torch.Generator("cuda").manual_seed(1)
    for _ in range(count):
        shapes = MODELS[model].inputs, MODELS[model].outputs
        x, y = (torch.randn(shape, device="cuda", generator=generator) for shape in shapes)
        yield x, y
