# SPDX-License-Identifier: Apache-2.0
"""Ordinary optimizers make the steps of captured calls with an implementation for graphs."""

import copy
import logging
from functools import partial

import pytest
import torch

from physicsnemo import ModelMetaData, Module
from physicsnemo.core.capture import training_step
from physicsnemo.core.capture.promotion import Promotion
from physicsnemo.utils import StaticCaptureTraining

ADAM, ADAMW, SGD = torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD

OPTIMIZERS = [
    partial(ADAM, lr=0.05),
    partial(ADAM, lr=0.05, weight_decay=0.1, amsgrad=True),
    partial(ADAM, lr=0.05, maximize=True, foreach=True),
    partial(ADAMW, lr=0.05, weight_decay=0.1),
    partial(ADAMW, lr=0.05, amsgrad=True, maximize=True),
    partial(SGD, lr=0.05),
    partial(SGD, lr=0.05, momentum=0.9, dampening=0.5, foreach=True),
    partial(SGD, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
    partial(SGD, lr=0.05, momentum=0.9, maximize=True),
]


class OwnAdam(ADAM):
    pass


def parameter(dtype=torch.float64):
    return torch.nn.Parameter(torch.linspace(1.0, 2.0, 4).to(dtype))


def descend(optimizer, promotion=None, scaler=None, steps=range(6), overflow=()):
    """Make steps down a bowl; return the parameters."""
    scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
    for number in steps:
        optimizer.zero_grad()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        factor = float("inf") if number in overflow else 1.0 + number
        scaler.scale(factor * sum((p**4).sum() for p in parameters)).backward()
        if promotion is None:
            scaler.step(optimizer)
        else:
            promotion.choose()
            with promotion.of_step():
                scaler.step(optimizer)
        scaler.update()
    return [p.detach() for p in parameters]


def state_of(optimizer):
    return optimizer.state_dict()["state"]


@pytest.mark.parametrize(
    ("make", "dtype", "name"),
    [
        *((make, torch.float32, "fused") for make in OPTIMIZERS),
        (ADAM, torch.complex64, "capturable"),
        (SGD, torch.complex64, None),
        (partial(ADAM, fused=True), torch.float32, None),
        (partial(SGD, fused=True), torch.float32, None),
        (partial(ADAM, capturable=True), torch.float32, None),
        (partial(ADAM, fused=False), torch.float32, None),
        (partial(SGD, differentiable=True), torch.float32, None),
        (OwnAdam, torch.float32, None),
        (torch.optim.RMSprop, torch.float32, None),
    ],
)
@pytest.mark.parametrize("allowed", [True, False])
def test_ordinary_optimizers_are_promoted(make, dtype, name, allowed):
    promotion = Promotion(make([parameter(dtype)]), allowed)
    promotion.choose()
    assert promotion.name == (name if allowed else None)


@pytest.mark.parametrize(
    ("make", "dtype", "name"),
    [
        (partial(ADAM, capturable=True), torch.float32, "fused"),
        (partial(ADAMW, capturable=True, foreach=True), torch.float32, "fused"),
        (partial(ADAM, capturable=True), torch.complex64, None),
        (partial(ADAM, capturable=True, fused=False), torch.float32, None),
        (partial(ADAM, fused=True), torch.float32, None),
        (partial(torch.optim.RMSprop, capturable=True), torch.float32, None),
    ],
)
@pytest.mark.parametrize("enabled", [True, False])
def test_optimizers_that_skip_no_steps_are_promoted_where_a_scaler_asks_for_it(
    make, dtype, name, enabled
):
    optimizer = make([parameter(dtype)])
    before = dict(optimizer.param_groups[0])
    promotion = Promotion(optimizer, True, torch.amp.GradScaler("cpu", enabled=enabled))
    promotion.choose()
    assert promotion.name == (name if enabled else None)
    with promotion.bound():
        assert bool(optimizer.param_groups[0].get("fused")) == bool(
            promotion.name == "fused" or before.get("fused")
        )
    assert optimizer.param_groups[0] == before


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_promoted_optimizer_descends_as_the_plain_one(make):
    plain, promoted = make([parameter()]), make([parameter()])
    torch.testing.assert_close(descend(promoted, Promotion(promoted, True)), descend(plain))
    torch.testing.assert_close(state_of(promoted), state_of(plain))


@pytest.mark.parametrize("overflow", [(0,), (3,), (0, 1, 4)])
@pytest.mark.parametrize("make", OPTIMIZERS)
def test_overflows_skip_the_same_steps(make, overflow):
    results = []
    for promote in (True, False):
        optimizer = make([parameter()])
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)
        promotion = Promotion(optimizer, True) if promote else None
        got = descend(optimizer, promotion, scaler, overflow=overflow)
        results.append((got, state_of(optimizer), scaler.state_dict()))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_state_dict_fits_plain_and_promoted_optimizers(make):
    expected = descend(make([parameter()]), steps=range(6))
    for first, second in ((True, False), (False, True)):
        before = make([parameter()])
        (middle,) = descend(before, Promotion(before, first), steps=range(3))
        after = make([torch.nn.Parameter(middle.clone())])
        after.load_state_dict(copy.deepcopy(before.state_dict()))
        got = descend(after, Promotion(after, second), steps=range(3, 6))
        torch.testing.assert_close(got, expected)


