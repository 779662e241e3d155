# SPDX-License-Identifier: Apache-2.0
"""Which optimizers a recording can hold, and how it reads their learning rates."""

import copy
from functools import partial

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from physicsnemo.core.capture.optimizers import (
    LearningRates,
    OptimizerState,
    SettingsWatch,
    has_state,
    settings,
    state_tensors,
    step_if_finite,
    why_outside,
)


class OnCuda:
    """Stands for a parameter on a GPU."""

    device = torch.device("cuda")


def parameters(count=2):
    return [torch.nn.Parameter(torch.ones(2)) for _ in range(count)]


def on_cuda(optimizer):
    optimizer.param_groups[0]["params"] = [OnCuda()]
    return optimizer


ADAM, ADAMW, SGD = torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD


class OwnAdam(ADAM):
    pass


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (partial(ADAM, fused=True), None),
        (partial(ADAMW, fused=True), None),
        (partial(SGD, fused=True), None),
        (partial(ADAM, capturable=True), None),
        (partial(ADAMW, capturable=True), None),
        (ADAM, "Adam reads its state on the host; make it with fused=True"),
        (SGD, "SGD reads its state on the host"),
        (partial(ADAM, differentiable=True, capturable=True), "reads its state on the host"),
        (torch.optim.RMSprop, "RMSprop is not known to run without the host"),
        (partial(OwnAdam, fused=True), "OwnAdam is not known"),
    ],
)
def test_optimizers_inside_and_outside(make, reason):
    got = why_outside(on_cuda(make(parameters(1), lr=0.1)))
    assert got is None if reason is None else reason in got


def test_parameters_elsewhere_keep_an_optimizer_outside():
    assert "not on a CUDA device" in why_outside(SGD(parameters(), fused=True))


@pytest.mark.parametrize("kind", ["pre", "post"])
def test_hooks_keep_an_optimizer_outside(kind):
    optimizer = on_cuda(SGD(parameters(1), fused=True))
    before = settings(optimizer)
    handle = getattr(optimizer, f"register_step_{kind}_hook")(lambda *_: None)
    assert "hooks, which a replay would not call" in why_outside(optimizer)
    assert settings(optimizer) != before
    handle.remove()
    assert settings(optimizer) == before


def test_global_hooks_keep_an_optimizer_outside():
    optimizer = on_cuda(SGD(parameters(1), fused=True))
    handle = register_optimizer_step_post_hook(lambda *_: None)
    try:
        assert "hooks" in why_outside(optimizer)
    finally:
        handle.remove()
    assert why_outside(optimizer) is None


def test_a_step_of_ones_own_keeps_an_optimizer_outside():
    optimizer = on_cuda(SGD(parameters(1), fused=True))
    before = settings(optimizer)
    optimizer.step = lambda: None
    assert "the step method of SGD was replaced" in why_outside(optimizer)
    assert settings(optimizer) != before


def test_schedules_keep_no_optimizer_outside():
    optimizer = SGD(parameters(1), lr=0.1, fused=True)
    torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    assert why_outside(on_cuda(optimizer)) is None


@pytest.mark.parametrize(
    ("key", "value", "same"),
    [
        ("lr", 0.5, True),
        ("capturable", True, True),
        ("betas", (0.5, 0.999), False),
        ("weight_decay", 0.5, False),
        ("maximize", True, False),
        ("params", parameters(), False),
    ],
)
def test_settings_are_all_but_the_learning_rate(key, value, same):
    optimizer = ADAM(parameters())
    before = settings(optimizer)
    optimizer.param_groups[0][key] = value
    assert (settings(optimizer) == before) is same


