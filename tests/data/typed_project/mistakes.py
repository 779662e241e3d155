# SPDX-License-Identifier: Apache-2.0
"""What a user gets wrong: each line is an error to both type checkers, or they complain."""

import torch
from torch import Tensor

from physicsnemo.models.fno import FNO
from physicsnemo.utils import StaticCaptureTraining, adapt

model = FNO(in_channels="1", out_channels=1)  # type: ignore[arg-type]
FNO(in_channels=1)  # type: ignore[call-arg]
FNO(1, 1, chanels=3)  # type: ignore[call-arg]
optimizer = torch.optim.Adam(model.parameters())


@StaticCaptureTraining(model=model, optim=optimizer)
def training_step(x: Tensor, y: Tensor) -> Tensor:
    return torch.mean((x - y) ** 2)


training_step(torch.rand(2))  # type: ignore[call-arg]
training_step(torch.rand(2), 3)  # type: ignore[arg-type]
training_step(torch.rand(2), torch.rand(2)).itm()  # type: ignore[attr-defined]
adapt(3)  # type: ignore[call-overload]
