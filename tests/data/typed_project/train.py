# SPDX-License-Identifier: Apache-2.0
"""What a user writes, under strict type checkers: nothing in here may be an error."""

from pathlib import Path
from typing import assert_type

import torch
from torch import Tensor, nn

from physicsnemo import ModelMetaData, Module
from physicsnemo.models.afno import AFNO
from physicsnemo.models.diffusion import EDMPrecond
from physicsnemo.models.fno import FNO
from physicsnemo.models.mlp import FullyConnected
from physicsnemo.models.pangu import Pangu
from physicsnemo.models.sfno import SFNO
from physicsnemo.registry import ModelRegistry
from physicsnemo.utils import (
    StaticCaptureEvaluateNoGrad,
    StaticCaptureTraining,
    adapt,
    export,
    load_checkpoint,
    save_checkpoint,
)
from physicsnemo.utils.diffusion import deterministic_sampler


class Persistence(Module):
    """A model of one's own."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__(meta=ModelMetaData(name="Persistence", amp=True))
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x


def train(folder: Path, epochs: int) -> FNO:
    model = FNO(in_channels=1, out_channels=1, num_fno_modes=[8, 8])
    optimizer = torch.optim.Adam(model.parameters())

    @StaticCaptureTraining(model=model, optim=optimizer, use_amp=False)
    def training_step(x: Tensor, y: Tensor) -> Tensor:
        prediction: Tensor = model(x)
        return torch.mean((prediction - y) ** 2)

    @StaticCaptureEvaluateNoGrad(model=model, use_amp=False)
    def evaluate(x: Tensor) -> tuple[Tensor, float]:
        return model(x), 1.0

    for epoch in range(load_checkpoint(folder, models=model, optimizer=optimizer), epochs):
        loss = training_step(torch.rand(2, 1, 16, 16), torch.rand(2, 1, 16, 16))
        assert_type(loss, Tensor)
        save_checkpoint(folder, models=model, optimizer=optimizer, epoch=epoch + 1)
    assert_type(training_step.replays(), int)
    assert_type(evaluate(torch.rand(2, 1, 16, 16)), tuple[Tensor, float])
    return model


def use(path: Path) -> None:
    assert_type(FNO.from_checkpoint(path), FNO)
    assert_type(Persistence.from_checkpoint(path).gain, nn.Parameter)
    assert_type(Module.from_checkpoint(path), Module)
    assert_type(adapt(SFNO([17, 32], [17, 32], 1, 1, scale_factor=1), inp_chans=2).model, SFNO)
    assert_type(ModelRegistry().list_models("*fno"), list[str])
    ModelRegistry().register(Persistence)
    named = ModelRegistry().factory("Persistence")(gain=0.5)
    print(named(torch.rand(2)))
    made = export(FullyConnected(in_features=2), path, (torch.rand(4, 2),), dynamic_batch=True)
    assert_type(made.inputs, list[str])
    converted = Module.from_torch(nn.Linear)(2, 3)
    converted.save(path)
    net = EDMPrecond(16, 2)
    assert_type(deterministic_sampler(net, torch.randn(1, 2, 16, 16)), Tensor)
    print(Pangu().num_parameters(), AFNO([32, 32], 1, 1).device.type)
