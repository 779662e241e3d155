# SPDX-License-Identifier: Apache-2.0
"""What captured training steps promise beside speed, each as a check that fails with a text."""

from collections import deque
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from physicsnemo import Module
from physicsnemo.core.errors import CaptureError
from physicsnemo.utils import StaticCaptureEvaluateNoGrad
from tools.gpu.capture_common import WARMUP, batches, close, log, require, sgd, small, training


def _check_results_beside_the_loss_are_returned() -> None:
    model = small()

    @training(model)
    def step(x: Tensor, y: Tensor) -> dict[str, Any]:
        output = model(x)
        return {"loss": mse_loss(output, y), "output": output, "size": len(x)}

    results = [step(x, y) for x, y in batches()]
    require(step.replays() == 9, f"{step.replays()} replays")
    for (_, y), result in zip(batches(), results, strict=True):
        close(result["loss"], mse_loss(result["output"], y), "the loss of an output")
        require(not result["output"].requires_grad and result["size"] == 8, "wrong results")


@dataclass
class Sample:
    """A nest that is no container."""

    x: Tensor
    rest: dict[str, Any]


def _check_arguments_may_be_nested() -> None:
    model, twin = small(), small()

    def loss(model: Module, sample: Sample) -> Tensor:
        error = mse_loss(model(sample.x), sample.rest["y"][0])
        return error * float(sample.rest["weight"])

    @training(model)
    def step(sample: Sample) -> Tensor:
        return loss(model, sample)

    optimizer = sgd(twin)
    for x, y in batches():
        sample = Sample(x, {"y": (y, None), "weight": 2.0})
        optimizer.zero_grad()
        expected = loss(twin, sample)
        expected.backward()
        optimizer.step()
        close(step(sample), expected.detach(), "a loss")
    require(step.replays() == 9, f"{step.replays()} replays")


def _check_users_error_is_shown_and_survived() -> None:
    for failing in (1, WARMUP + 1, WARMUP + 3):
        model, twin = small(), small()

        @training(model)
        def step(x: Tensor, y: Tensor, good: bool, model: Module = model) -> Tensor:
            if not good:
                raise KeyError("of the user")
            return mse_loss(model(x), y)

        optimizer = sgd(twin)
        for number, (x, y) in enumerate(batches(), start=1):
            if number == failing:
                try:
                    step(x, y, good=False)
                except KeyError as error:
                    require(error.__context__ is None, "another error hides the user's")
                else:
                    raise AssertionError("no error")
            optimizer.zero_grad()
            expected = mse_loss(twin(x), y)
            expected.backward()
            optimizer.step()
            close(step(x, y, good=True), expected.detach(), "a loss after the error")
        require(step.replays() == 9, f"{step.replays()} replays")


def _check_users_error_while_recording_is_survived() -> None:
    model, twin = small(), small()
    broken = deque([False])  # the inside of which is not watched

    @training(model)
    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = mse_loss(model(x) + torch.rand_like(y) * 0, y)
        if broken[0]:
            raise KeyError("of the user")
        return loss

    optimizer = sgd(twin)
    for number, (x, y) in enumerate(batches()):
        if number == WARMUP:  # the call that records
            broken[0] = True
            try:
                step(x, y)
            except KeyError as error:
                require(error.__context__ is None, "another error hides the user's")
            else:
                raise AssertionError("no error")
            broken[0] = False
            model.load_state_dict(twin.state_dict())
        optimizer.zero_grad()
        expected = mse_loss(twin(x), y)
        expected.backward()
        optimizer.step()
        close(step(x, y), expected.detach(), "a loss after the error")
    require(step.replays() >= 6, f"{step.replays()} replays")


def _check_step_that_waits_for_the_device_runs_eagerly() -> None:
    model, twin = small(dropout=0.5), small(dropout=0.5)
    history: deque[float] = deque(maxlen=1)

    def loss(model: Module, x: Tensor, y: Tensor) -> Tensor:
        value = mse_loss(model(x), y)
        history.append(value.item())
        return value

    with log() as texts:
        step = training(model)(lambda x, y: loss(model, x, y))
        optimizer = sgd(twin)
        torch.manual_seed(3)
        losses = [step(x, y) for x, y in batches()]
        torch.manual_seed(3)
        for (x, y), got in zip(batches(), losses, strict=True):
            optimizer.zero_grad()
            expected = loss(twin, x, y)
            expected.backward()
            optimizer.step()
            close(got, expected.detach(), "a loss")
    require(any("cannot be recorded" in text for text in texts), f"no such warning: {texts}")
    require(step.replays() == 0, "it cannot have been replayed")
    evaluate = StaticCaptureEvaluateNoGrad(model, use_amp=False, cuda_graph_warmup=2)(model)
    outputs = [evaluate(x) for _ in range(8)]
    require(evaluate.replays() == 6, f"{evaluate.replays()} replays after a failed recording")
    require(not any(map(torch.equal, outputs, outputs[1:])), "two masks are equal")