def test_steps_of_ones_own_may_lie_between():
    plain, optimizer = ADAM([parameter()]), ADAM([parameter()])
    promotion = Promotion(optimizer, True)
    for promoted in (promotion, None, promotion, None):
        descend(optimizer, promoted, steps=range(2))
        descend(plain, steps=range(2))
    torch.testing.assert_close(state_of(optimizer), state_of(plain))


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_groups_are_the_callers_but_in_a_step(make):
    optimizer = make([{"params": [parameter()]}, {"params": [parameter()], "lr": 0.5}])
    before, notes = copy.copy(optimizer.param_groups), set(vars(optimizer))
    contents = [dict(group) for group in before]
    promotion = Promotion(optimizer, True)
    promotion.choose()

    def step():
        assert all(group["fused"] for group in optimizer.param_groups)
        raise KeyError("of the step")

    with pytest.raises(KeyError, match="of the step"), promotion.bound():
        step()
    assert optimizer.param_groups == before
    assert [dict(group) for group in before] == contents
    assert set(vars(optimizer)) == notes


def test_counts_lie_with_the_parameters():
    """A GPU is needed to read them there; that they are moved shows on any device."""
    weight = torch.nn.Parameter(torch.ones(2, device="meta"))
    optimizer = ADAM([weight])
    weight.grad = torch.ones_like(weight)
    optimizer.state[weight] = {"step": torch.tensor(3.0)}
    promotion = Promotion(optimizer, True)
    promotion.place_counts()
    assert optimizer.state[weight]["step"].device.type == "cpu"
    promotion.choose()
    promotion.place_counts()
    assert optimizer.state[weight]["step"].device.type == "meta"


@pytest.mark.parametrize(
    ("fill", "shape", "reason"),
    [
        (lambda w: setattr(w, "grad", torch.ones_like(w)), (2, 3), None),
        (lambda w: setattr(w, "grad", torch.ones(3).as_strided((1, 3), (7, 1))), (1, 3), None),
        (lambda w: setattr(w, "grad", torch.ones(3, 2).T), (2, 3), "unlike its parameters"),
        (lambda w: setattr(w, "grad", torch.eye(2, 3).to_sparse()), (2, 3), "sparse"),
    ],
    ids=["alike", "one row", "transposed", "sparse"],
)
def test_gradients_that_do_not_suit_are_left_to_the_optimizers_own(fill, shape, reason):
    results, fused = [], []
    for promote in (True, False):
        weight = torch.nn.Parameter(torch.ones(shape))
        optimizer = SGD([weight], lr=0.1)
        promotion = Promotion(optimizer, promote)
        promotion.choose()
        fill(weight)
        why = promotion.why_not()
        assert (why is None) if reason is None or not promote else (reason in why)
        with promotion.of_step():
            fused.append(optimizer.param_groups[0]["fused"])
            optimizer.step()
        results.append(weight.detach())
    assert fused == [True if reason is None else None, None]
    torch.testing.assert_close(*results)


@pytest.fixture
def capture(replays, monkeypatch):
    """Capture a step of a layer, with a stand-in for CUDA graphs that hold fused optimizers."""

    def why_outside(optimizer):
        return None if optimizer.param_groups[0]["fused"] else "of a test"

    monkeypatch.setattr(training_step, "why_outside", why_outside)

    def capture(make, **options):
        torch.manual_seed(0)
        model = Module.from_torch(torch.nn.Linear, ModelMetaData(cuda_graphs=True))(3, 1)
        optimizer = make(model.parameters())
        decorate = StaticCaptureTraining(
            model, optimizer, use_amp=False, cuda_graph_warmup=2, **options
        )
        decorate.use_graphs = True
        replays.parameters = list(model.parameters())
        replays.watched = [
            lambda: model.state_dict().values(),
            lambda: [t for s in optimizer.state.values() for t in s.values() if t is not None],
        ]
        return model, optimizer, decorate(lambda x: model(x).square().mean())

    yield capture
    StaticCaptureTraining.reset_state()


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_captured_step_promotes_once_and_says_so(capture, make, caplog):
    losses = []
    for promote in (True, False):
        _, optimizer, step = capture(make, promote_optimizer=promote)
        called = []
        own = optimizer.step.__func__

        def spy(optimizer=optimizer, own=own, called=called):
            called.append(optimizer.param_groups[0]["fused"])
            return own(optimizer)

        optimizer.step = spy
        with caplog.at_level(logging.INFO, "physicsnemo.capture"):
            losses.append(torch.stack([step(torch.ones(2, 3)) for _ in range(8)]))
        assert step.replays() == 6
        assert (True in called) is promote
        assert optimizer.param_groups[0]["fused"] is None
    assert "stays outside the CUDA graph: of a test" in caplog.text
    text = f"{type(optimizer).__name__} makes its step with its fused implementation"
    assert [text in message for message in caplog.messages].count(True) == 1
    torch.testing.assert_close(*losses)


def test_a_reason_to_stay_outside_revokes_the_promotion(capture, monkeypatch, caplog):
    monkeypatch.setattr(training_step, "why_outside", lambda optimizer: "of a test")
    _, optimizer, step = capture(ADAM)
    fused = []
    optimizer.register_step_pre_hook(
        lambda optimizer, *_: fused.append(optimizer.param_groups[0]["fused"])
    )
    for _ in range(6):
        step(torch.ones(2, 3))
    assert step.replays() == 4
    assert fused == [None] * 6
    assert "stays outside the CUDA graph: of a test" in caplog.text
