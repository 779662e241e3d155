# SPDX-License-Identifier: Apache-2.0
"""Captured training steps on a GPU: results, errors, gradients and verification."""

import gc
from collections import deque
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from physicsnemo import Module
from physicsnemo.core.errors import CaptureError

pytestmark = pytest.mark.gpu

WARMUP = 3


class Reference:
    """The same training without capture, one batch a call."""

    def __init__(self, model: Module) -> None:
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.01, fused=True)

    def step(self, compute: Any, *arguments: Any) -> Tensor:
        self.optimizer.zero_grad()
        loss = compute(self.model, *arguments)
        loss.backward()
        self.optimizer.step()
        return loss.detach()


def loss_of(model: Module, x: Tensor, y: Tensor) -> Tensor:
    return mse_loss(model(x), y)


def test_results_beside_the_loss_are_returned(small, batches, capture_training, assert_close):
    model = small()

    @capture_training(model)
    def step(x, y):
        output = model(x)
        return {"loss": mse_loss(output, y), "output": output, "size": len(x)}

    results = [step(x, y) for x, y in batches()]
    assert step.replays() == 9
    for (_, y), result in zip(batches(), results, strict=True):
        assert_close(result["loss"], mse_loss(result["output"], y))
        assert not result["output"].requires_grad
        assert result["size"] == 8


@dataclass
class Sample:
    """A nest that is no container."""

    x: Tensor
    rest: dict[str, Any]


def test_arguments_may_be_nested(small, batches, capture_training, assert_close):
    model, reference = small(), Reference(small())

    def loss(model, sample):
        error = mse_loss(model(sample.x), sample.rest["y"][0])
        return error * float(sample.rest["weight"])

    @capture_training(model)
    def step(sample):
        return loss(model, sample)

    for x, y in batches():
        sample = Sample(x, {"y": (y, None), "weight": 2.0})
        expected = reference.step(loss, sample)
        assert_close(step(sample), expected)
    assert step.replays() == 9


@pytest.mark.parametrize("failing", [1, WARMUP + 1, WARMUP + 3])
def test_an_error_of_the_step_is_shown_and_survived(
    failing, small, batches, capture_training, assert_close
):
    model, reference = small(), Reference(small())

    @capture_training(model)
    def step(x, y, good):
        if not good:
            raise KeyError("of the user")
        return mse_loss(model(x), y)

    for number, (x, y) in enumerate(batches(), start=1):
        if number == failing:
            with pytest.raises(KeyError, match="of the user") as raised:
                step(x, y, good=False)
            assert raised.value.__context__ is None
        expected = reference.step(loss_of, x, y)
        assert_close(step(x, y, good=True), expected)
    assert step.replays() == 9


def test_recordings_that_are_garbage_do_not_disturb_the_next(small, batches, capture_training):
    """Freeing a CUDA graph while another is recorded would end that recording."""
    model = small()
    for _ in range(3):
        cycle = [capture_training(model)(lambda x, y: loss_of(model, x, y))]
        cycle.append(cycle)
        for x, y in batches():
            cycle[0](x, y)
        del cycle

    @capture_training(model)
    def step(x, y):
        garbage = [[] for _ in range(1000)]  # which makes the collector run
        return mse_loss(model(x), y) + 0 * len(garbage)

    threshold = gc.get_threshold()
    gc.set_threshold(10, 1, 1)
    try:
        for x, y in batches():
            step(x, y)
    finally:
        gc.set_threshold(*threshold)
    assert step.replays() == 9


def test_an_error_while_recording_is_survived(small, batches, capture_training, assert_close):
    model, reference = small(), Reference(small())
    broken = deque([False])  # the inside of which is not watched

    @capture_training(model)
    def step(x, y):
        loss = mse_loss(model(x) + torch.rand_like(y) * 0, y)
        if broken[0]:
            raise KeyError("of the user")
        return loss

    for number, (x, y) in enumerate(batches()):
        if number == WARMUP:  # the call that records
            broken[0] = True
            with pytest.raises(KeyError, match="of the user") as raised:
                step(x, y)
            assert raised.value.__context__ is None
            broken[0] = False
            model.load_state_dict(reference.model.state_dict())
        expected = reference.step(loss_of, x, y)
        assert_close(step(x, y), expected)
    assert step.replays() >= 6


