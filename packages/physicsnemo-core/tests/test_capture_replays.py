# SPDX-License-Identifier: Apache-2.0
"""Recorded training steps do what eager ones do, with a stand-in for CUDA graphs."""

import copy
from collections import deque

import pytest
import torch

from physicsnemo import ModelMetaData, Module
from physicsnemo.core.capture import training_step
from physicsnemo.core.errors import CaptureError
from physicsnemo.utils import StaticCaptureTraining

WARMUP = 3


@pytest.fixture
def pool(replays, monkeypatch):
    """The stand-in, for optimizers whose step is recorded although they are on a CPU."""
    monkeypatch.setattr(training_step, "why_outside", lambda optimizer: None)
    yield replays
    StaticCaptureTraining.reset_state()


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(3, 8, bias=False), torch.nn.BatchNorm1d(8))
        self.heads = torch.nn.ModuleList(torch.nn.Linear(8, 1) for _ in range(2))

    def forward(self, x, head=0):
        return self.heads[head](torch.tanh(self.body(x)))


def make():
    torch.manual_seed(0)
    return Module.from_torch(Net, ModelMetaData(cuda_graphs=True))()


def adam(model):
    return torch.optim.Adam(model.parameters(), lr=0.05, fused=True)


def trainer(pool, model, optimizer, function, warmup=WARMUP, scaler=None, **options):
    capture = StaticCaptureTraining(
        model, optimizer, use_amp=False, cuda_graph_warmup=warmup, **options
    )
    capture.use_graphs, capture.scaler = True, scaler or capture.scaler
    pool.parameters = list(model.parameters())
    pool.watched = [
        lambda: model.state_dict().values(),
        lambda: [p.grad for p in model.parameters() if p.grad is not None],
        lambda: [t for s in optimizer.state.values() for t in s.values() if t is not None],
        lambda: [scaler._scale, scaler._growth_tracker] if scaler else [],
    ]
    return capture(function)


def batches(count=12, size=5):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        x = torch.randn(size, 3, generator=generator)
        yield x, x.sum(dim=1, keepdim=True)


def loss_of(model, x, y, head=0):
    return torch.nn.functional.mse_loss(model(x, head), y)


def same_training(pool, calls, between=None, make_optimizer=adam, least=1, **options):
    """Train by a reference loop and captured, for calls (size, head); compare each loss."""
    results = []
    for captured in (False, True):
        model = make()
        optimizer = make_optimizer(model)
        if captured:
            step = trainer(
                pool, model, optimizer, lambda x, y, h=0, m=model: loss_of(m, x, y, h), **options
            )
        losses, cycle = [], options.get("accumulation_steps", 1)
        for number, (size, head) in enumerate(calls):
            *_, (x, y) = batches(number + 1, size)
            if captured:
                losses.append(step(x, y, head))
            else:
                if number % cycle == 0:
                    optimizer.zero_grad()
                loss = loss_of(model, x, y, head)
                (loss / cycle).backward()
                if number % cycle == cycle - 1:
                    optimizer.step()
                losses.append(loss.detach())
            if between is not None:
                between(number, model, optimizer)
        state = optimizer.state_dict()["state"]
        results.append((torch.stack(losses), dict(model.state_dict()), state))
    # A learning rate is read from a tensor of float32.
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)
    assert step.replays() >= least, f"{step.replays()} replays"


def test_training_is_replayed_after_the_warm_up(pool):
    same_training(pool, [(5, 0)] * 12, least=12 - WARMUP)


def test_cache_entries_have_their_own_recordings(pool):
    same_training(pool, [(5, 0), (4, 0), (5, 1)] * 8, least=24 - 3 * WARMUP)


@pytest.mark.parametrize("optimizer", ["inside", "outside"])
def test_a_replay_leaves_no_gradient_of_another_kind(pool, monkeypatch, optimizer):
    if optimizer == "outside":
        monkeypatch.setattr(training_step, "why_outside", lambda _: "of a test")
    same_training(pool, [(5, 0)] * 6 + [(5, 1)] * 6 + [(5, 0), (5, 1)] * 4, least=11)


@pytest.mark.parametrize("heads", ["0", "01", "001", "00001111"])
@pytest.mark.parametrize("cycle", [2, 3])
def test_accumulation_mixes_recorded_and_eager_calls(pool, heads, cycle):
    sizes = [5, 5, 5, 4, 5, 5, 5, 3]
    calls = [(sizes[i % 8], int(heads[i % len(heads)])) for i in range(60)]
    same_training(pool, calls, accumulation_steps=cycle, warmup=2, least=10)


def test_sums_of_gradients_lie_where_no_recording_writes_but_those_that_add(pool):
    """Recordings share their memory, so another one may overwrite what one has made."""
    model = make()
    step = trainer(
        pool, model, adam(model), lambda x, y: loss_of(model, x, y), accumulation_steps=2
    )
    addresses = set()
    for number, size in enumerate([5, 5, 4, 4] * 6):
        *_, (x, y) = batches(number + 1, size)
        step(x, y)
        if number % 2 == 0 and number >= 12:
            addresses.add(model.inner_model.heads[0].weight.grad.data_ptr())
    assert step.replays() == 12
    assert len(addresses) == 1


def test_gradients_dropped_between_cycles(pool):
    def between(number, model, optimizer):
        if number % 3 == 2:
            optimizer.zero_grad()

    same_training(pool, [(5, 0)] * 24, between, accumulation_steps=3, least=12)


