# SPDX-License-Identifier: Apache-2.0
"""Ordinary optimizers in the CUDA graph, against loops written by hand, on a GPU."""

import copy
from functools import partial

import pytest
import torch
from torch.nn.functional import mse_loss

from physicsnemo import ModelMetaData, Module
from physicsnemo.utils import StaticCaptureTraining, load_checkpoint, save_checkpoint

pytestmark = pytest.mark.gpu

ADAM, ADAMW, SGD = torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD
STEPS = 16
OVERFLOW = (1, 9)  # while it warms up, and in a replay

OPTIMIZERS = {
    "Adam": partial(ADAM, lr=0.01),
    "Adam amsgrad": partial(ADAM, lr=0.01, amsgrad=True, weight_decay=0.01),
    "Adam maximize": partial(ADAM, lr=1e-4, maximize=True),
    "Adam foreach": partial(ADAM, lr=0.01, foreach=True),
    "AdamW": partial(ADAMW, lr=0.01, weight_decay=0.1),
    "AdamW amsgrad": partial(ADAMW, lr=0.01, amsgrad=True),
    "SGD": partial(SGD, lr=0.01),
    "SGD momentum": partial(SGD, lr=0.01, momentum=0.9, dampening=0.3),
    "SGD nesterov": partial(SGD, lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.01),
    "SGD maximize": partial(SGD, lr=1e-4, momentum=0.9, maximize=True),
}


def plain_loop(model, optimizer, data, amp=False, clip=None, after=lambda number: None):
    """Train by hand; return losses."""
    scaler = torch.amp.GradScaler("cuda", enabled=amp)
    losses = []
    for number, (x, y) in enumerate(data):
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.float16, enabled=amp):
            loss = mse_loss(model(x), y)
        scaler.scale(loss).backward()
        if clip is not None:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.detach())
        after(number)
    return torch.stack(losses)


def captured_loop(model, optimizer, data, capture_training, after=lambda number: None, **options):
    """Train by the decorator; return losses and the number of replays."""
    step = capture_training(model, optimizer, **options)(lambda x, y: mse_loss(model(x), y))
    losses = []
    for number, (x, y) in enumerate(data):
        losses.append(step(x, y))
        after(number)
    return torch.stack(losses), step.replays()


def data_of(batches, count=STEPS, overflow=()):
    return [
        (torch.full_like(x, float("inf")) if number in overflow else x, y)
        for number, (x, y) in enumerate(batches(count))
    ]


def tensors_of(model, optimizer):
    """Parameters and state, in one order."""
    states = [
        value.double().cpu()
        for parameter in model.parameters()
        for _, value in sorted(optimizer.state.get(parameter, {}).items())
        if isinstance(value, torch.Tensor)
    ]
    return [*(parameter.detach().double().cpu() for parameter in model.parameters()), *states]


def assert_same_training(one, other, assert_close):
    for mine, theirs in zip(tensors_of(*one), tensors_of(*other), strict=True):
        assert_close(mine, theirs, tolerance=1e-3)


@pytest.mark.parametrize("amp", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_is_the_same(name, clip, amp, small, batches, capture_training, assert_close):
    # Without batch normalization, whose statistics an overflow would spoil for good.
    data = data_of(batches, overflow=OVERFLOW if amp else ())
    models = [small().eval(), small().eval()]
    optimizers = [OPTIMIZERS[name](model.parameters()) for model in models]
    expected = plain_loop(models[0], optimizers[0], data, amp, clip)
    got, replays = captured_loop(
        *(models[1], optimizers[1], data, capture_training), use_amp=amp, gradient_clip_norm=clip
    )
    assert replays >= STEPS - 5
    finite = expected.isfinite()
    assert torch.equal(finite, got.isfinite())
    assert_close(got[finite], expected[finite], tolerance=1e-3)
    assert_same_training((models[1], optimizers[1]), (models[0], optimizers[0]), assert_close)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD momentum"])
def test_schedules_groups_and_rates_set_by_hand(
    name, small, batches, capture_training, assert_close
):
    results = []
    for captured in (False, True):
        model = small()
        first, *rest = model.parameters()
        groups = [{"params": [first], "lr": 0.02}, {"params": rest}]
        optimizer = OPTIMIZERS[name](groups)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)

        def after(number, optimizer=optimizer, schedule=schedule):
            schedule.step()
            if number == 8:
                optimizer.param_groups[1]["lr"] = 0.005
            if number == 12:
                optimizer.param_groups[0]["lr"] = 0.0

        data = data_of(batches)
        if captured:
            losses, replays = captured_loop(model, optimizer, data, capture_training, after)
            assert replays == STEPS - 3
        else:
            losses = plain_loop(model, optimizer, data, after=after)
        results.append((losses, [{**g, "params": None} for g in optimizer.param_groups]))
    assert_close(results[1][0], results[0][0], tolerance=1e-3)
    assert results[1][1] == results[0][1]


