# SPDX-License-Identifier: Apache-2.0
"""Captured training on a CPU, bit for bit that of a reference loop; GPU checks compare on CUDA."""

from dataclasses import dataclass
from functools import partial

import pytest
import torch

from physicsnemo import ModelMetaData, Module
from physicsnemo.utils import StaticCaptureTraining

STEPS = 50
BFLOAT16_STEPS = 12  # many CPUs emulate it
ADAM = partial(torch.optim.Adam, lr=0.01)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            *(torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.Tanh()),
            *(torch.nn.Dropout(0.2), torch.nn.Linear(8, 1)),
        )

    def forward(self, x):
        return self.layers(x)


@dataclass(frozen=True)
class Setting:
    optimizer: partial = ADAM
    amp: bool = False
    clip: float | None = None
    accumulation: int = 1
    schedule: bool = False
    groups: bool = False
    in_place: bool = False

    def build(self):
        torch.manual_seed(0)
        model = Module.from_torch(Net, ModelMetaData(amp=True))()
        parameters = list(model.parameters())
        groups = [{"params": parameters[:2], "lr": 0.05}, {"params": parameters[2:]}]
        optimizer = self.optimizer(groups if self.groups else parameters)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        torch.manual_seed(2)  # of dropout
        return model, optimizer, schedule.step if self.schedule else lambda: None

    def batches(self):
        generator = torch.Generator().manual_seed(1)
        for _ in range(BFLOAT16_STEPS if self.amp else STEPS):
            x = torch.randn(5, 3, generator=generator)
            yield x, x.sum(dim=1, keepdim=True)


def reference(setting):
    model, optimizer, schedule = setting.build()
    losses = []
    for number, (x, y) in enumerate(setting.batches()):
        if number % setting.accumulation == 0:
            optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=setting.amp):
            loss = torch.nn.functional.mse_loss(model(x), y)
        (loss / setting.accumulation).backward()
        losses.append(loss.detach())
        if (number + 1) % setting.accumulation == 0:
            if setting.clip is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), setting.clip)
            optimizer.step()
            schedule()
    return torch.stack(losses), model.state_dict(), optimizer.state_dict()["state"]


def captured(setting):
    model, optimizer, schedule = setting.build()

    @StaticCaptureTraining(
        model,
        optimizer,
        use_amp=setting.amp,
        amp_type=torch.bfloat16,
        gradient_clip_norm=setting.clip,
        accumulation_steps=setting.accumulation,
    )
    def step(x, y):
        return torch.nn.functional.mse_loss(model(x), y)

    losses, buffers = [], (torch.empty(5, 3), torch.empty(5, 1))
    for number, batch in enumerate(setting.batches()):
        if setting.in_place:
            batch = [own.copy_(new) for own, new in zip(buffers, batch, strict=True)]
        losses.append(step(*batch))
        if (number + 1) % setting.accumulation == 0:
            schedule()
    return torch.stack(losses), model.state_dict(), optimizer.state_dict()["state"]


OPTIMIZERS = [
    partial(kind, lr=0.01, fused=fused, **options)
    for kind, options in [
        (torch.optim.SGD, {}),
        (torch.optim.SGD, {"momentum": 0.9}),
        (torch.optim.Adam, {}),
        (torch.optim.AdamW, {}),
    ]
    for fused in (False, True)
]
SETTINGS = [
    *(Setting(optimizer, groups=groups) for optimizer in OPTIMIZERS for groups in (False, True)),
    *(Setting(clip=0.05, accumulation=n) for n in (1, 3)),
    *(Setting(optimizer, accumulation=3, clip=0.05) for optimizer in OPTIMIZERS),
    *(Setting(schedule=True, groups=True, accumulation=n) for n in (1, 3)),
    Setting(in_place=True),
    *(Setting(optimizer, amp=True, clip=0.05) for optimizer in OPTIMIZERS[::2]),
    Setting(amp=True, accumulation=2, schedule=True),
]


def name(setting):
    optimizer = setting.optimizer
    parts = [optimizer.func.__name__, *(k for k, on in optimizer.keywords.items() if on)]
    flags = {k: v for k, v in vars(setting).items() if k != "optimizer" and v not in (None, False)}
    return "-".join([*parts, *(f"{k}={v}" for k, v in flags.items())])


@pytest.mark.parametrize("setting", SETTINGS, ids=name)
def test_training_equals_the_reference_loop(setting):
    torch.testing.assert_close(captured(setting), reference(setting), rtol=0, atol=0)


def test_settings_make_a_difference():
    losses = [
        reference(setting)[0][:BFLOAT16_STEPS]
        for setting in (
            *(Setting(), Setting(clip=0.05), Setting(accumulation=3), Setting(schedule=True)),
            *(Setting(groups=True), Setting(amp=True), Setting(OPTIMIZERS[0])),
        )
    ]
    for place, one in enumerate(losses):
        assert not any(torch.equal(one, other) for other in losses[:place])


def test_a_cycle_may_be_unfinished():
    """The gradients of calls left over at the end of an epoch count towards the next step."""
    model = Module.from_torch(torch.nn.Linear)(1, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    start = model.inner_model.weight.item()

    @StaticCaptureTraining(model, optimizer, use_amp=False, accumulation_steps=3)
    def step(x):
        return model(x).sum()

    losses = [step(torch.full((1, 1), float(x))).item() for x in (1, 2, 3, 4, 5)]
    assert losses[:3] == [start, 2 * start, 3 * start]
    weight = model.inner_model.weight
    assert weight.item() == pytest.approx(start - (1 + 2 + 3) / 3)
    assert weight.grad.item() == pytest.approx((4 + 5) / 3)
    step(torch.full((1, 1), 6.0))
    assert weight.item() == pytest.approx(start - (1 + 2 + 3 + 4 + 5 + 6) / 3)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_error_begins_the_accumulation_anew(place):
    model = Module.from_torch(torch.nn.Linear)(1, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    start = model.inner_model.weight.item()

    @StaticCaptureTraining(model, optimizer, use_amp=False, accumulation_steps=3)
    def step(x):
        if x is None:
            raise KeyError("of the user")
        return model(x).sum()

    for _ in range(place):
        step(torch.full((1, 1), 100.0))
    with pytest.raises(KeyError, match="of the user") as caught:
        step(None)
    assert caught.traceback[-1].name == "step"
    assert caught.value.__context__ is None
    assert model.inner_model.weight.grad is None
    for x in (1.0, 2.0, 3.0):
        step(torch.full((1, 1), x))
    assert model.inner_model.weight.item() == pytest.approx(start - 2)


@pytest.mark.parametrize("where", ["before", "after", "backward"])
def test_an_error_is_the_users_own_and_changes_nothing(where):
    setting = Setting()
    model, optimizer, _ = setting.build()

    class Backward(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            return x.clone()

        @staticmethod
        def backward(context, gradient):
            raise KeyError("backward")

    @StaticCaptureTraining(model.eval(), optimizer, use_amp=False)
    def step(x, y, where=None):
        if where == "before":
            raise KeyError("before")
        loss = torch.nn.functional.mse_loss(model(x), y)
        if where == "after":
            raise KeyError("after")
        return Backward.apply(loss) if where == "backward" else loss

    x, y = next(setting.batches())
    step(x, y)
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(KeyError, match=where) as caught:
        step(x, y, where)
    assert caught.value.__context__ is None
    assert all(map(torch.equal, model.parameters(), before))
    expected = torch.nn.functional.mse_loss(model(x), y)
    assert torch.equal(step(x, y), expected)
    assert not any(map(torch.equal, model.parameters(), before))