CHANGES = {
    "betas": lambda o: o.param_groups[0].update(betas=(0.5, 0.999)),
    "a tensor": lambda o: o.param_groups[0].update(eps=torch.tensor(1e-8)),
    "an equal tensor": lambda o: o.param_groups[0].update(betas=(0.9, torch.tensor(0.999))),
    "a parameter": lambda o: o.param_groups[0]["params"].__setitem__(1, parameters(1)[0]),
    "one number": lambda o: o.param_groups[0]["params"].__setitem__(2, number()),
    "one more": lambda o: o.param_groups[0]["params"].append(parameters(1)[0]),
    "a group": lambda o: o.add_param_group({"params": parameters()}),
    "a hook": lambda o: o.register_step_post_hook(lambda *_: None),
    "a step": lambda o: setattr(o, "step", lambda: None),
    "all": lambda o: o.load_state_dict(ADAM([*parameters(), number()], eps=0.1).state_dict()),
}


def number():
    return torch.nn.Parameter(torch.ones(()))


@pytest.mark.parametrize("change", CHANGES)
def test_a_glance_sees_what_changes_settings(change):
    optimizer = ADAM([*parameters(), number()])
    watch = SettingsWatch(optimizer)
    before = watch.read()
    optimizer.param_groups[0]["lr"] = 0.5
    assert watch.read() is before == settings(optimizer)
    CHANGES[change](optimizer)
    after = watch.read()
    assert after == settings(optimizer) != before
    assert watch.read() is after


def test_settings_in_a_list_are_seen():
    optimizer = ADAM(parameters())
    optimizer.param_groups[0]["betas"] = [0.5, 0.999]
    watch = SettingsWatch(optimizer)
    before = watch.read()
    assert watch.read() is before
    optimizer.param_groups[0]["betas"][0] = 0.9
    assert watch.read() != before


def test_settings_that_are_tensors_are_told_apart():
    optimizer = ADAM(parameters(), lr=0.1)
    watch = SettingsWatch(optimizer)
    optimizer.param_groups[0]["eps"] = torch.tensor(1e-8)
    before = watch.read()
    assert watch.read() is before
    optimizer.param_groups[0]["eps"] = torch.tensor(1e-8)
    assert watch.read() != before


def test_a_new_group_is_another_setting():
    optimizer = ADAM(parameters())
    before = settings(optimizer)
    optimizer.add_param_group({"params": parameters()})
    assert settings(optimizer) != before


def test_learning_rates_follow_the_groups():
    optimizer = SGD([{"params": parameters(), "lr": 0.1}, {"params": []}], lr=0.2)
    rates = LearningRates(optimizer)

    def bound():
        rates.prepare()
        rates.refresh()
        with rates.bound():
            got = [group["lr"] for group in optimizer.param_groups]
        assert all(isinstance(rate, torch.Tensor) for rate in got)
        return got

    first = bound()
    assert [rate.item() for rate in first] == pytest.approx([0.1, 0.2])
    optimizer.param_groups[0]["lr"] = 0.3
    second = bound()
    assert [rate.item() for rate in second] == pytest.approx([0.3, 0.2])
    assert all(a is b for a, b in zip(first, second, strict=True))
    optimizer.param_groups[0]["lr"] = torch.tensor(0.4)
    assert bound()[0].item() == pytest.approx(0.4)
    optimizer.param_groups[0]["lr"] = 0.3
    assert bound()[0].item() == pytest.approx(0.3)
    optimizer.add_param_group({"params": parameters(), "lr": 0.5})
    assert [rate.item() for rate in bound()] == pytest.approx([0.3, 0.2, 0.5])


@pytest.mark.parametrize("capturing", [True, False])
def test_the_groups_get_their_own_back(capturing, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing)
    optimizer = ADAM([{"params": parameters(), "lr": 0.1}, {"params": parameters()}], lr=0.2)
    before = [dict(group) for group in optimizer.param_groups]
    rates = LearningRates(optimizer)
    rates.prepare()

    def step():
        assert [group["capturable"] for group in optimizer.param_groups] == [capturing] * 2
        raise KeyError("of the step")

    with pytest.raises(KeyError, match="of the step"), rates.bound():
        step()
    assert optimizer.param_groups == before