@pytest.mark.parametrize("way", ["captured first", "plain first"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", ["Adam", "Adam amsgrad", "AdamW", "SGD nesterov"])
def test_a_state_dict_goes_both_ways(
    name, device, way, small, batches, capture_training, assert_close, tmp_path
):
    """One half is captured on the GPU, the other a loop by hand, there or on the CPU."""
    data = data_of(batches, 2 * STEPS)
    reference = small().eval()
    optimizer = OPTIMIZERS[name](reference.parameters())
    plain_loop(reference, optimizer, data)

    def train(model, optimizer, part, captured):
        if captured:
            assert captured_loop(model, optimizer, part, capture_training)[1] == STEPS - 3
        else:
            part = [(x.to(model.device), y.to(model.device)) for x, y in part]
            plain_loop(model, optimizer, part)

    captured = [way == "captured first", way == "plain first"]
    models = [small().eval().to("cuda" if on_gpu else device) for on_gpu in captured]
    optimizers = [OPTIMIZERS[name](model.parameters()) for model in models]
    train(models[0], optimizers[0], data[:STEPS], captured[0])
    state = optimizers[0].state_dict()
    assert all(
        entry["step"].device.type == "cpu" for entry in state["state"].values() if "step" in entry
    )
    models[1].load_state_dict(models[0].state_dict())
    optimizers[1].load_state_dict(copy.deepcopy(state))
    train(models[1], optimizers[1], data[STEPS:], captured[1])
    assert_same_training((models[1], optimizers[1]), (reference, optimizer), assert_close)


def test_a_checkpoint_of_a_promoted_optimizer(
    small, batches, capture_training, assert_close, tmp_path
):
    StaticCaptureTraining.reset_state()
    data = data_of(batches, 2 * STEPS)
    reference = small().eval()
    optimizer = ADAM(reference.parameters(), lr=0.01)
    plain_loop(reference, optimizer, data)
    model = small().eval()
    promoted = ADAM(model.parameters(), lr=0.01)
    captured_loop(model, promoted, data[:STEPS], capture_training)
    save_checkpoint(str(tmp_path), model, promoted, epoch=1)
    for captured in (True, False):
        model = small().eval()
        loaded = ADAM(model.parameters(), lr=0.5)
        load_checkpoint(str(tmp_path), model, loaded, device="cuda")
        if captured:
            captured_loop(model, loaded, data[STEPS:], capture_training)
        else:
            plain_loop(model, loaded, data[STEPS:])
        assert_same_training((model, loaded), (reference, optimizer), assert_close)


@pytest.mark.parametrize("other", ["eager step", "second capture", "capture that forbids it"])
@pytest.mark.parametrize("name", ["Adam", "SGD momentum"])
def test_the_optimizer_is_used_elsewhere_too(
    name, other, small, batches, capture_training, assert_close
):
    data = data_of(batches, 2 * STEPS)
    reference = small().eval()
    optimizer = OPTIMIZERS[name](reference.parameters())
    plain_loop(reference, optimizer, data)

    model = small().eval()
    mine = OPTIMIZERS[name](model.parameters())
    step = capture_training(model, mine)(lambda x, y: mse_loss(model(x), y))
    elsewhere = capture_training(model, mine, promote_optimizer=other == "second capture")(
        lambda x, y: mse_loss(model(x), y)
    )
    for number, (x, y) in enumerate(data):
        if number % 2 == 0:
            step(x, y)
        elif other == "eager step":
            plain_loop(model, mine, [(x, y)])
        else:
            elsewhere(x, y)
    assert step.replays() >= STEPS - 5
    assert_same_training((model, mine), (reference, optimizer), assert_close)


def test_parameters_that_join_later(small, batches, capture_training, assert_close):
    """A state that is made when others exist already."""
    results = []
    for captured in (True, False):
        body, heads = small().eval(), [small().eval(), small().eval()]
        parameters = [p for part in (body, *heads) for p in part.parameters()]
        optimizer = ADAM(parameters, lr=0.01)
        step = capture_training(body, optimizer, use_graphs=captured)(
            lambda x, y, head, body=body, heads=heads: mse_loss(body(x) + heads[head](x), y)
        )
        order = [0] * 6 + [1] * 6 + [0, 1] * 4
        losses = [step(x, y, head) for head, (x, y) in zip(order, batches(20), strict=True)]
        assert not captured or step.replays() >= 10
        results.append(torch.stack(losses))
    assert_close(*results)


class Spectral(torch.nn.Module):
    """A model with complex weights."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(4, dtype=torch.complex64))

    def forward(self, x):
        return (self.weight * x).abs().sum(1, keepdim=True)


def test_complex_parameters_are_promoted_to_capturable(gpu, batches, capture_training):
    make = Module.from_torch(Spectral, ModelMetaData(name="Spectral", cuda_graphs=True))
    models = [make().to(gpu), make().to(gpu)]
    optimizers = [ADAM(model.parameters(), lr=0.01) for model in models]
    expected = plain_loop(models[0], optimizers[0], data_of(batches))
    got, replays = captured_loop(models[1], optimizers[1], data_of(batches), capture_training)
    assert replays == STEPS - 3
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_a_promotion_that_is_forbidden(small, batches, capture_training, caplog):
    model = small()
    optimizer = ADAM(model.parameters(), lr=0.01)
    options = {"promote_optimizer": False}
    _, replays = captured_loop(model, optimizer, data_of(batches), capture_training, **options)
    assert replays == STEPS - 3
    assert "stays outside the CUDA graph: Adam reads its state on the host" in caplog.text
    assert {entry["step"].device.type for entry in optimizer.state.values()} == {"cpu"}
