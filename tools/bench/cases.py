# SPDX-License-Identifier: Apache-2.0
"""What is timed: models, their arguments, inputs and optimizers. A new benchmark is a line here."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from physicsnemo.testing.case import Case
from tools.bench.unet import UNet


@dataclass(frozen=True)
class BenchCase(Case):
    """An example of a model, and the optimizer of its training step.

    Parameters
    ----------
    optimizer
        Makes an optimizer of a model's parameters.
    """

    optimizer: Callable[[Iterable[Tensor]], Optimizer] = Adam


def noise(*shape: int) -> Callable[[], tuple[Tensor]]:
    """Return a function that makes one input of a shape, the same one each time."""
    return lambda: (torch.randn(shape, generator=torch.Generator().manual_seed(0)),)


FNO = {"in_channels": 3, "out_channels": 1, "latent_channels": 32, "num_fno_layers": 4}
FNO_1D = FNO | {"dimension": 1, "num_fno_modes": 16, "padding": 8}
FNO_2D = FNO | {"dimension": 2, "num_fno_modes": 16, "padding": 8}
FNO_3D = FNO | {"dimension": 3, "num_fno_modes": 12, "padding": 4}

CASES = [
    BenchCase("32", "FullyConnected", {"in_features": 32}, noise(1024, 32)),
    BenchCase("512", "FullyConnected", {}, noise(1024, 512)),
    BenchCase("1d", "FNO", FNO_1D, noise(32, 3, 1024)),
    BenchCase("2d-small", "FNO", FNO_2D, noise(8, 3, 32, 32)),
    BenchCase("2d", "FNO", FNO_2D, noise(16, 3, 128, 128)),
    BenchCase("3d-small", "FNO", FNO_3D, noise(2, 3, 24, 24, 24)),
    BenchCase("3d", "FNO", FNO_3D, noise(2, 3, 64, 64, 64)),
    BenchCase("128", UNet, {}, noise(8, 1, 128, 128)),
]
QUICK = ["FullyConnected-32", "FNO-2d-small"]