@pytest.mark.parametrize(
    "make", [partial(ADAM, fused=True), partial(SGD, momentum=0.9, fused=True)]
)
def test_a_step_with_bound_rates_is_the_same(make):
    results = []
    for bind in (False, True):
        torch.manual_seed(0)
        model = torch.nn.Linear(2, 2)
        optimizer = make(model.parameters(), lr=0.5, fused=True)
        rates = LearningRates(optimizer)
        rates.prepare()
        rates.refresh()
        for _ in range(5):
            model(torch.ones(2, 2)).square().sum().backward()
            if bind:
                with rates.bound():
                    optimizer.step()
            else:
                optimizer.step()
        results.append(list(model.parameters()))
    torch.testing.assert_close(*results)


def test_state_exists_after_the_first_step():
    used, unused = parameters()
    optimizer = ADAM([used, unused])
    used.grad = torch.ones(2)
    assert not has_state(optimizer)
    optimizer.step()
    assert has_state(optimizer)
    unused.grad = torch.ones(2)
    assert not has_state(optimizer)


def test_state_of_sgd_is_its_momentum():
    with_momentum, without = parameters()
    optimizer = SGD([{"params": [without]}, {"params": [with_momentum], "momentum": 0.9}], lr=0.1)
    without.grad = torch.ones(2)
    assert has_state(optimizer)
    with_momentum.grad = torch.ones(2)
    assert not has_state(optimizer)
    optimizer.step()
    assert has_state(optimizer)
    assert [tensor.tolist() for tensor in state_tensors(optimizer)] == [[1.0, 1.0]]


REPLACED = {
    "all": lambda o: o.load_state_dict(copy.deepcopy(o.state_dict())),
    "nothing left": lambda o: o.state.clear(),
    "a moment": lambda o: first_state(o).update(exp_avg=torch.zeros(2)),
    "an equal count": lambda o: first_state(o).update(step=first_state(o)["step"].clone()),
    "a name": lambda o: first_state(o).pop("exp_avg_sq"),
}


def first_state(optimizer):
    return optimizer.state[optimizer.param_groups[0]["params"][0]]


@pytest.mark.parametrize("change", REPLACED)
def test_state_that_was_replaced_is_gone(change):
    used, unused = parameters()
    optimizer = ADAM([used, unused])
    used.grad = torch.ones(2)
    optimizer.step()
    state, twin = OptimizerState(optimizer), OptimizerState(optimizer)
    unused.grad = torch.ones(2)
    optimizer.step()  # which makes state of another parameter
    assert state.is_there()
    assert state == twin
    REPLACED[change](optimizer)
    assert not state.is_there()
    assert state != OptimizerState(optimizer)


@pytest.mark.parametrize("make", [ADAM, partial(ADAM, fused=True), partial(SGD, fused=True)])
@pytest.mark.parametrize("unscaled", [True, False])
@pytest.mark.parametrize("overflow", [True, False])
def test_a_step_is_skipped_when_gradients_overflowed(make, unscaled, overflow):
    """As a gradient scaler does that asks the device."""
    results = []
    for step in (step_if_finite, lambda optimizer, scaler: scaler.step(optimizer)):
        parameter = torch.nn.Parameter(torch.ones(2))
        optimizer = make([parameter], lr=0.5)
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        for factor in (1.0, float("inf") if overflow else 2.0, 3.0):
            optimizer.zero_grad()
            scaler.scale((factor * parameter**2).sum()).backward()
            if unscaled:
                scaler.unscale_(optimizer)
            step(optimizer, scaler)
            scaler.update()
        results.append((parameter.detach(), scaler.get_scale(), state_tensors(optimizer)))
    assert results[0][1] == (2.0 if overflow else 4.0)
    torch.testing.assert_close(*results)


def test_a_step_without_a_scaler():
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    step_if_finite(SGD([parameter], lr=0.5), torch.amp.GradScaler("cpu", enabled=False))
    assert parameter.tolist() == [0.5, 0.5]
