# SPDX-License-Identifier: Apache-2.0
"""What captured training steps promise of optimizers and gradient scalers, each as a check."""

import copy
from typing import Any

import torch
from torch.nn.functional import mse_loss

from physicsnemo.utils import StaticCaptureTraining
from tools.gpu.capture_common import WARMUP, batches, close, require, small, training


def _check_changing_momentum_keeps_the_optimizer_outside() -> None:
    results = []
    for captured in (True, False):
        model = small()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=40)
        step = training(model, optimizer, use_graphs=captured)(
            lambda x, y, model=model: mse_loss(model(x), y)
        )
        losses = []
        for x, y in batches(30):
            losses.append(step(x, y))
            schedule.step()
        require(not captured or step.replays() > 10, f"{step.replays()} replays")
        results.append(torch.stack(losses))
    close(results[0], results[1], "losses")


def _check_setting_of_the_optimizer_is_seen() -> None:
    results = []
    for captured in (True, False):
        model = small()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
        step = training(model, optimizer, use_graphs=captured)(
            lambda x, y, model=model: mse_loss(model(x), y)
        )
        losses = []
        for number, (x, y) in enumerate(batches(20)):
            if number == 10:
                optimizer.param_groups[0]["weight_decay"] = 5.0
            losses.append(step(x, y))
        results.append(torch.stack(losses))
    close(results[0], results[1], "losses")


def _check_overflow_skips_the_step_in_the_graph() -> None:
    variants: list[dict[str, Any]] = [{"fused": True}, {"capturable": True}, {}]
    for options in variants:
        model = small().eval()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01, **options)
        capture = training(model, optimizer, use_amp=True)
        step = capture(lambda x, y, model=model: mse_loss(model(x), y))
        for x, y in batches(8):
            step(x, y)
        before = [p.clone() for p in model.parameters()]
        scale = capture.scaler.get_scale()
        step(torch.full_like(x, float("inf")), y)
        require(capture.scaler.get_scale() == scale / 2, "the scale was not halved")
        require(all(map(torch.equal, before, model.parameters())), "weights changed in spite of it")
        require(bool(step(x, y).isfinite()), "the next loss is not finite")
        require(step.replays() == 7, f"{step.replays()} replays")


def _check_scaler_is_saved_and_restored() -> None:
    StaticCaptureTraining.reset_state()
    model = small()
    capture = training(model, use_amp=True, label="mine")
    step = capture(lambda x, y: mse_loss(model(x), y))
    for x, y in batches(8):
        step(x, y)
    state = StaticCaptureTraining.state_dict()
    good = state["mine"]["_growth_tracker"]  # steps since the last overflow
    require(good > 0, f"{state}")
    state["mine"]["scale"] = 32.0
    StaticCaptureTraining.load_state_dict(state)
    step(x, y)
    after = StaticCaptureTraining.state_dict()["mine"]
    require((after["scale"], after["_growth_tracker"]) == (32.0, good + 1), f"{after}")


def _check_state_of_the_optimizer_may_be_replaced() -> None:
    results = []
    for captured in (True, False):
        model = small()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
        step = training(model, optimizer, use_graphs=captured)(
            lambda x, y, model=model: mse_loss(model(x), y)
        )
        losses = []
        for number, (x, y) in enumerate(batches(30)):
            losses.append(step(x, y))
            if number == 10:
                optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            if number == 20:
                optimizer.state.clear()
        require(not captured or step.replays() == 30 - 3 * WARMUP, f"{step.replays()} replays")
        results.append(torch.stack(losses))
    close(results[0], results[1], "losses")


def _check_no_recording_makes_the_optimizers_state() -> None:
    model = small().eval()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, capturable=True)
    capture = training(model, optimizer, use_amp=True, cuda_graph_warmup=1)
    capture.scaler = torch.amp.GradScaler("cuda", init_scale=2.0**30)
    step = capture(lambda x, y: mse_loss(model(x), y))
    for x, y in batches(60):
        step(x, y)
    (count,) = {int(state["step"]) for state in optimizer.state.values()}
    require(30 < count < 60, f"{count} steps of Adam")
    require(30 < step.replays() <= count, f"{step.replays()} replays in {count} steps of Adam")