def test_a_step_that_waits_for_the_device_runs_eagerly(
    small, batches, capture_training, capture_evaluation, assert_close, caplog
):
    model, reference = small(dropout=0.5), Reference(small(dropout=0.5))
    history = deque(maxlen=1)

    def loss(model, x, y):
        value = mse_loss(model(x), y)
        history.append(value.item())
        return value

    step = capture_training(model)(lambda x, y: loss(model, x, y))
    torch.manual_seed(3)
    losses = [step(x, y) for x, y in batches()]
    torch.manual_seed(3)
    for (x, y), got in zip(batches(), losses, strict=True):
        assert_close(got, reference.step(loss, x, y))
    assert "cannot be recorded" in caplog.text
    assert step.replays() == 0

    evaluate = capture_evaluation(model)(model)
    outputs = [evaluate(x) for _ in range(8)]
    assert evaluate.replays() == 6
    assert not any(map(torch.equal, outputs, outputs[1:]))


def test_evaluation_between_training_steps(
    small, batches, capture_training, capture_evaluation, assert_close
):
    model, reference = small(), Reference(small())
    step = capture_training(model)(lambda x, y: mse_loss(model(x), y))
    evaluate = capture_evaluation(model)(model)
    for x, y in batches():
        reference.model.train()
        expected = reference.step(loss_of, x, y)
        model.train()
        assert_close(step(x, y), expected)
        model.eval()
        with torch.no_grad():
            assert_close(evaluate(x), reference.model.eval()(x))
    assert (step.replays(), evaluate.replays()) == (9, 10)
    for mine, theirs in zip(model.buffers(), reference.model.buffers(), strict=True):
        if mine.numel():
            assert_close(mine.float(), theirs.float())


def train_verified(factor, growth, small, batches, capture_training):
    """Train with a factor of the loss that grows and is not watched; verify four replays."""
    model = small(dropout=0.3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    step = capture_training(model, optimizer, verify=4)(
        lambda x, y: factor[0] * mse_loss(model(x), y)
    )
    for x, y in batches(10):
        step(x, y)
        factor[0] += growth
    return step.replays()


def test_verification_accepts_a_good_step(small, batches, capture_training):
    factor = deque([1.0])
    assert train_verified(factor, 0.0, small, batches, capture_training) == 7


def test_verification_finds_a_stale_number(small, batches, capture_training):
    factor = deque([1.0])  # the inside of which is not watched
    with pytest.raises(CaptureError):
        train_verified(factor, 1.0, small, batches, capture_training)


def test_gradients_can_be_read_after_a_step(small, batches, capture_training, assert_close):
    model, twin = small(), small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, fused=True)
    step = capture_training(model, optimizer)(lambda x, y: mse_loss(model(x), y))
    for x, y in batches():
        step(x, y)
        twin.zero_grad()
        mse_loss(twin(x), y).backward()
        for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
            assert_close(mine.grad, theirs.grad)
    assert step.replays() == 9


@pytest.mark.parametrize("promote", [True, False], ids=["inside", "outside"])
def test_gradients_of_other_kinds_of_calls_are_dropped(
    promote, small, batches, capture_training, assert_close
):
    results = []
    for captured in (True, False):
        heads = [small(), small()]
        parameters = [p for head in heads for p in head.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=0.01)
        options = {"use_graphs": captured, "promote_optimizer": promote}
        step = capture_training(heads[0], optimizer, **options)(
            lambda x, y, head, heads=heads: mse_loss(heads[head](x), y)
        )
        order = [0] * 5 + [1] * 5 + [0, 1, 1, 0, 0, 1, 0, 1, 1, 0]
        losses = [step(x, y, head) for head, (x, y) in zip(order, batches(20), strict=True)]
        assert step.replays() == 14 * captured
        results.append(torch.stack(losses))
    assert_close(*results)


def test_accumulation_mixes_recorded_and_eager_calls(
    small, batches, capture_training, capture_evaluation, assert_close
):
    results = []
    for captured in (True, False):
        model = small()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
        step = capture_training(model, optimizer, use_graphs=captured, accumulation_steps=3)(
            lambda x, y, model=model: mse_loss(model(x), y)
        )
        evaluate = capture_evaluation(model)(model)
        losses = []
        for number in range(60):
            *_, (x, y) = batches(number + 1, size=(8, 8, 8, 8, 5)[number % 5])
            losses.append(step(x, y))
            model.eval()
            evaluate(x)  # writes to memory that all recordings share
            model.train()
        assert not captured or step.replays() > 20
        results.append(torch.stack(losses))
    assert_close(*results)


def test_verification_leaves_no_trace(small, batches, capture_training, assert_close):
    results = []
    for verify in (False, 100):
        model = small()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
        options = {"accumulation_steps": 3, "gradient_clip_norm": 0.1, "verify": verify}
        step = capture_training(model, optimizer, **options)(
            lambda x, y, model=model: mse_loss(model(x), y)
        )
        results.append(torch.stack([step(x, y) for x, y in batches(30)]))
        assert step.replays() == 21
    assert_close(*results)
