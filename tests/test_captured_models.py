# SPDX-License-Identifier: Apache-2.0
"""Captured training of real models equals a reference loop, bit for bit on a CPU."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor

from physicsnemo import Module
from physicsnemo.core.capture.guards import Guards
from physicsnemo.models.fno import FNO
from physicsnemo.models.mlp import FullyConnected
from physicsnemo.testing import Case
from physicsnemo.testing._compare import prepare as prepare_case
from physicsnemo.testing._compare import tensors
from physicsnemo.utils import StaticCaptureTraining
from tools.bench.unet import UNet
from tools.cases import all_cases

STEPS = 50
MODELS: dict[str, tuple[Callable[[], Module], tuple[int, ...], tuple[int, ...]]] = {
    "UNet": (UNet, (1, 1, 4, 4), (1, 1, 2, 2)),
    "FullyConnected": (partial(FullyConnected, 4, 8, 4), (6, 4), (6, 4)),
    "FNO": (
        partial(FNO, 1, 1, latent_channels=4, num_fno_layers=2, num_fno_modes=2, padding=1),
        *((2, 1, 6, 6), (2, 1, 6, 6)),
    ),
}
OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, lr=1e-3, momentum=0.9),
    "fused sgd": partial(torch.optim.SGD, lr=1e-3, momentum=0.9, fused=True),
    "adam": partial(torch.optim.Adam, lr=1e-3),
    "fused adamw": partial(torch.optim.AdamW, lr=1e-3, fused=True),
}


@dataclass(frozen=True)
class Training:
    """What is trained, by the reference loop or captured."""

    model: Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    batches: list[tuple[Tensor, Tensor]]
    amp: bool
    accumulation: int
    clip: float | None

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean square error, with dropout before the model."""
        return torch.nn.functional.mse_loss(self.model(torch.nn.functional.dropout(x, 0.2)), y)

    def reference(self) -> Tensor:
        """Train without the decorator."""
        losses = []
        for number, (x, y) in enumerate(self.batches, start=1):
            with torch.autocast("cpu", torch.bfloat16, enabled=self.amp):
                loss = self.loss(x, y)
            (loss / self.accumulation).backward()
            losses.append(loss.detach())
            if number % self.accumulation == 0:
                if self.clip is not None:
                    torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
                self.optimizer.step()
                self.optimizer.zero_grad()
                self.schedule.step()
        return torch.stack(losses)

    def captured(self) -> Tensor:
        """Train with it."""
        step = StaticCaptureTraining(
            self.model,
            self.optimizer,
            use_amp=self.amp,
            gradient_clip_norm=self.clip,
            accumulation_steps=self.accumulation,
        )(self.loss)
        losses = []
        for number, (x, y) in enumerate(self.batches, start=1):
            losses.append(step(x, y))
            if number % self.accumulation == 0:
                self.schedule.step()
        return torch.stack(losses)


def prepare(
    name: str, optimizer: str, amp: bool, accumulation: int, clip: float | None
) -> Training:
    build, inputs, outputs = MODELS[name]
    torch.manual_seed(0)
    model = build()
    advance = OPTIMIZERS[optimizer](model.parameters())
    # Many CPUs emulate bfloat16.
    steps = STEPS if not amp else 4
    batches = [(torch.randn(inputs), torch.randn(outputs)) for _ in range(steps)]
    schedule = torch.optim.lr_scheduler.ExponentialLR(advance, 0.95)
    return Training(model, advance, schedule, batches, amp, accumulation, clip)


CASES = [
    *((name, optimizer, False, 1, None) for name in MODELS for optimizer in OPTIMIZERS),
    *((name, "adam", False, 3, 0.1) for name in MODELS),
    *((name, "fused adamw", True, 1, 0.1) for name in MODELS if name != "FNO"),
]


@pytest.mark.parametrize(("name", "optimizer", "amp", "accumulation", "clip"), CASES)
def test_captured_training_equals_the_reference_loop(
    name: str, optimizer: str, amp: bool, accumulation: int, clip: float | None
) -> None:
    arguments = (name, optimizer, amp, accumulation, clip)
    one, other = prepare(*arguments), prepare(*arguments)
    torch.manual_seed(1)  # of dropout
    losses = one.captured()
    torch.manual_seed(1)
    assert torch.equal(losses, other.reference())
    for mine, theirs in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


CAPTURED = [case for case in all_cases() if case.build().meta.cuda_graphs]


@pytest.mark.parametrize("case", CAPTURED, ids=str)
def test_a_step_of_a_model_changes_nothing_that_is_watched(case: Case) -> None:
    """Else its steps would never be recorded."""
    model, inputs = prepare_case(case, torch.device("cpu"))
    guards = Guards(model.train(), model)
    observations = []
    for _ in range(3):
        sum(output.square().sum() for output in tensors(model(*inputs))).backward()
        observations.append(guards.state())
    assert observations[1].matches(observations[2]), observations[1].difference(observations[2])
