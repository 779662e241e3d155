# SPDX-License-Identifier: Apache-2.0
"""What captured training steps promise of optimizers and gradient scalers, on a GPU."""

import copy

import pytest
import torch
from torch.nn.functional import mse_loss

from physicsnemo.utils import StaticCaptureTraining

pytestmark = pytest.mark.gpu

WARMUP = 3


@pytest.fixture
def same_losses(small, batches, capture_training, assert_close):
    """Train with graphs and without; compare the losses, and return the number of replays."""

    def compare(make_optimizer, steps, after=lambda number, optimizer: None):
        results = []
        for captured in (False, True):
            model = small()
            optimizer, advance = make_optimizer(model)
            step = capture_training(model, optimizer, use_graphs=captured)(
                lambda x, y, model=model: mse_loss(model(x), y)
            )
            losses = []
            for number, (x, y) in enumerate(batches(steps)):
                losses.append(step(x, y))
                advance()
                after(number, optimizer)
            results.append(torch.stack(losses))
        assert_close(results[1], results[0])
        return step.replays()

    return compare


def fused(kind):
    """Make an optimizer that a CUDA graph can hold, and nothing to do after a step."""
    return lambda model: (kind(model.parameters(), lr=0.01, fused=True), lambda: None)


def test_a_momentum_that_changes_keeps_the_optimizer_outside(same_losses):
    def cycle(model):
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=40)
        return optimizer, schedule.step

    assert same_losses(cycle, steps=30) > 10


def test_a_setting_of_the_optimizer_is_seen(same_losses):
    def change(number, optimizer):
        if number == 9:
            optimizer.param_groups[0]["weight_decay"] = 5.0

    same_losses(fused(torch.optim.AdamW), steps=20, after=change)


def test_the_state_of_the_optimizer_may_be_replaced(same_losses):
    def replace(number, optimizer):
        if number == 10:
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        if number == 20:
            optimizer.state.clear()

    replays = same_losses(fused(torch.optim.Adam), steps=30, after=replace)
    assert replays == 30 - 3 * WARMUP


@pytest.mark.parametrize(
    ("options", "promote"),
    [
        ({"fused": True}, True),
        ({"capturable": True}, True),
        ({"capturable": True}, False),
        ({}, True),
    ],
    ids=str,
)
def test_an_overflow_skips_the_step_in_the_graph(
    options, promote, small, batches, capture_training
):
    model = small().eval()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, **options)
    capture = capture_training(model, optimizer, use_amp=True, promote_optimizer=promote)
    step = capture(lambda x, y: mse_loss(model(x), y))
    for x, y in batches(8):
        step(x, y)
    before = [p.clone() for p in model.parameters()]
    scale = capture.scaler.get_scale()
    step(torch.full_like(x, float("inf")), y)
    assert capture.scaler.get_scale() == scale / 2
    assert all(map(torch.equal, before, model.parameters()))
    assert step(x, y).isfinite()
    assert step.replays() == 7


def test_the_scaler_is_saved_and_restored(small, batches, capture_training):
    StaticCaptureTraining.reset_state()
    model = small()
    capture = capture_training(model, use_amp=True, label="mine")
    step = capture(lambda x, y: mse_loss(model(x), y))
    for x, y in batches(8):
        step(x, y)
    state = StaticCaptureTraining.state_dict()
    since_overflow = state["mine"]["_growth_tracker"]
    assert since_overflow > 0
    state["mine"]["scale"] = 32.0
    StaticCaptureTraining.load_state_dict(state)
    step(x, y)
    after = StaticCaptureTraining.state_dict()["mine"]
    assert (after["scale"], after["_growth_tracker"]) == (32.0, since_overflow + 1)


def test_no_recording_makes_the_state_of_the_optimizer(small, batches, capture_training):
    model = small().eval()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, capturable=True)
    capture = capture_training(model, optimizer, use_amp=True, cuda_graph_warmup=1)
    capture.scaler = torch.amp.GradScaler("cuda", init_scale=2.0**30)
    step = capture(lambda x, y: mse_loss(model(x), y))
    for x, y in batches(60):
        step(x, y)
    (count,) = {int(state["step"]) for state in optimizer.state.values()}
    assert 30 < count < 60
    assert 30 < step.replays() <= count