@pytest.mark.parametrize("cycle", [1, 3])
@pytest.mark.parametrize("at", [7, 10, 15])
def test_state_of_the_optimizer_may_be_replaced(pool, at, cycle):
    def between(number, model, optimizer):
        if number == at:
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))

    same_training(pool, [(5, 0)] * 33, between, accumulation_steps=cycle, least=6, warmup=2)


def test_state_of_the_optimizer_may_be_dropped(pool):
    def between(number, model, optimizer):
        if number == 8:
            optimizer.state.clear()

    same_training(pool, [(5, 0)] * 20, between, least=10)


def test_learning_rates_and_other_settings_are_seen(pool):
    def between(number, model, optimizer):
        optimizer.param_groups[0]["lr"] *= 0.9
        if number == 8:
            optimizer.param_groups[0]["weight_decay"] = 1.0
        if number == 14:
            optimizer.param_groups[0]["lr"] = torch.tensor(0.01)
        if number == 15:
            optimizer.param_groups[0]["lr"] = 0.02

    def scheduled(model):
        return torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)

    same_training(pool, [(5, 0)] * 20, between, scheduled, least=12)


def test_settings_that_keep_changing_send_the_optimizer_outside(pool, caplog):
    def between(number, model, optimizer):
        optimizer.param_groups[0]["betas"] = (0.9 - number / 100, 0.999)

    same_training(pool, [(5, 0)] * 20, between, least=10)
    assert "its settings, besides the learning rate, keep changing" in caplog.text


def test_a_hook_added_later_is_called(pool, monkeypatch):
    monkeypatch.setattr(
        training_step, "why_outside", lambda o: "hooks" if o._optimizer_step_post_hooks else None
    )
    steps = []

    def between(number, model, optimizer):
        if number == 8:
            optimizer.register_step_post_hook(lambda *_: steps.append(number))

    same_training(pool, [(5, 0)] * 20, between, least=12)
    assert len(steps) == 2 * 11  # of the reference loop, and of the captured one


def test_no_recording_makes_the_optimizers_state(pool):
    """A scaler that skips the first steps leaves Adam without state, which is made but once."""
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=1000)
    step = trainer(
        pool, model, optimizer, lambda x, y: loss_of(model, x, y), warmup=1, scaler=scaler
    )
    before = [p.clone() for p in model.parameters()]
    x, y = next(batches())
    while all(map(torch.equal, model.parameters(), before)):
        step(100 * x, y)
        assert step.replays() == 0
    assert scaler.get_scale() < 2.0**127
    step(100 * x, y)
    assert step.replays() == 1


@pytest.mark.parametrize("cycle", [1, 3])
@pytest.mark.parametrize("optimizer", ["inside", "outside"])
def test_a_replay_check_leaves_no_trace(pool, monkeypatch, cycle, optimizer):
    if optimizer == "outside":
        monkeypatch.setattr(training_step, "why_outside", lambda _: "of a test")
    same_training(pool, [(5, 0)] * 30, accumulation_steps=cycle, verify=20, least=18)


@pytest.mark.parametrize("what", ["loss", "number", "gradient", "statistics"])
def test_a_replay_check_finds_what_cannot_be_watched(pool, what):
    """The stand-in runs the function again, so here the eager call is the odd one."""
    model = make()
    calls = deque([0])

    def step(x, y):
        calls[0] += 1
        odd = calls[0] == WARMUP + 2  # after the call that records comes that which verifies
        output = model(x)
        loss = torch.nn.functional.mse_loss(output, y)
        if odd and what == "loss":
            loss = 2 * loss
        if odd and what == "gradient":
            output.register_hook(lambda gradient: 2 * gradient)
        if odd and what == "statistics":
            model.inner_model.body[1].running_var.data.add_(1.0)
        return loss, calls[0] if odd and what == "number" else 0

    step = trainer(pool, model, adam(model), step, verify=1)
    named = {"loss": r"result\[0\]\[0\]", "number": r"result\[0\]\[1\] is 0 instead of 5"}
    *warming_up, last = batches(WARMUP + 1)
    for x, y in warming_up:
        step(x, y)
    with pytest.raises(CaptureError, match=named.get(what, r"(state|after).* a relative error")):
        step(*last)


def test_an_error_of_a_replayed_step_is_the_users(pool):
    """Unlike a CUDA graph, the stand-in runs the function in a replay, so it may fail."""
    model = make()
    bad = deque([False])

    def step(x, y):
        if bad[0]:
            raise KeyError("of the user")
        return loss_of(model, x, y)

    optimizer = adam(model)
    step = trainer(pool, model, optimizer, step, accumulation_steps=2)
    data = list(batches(20))
    for x, y in data[:11]:
        step(x, y)
    bad[0] = True
    with pytest.raises(KeyError, match="of the user"):
        step(*data[11])
    bad[0] = False
    assert all(p.grad is None for p in model.parameters())
    before = [p.clone() for p in model.parameters()]
    step(*data[11])
    assert all(map(torch.equal, model.parameters(), before))
    step(*data[12])
    assert not all(map(torch.equal, model.parameters(), before))


def test_inputs_that_require_gradients_run_eagerly_in_training(pool, caplog):
    model = make()
    step = trainer(pool, model, adam(model), lambda x: model(x).sum())
    for _ in range(6):
        x = torch.ones(5, 3, requires_grad=True)
        step(x)
        assert x.grad is not None
    assert step.replays() == 0
    assert "args[0] requires a gradient" in caplog.text