def _check_evaluation_between_training_steps() -> None:
    model, twin = small(), small()
    step = training(model)(lambda x, y: mse_loss(model(x), y))
    evaluate = StaticCaptureEvaluateNoGrad(model, use_amp=False, cuda_graph_warmup=2)(model)
    optimizer = sgd(twin)
    for x, y in batches():
        optimizer.zero_grad()
        expected = mse_loss(twin.train()(x), y)
        expected.backward()
        optimizer.step()
        model.train()
        close(step(x, y), expected.detach(), "a loss")
        model.eval()
        with torch.no_grad():
            close(evaluate(x), twin.eval()(x), "an evaluation")
    require(step.replays() == 9 and evaluate.replays() == 10, "not replayed")
    for mine, theirs in zip(model.buffers(), twin.buffers(), strict=True):
        if mine.numel():
            close(mine.float(), theirs.float(), "statistics of batch normalization")


def _check_verification_accepts_a_good_step_and_finds_a_bad_one() -> None:
    hidden = deque([1.0])  # the inside of which is not watched
    for good in (True, False):
        model = small(dropout=0.3)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
        step = training(model, optimizer, verify=4)(
            lambda x, y, model=model: hidden[0] * mse_loss(model(x), y)
        )
        try:
            for x, y in batches(10):
                step(x, y)
                hidden[0] += 0.0 if good else 1.0
        except CaptureError as error:
            require(not good, f"a good step is refused: {error}")
        else:
            require(good, "a stale number was not found")
            require(step.replays() == 7, f"{step.replays()} replays")


def _check_gradients_can_be_read_after_a_step() -> None:
    model, twin = small(), small()
    step = training(model, torch.optim.SGD(model.parameters(), lr=0.0, fused=True))(
        lambda x, y: mse_loss(model(x), y)
    )
    for x, y in batches():
        step(x, y)
        twin.zero_grad()
        mse_loss(twin(x), y).backward()
        for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
            require(mine.grad is not None and theirs.grad is not None, "no gradient")
            close(mine.grad, theirs.grad, "a gradient")
    require(step.replays() == 9, f"{step.replays()} replays")


def _check_gradients_of_other_kinds_of_calls_are_dropped() -> None:
    results = []
    for captured in (True, False):
        heads = [small(), small()]
        parameters = [p for head in heads for p in head.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=0.01)  # stays outside the graph
        step = training(heads[0], optimizer, use_graphs=captured)(
            lambda x, y, head, heads=heads: mse_loss(heads[head](x), y)
        )
        order = [0] * 5 + [1] * 5 + [0, 1, 1, 0, 0, 1, 0, 1, 1, 0]
        losses = [step(x, y, head) for head, (x, y) in zip(order, batches(20), strict=True)]
        require(not captured or step.replays() == 14, f"{step.replays()} replays")
        results.append(torch.stack(losses))
    close(results[0], results[1], "losses")


def _check_accumulation_mixes_recorded_and_eager_calls() -> None:
    results = []
    for captured in (True, False):
        model = small()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
        step = training(model, optimizer, use_graphs=captured, accumulation_steps=3)(
            lambda x, y, model=model: mse_loss(model(x), y)
        )
        evaluate = StaticCaptureEvaluateNoGrad(model, use_amp=False, cuda_graph_warmup=2)(model)
        losses = []
        for number in range(60):
            *_, (x, y) = batches(number + 1, size=(8, 8, 8, 8, 5)[number % 5])
            losses.append(step(x, y))
            model.eval()
            evaluate(x)  # writes to memory that all recordings share
            model.train()
        require(not captured or step.replays() > 20, f"{step.replays()} replays")
        results.append(torch.stack(losses))
    close(results[0], results[1], "losses")


def _check_verification_leaves_no_trace() -> None:
    results = []
    for verify in (False, 100):
        model = small()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
        step = training(
            model, optimizer, accumulation_steps=3, verify=verify, gradient_clip_norm=0.1
        )(lambda x, y, model=model: mse_loss(model(x), y))
        results.append(torch.stack([step(x, y) for x, y in batches(30)]))
        require(step.replays() == 21, f"{step.replays()} replays")
    close(results[0], results[1], "losses")
