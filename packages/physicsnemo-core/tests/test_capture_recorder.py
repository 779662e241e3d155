# SPDX-License-Identifier: Apache-2.0
"""When calls are recorded and replayed, with a stand-in for CUDA graphs."""

import logging
import math
import random
import weakref
from collections import deque
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from physicsnemo import ModelMetaData, Module
from physicsnemo.utils import StaticCaptureEvaluateNoGrad, release_graphs

WARMUP = 3
OPERATIONS = [value for _, value in sorted(vars(math).items()) if callable(value)]

pytestmark = pytest.mark.usefixtures("replays")


class Normalized(torch.nn.Sequential):
    """A layer and a normalization, which keeps what it has seen."""

    def __init__(self):
        super().__init__(torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8))


def make():
    return Module.from_torch(Normalized, ModelMetaData(cuda_graphs=True))()


def evaluation(function, model=None, warmup=WARMUP, **options):
    capture = StaticCaptureEvaluateNoGrad(
        model or make().eval(), use_amp=False, cuda_graph_warmup=warmup, **options
    )
    capture.use_graphs = True
    return capture(function)


@pytest.mark.parametrize("raises", ["recording", "always"])
def test_an_error_while_recording(caplog, raises):
    """What fails only while it is recorded runs eagerly; what always fails shows its own error."""
    calls = deque([0])

    def function(x):
        calls[0] += 1
        if calls[0] == WARMUP + 1 or (raises == "always" and calls[0] == WARMUP + 2):
            raise KeyError("of the function")
        return x + 1

    step = evaluation(function)
    x = torch.zeros(2)
    for _ in range(WARMUP):
        step(x)
    if raises == "always":
        with pytest.raises(KeyError, match="of the function") as caught:
            step(x)
        assert caught.value.__context__ is None
    assert torch.equal(step(x), x + 1)
    assert torch.equal(step(x), x + 1)
    assert step.replays() == (2 if raises == "always" else 0)
    assert ("cannot be recorded: KeyError: 'of the function'" in caplog.text) == (
        raises == "recording"
    )


def test_results_may_be_kept():
    step = evaluation(lambda x: {"y": [x + 1, None, 3]})
    outputs = [step(torch.full((2,), float(n))) for n in range(10)]
    assert step.replays() == 10 - WARMUP
    for n, output in enumerate(outputs):
        assert output["y"][1:] == [None, 3]
        assert output["y"][0].tolist() == [n + 1, n + 1]


def test_graphs_are_given_back_and_recorded_again():
    """What only a recording keeps, here the input that it reads, is gone after it."""
    inputs = deque()  # which guards do not watch

    def function(x):
        inputs.append(weakref.ref(x))
        return x + 1

    step, x = evaluation(function), torch.zeros(2)
    for _ in range(WARMUP + 2):
        step(x)
    recorded = inputs[WARMUP]
    assert recorded() is not None
    release_graphs()
    assert recorded() is None
    assert step.replays() == 2
    assert all(torch.equal(step(x), x + 1) for _ in range(WARMUP + 2))
    assert step.replays() == 4


def test_process_groups_are_told_apart():
    """As in a part of a graph, which knows whom it exchanges values with."""
    step = evaluation(lambda x, group: x + group.size())
    x, groups = torch.zeros(2), [torch.distributed.ProcessGroup(0, size) for size in (2, 3)]
    for group in groups:
        for _ in range(WARMUP + 2):
            assert torch.equal(step(x, group), x + group.size())
    assert step.replays() == 4


@pytest.mark.parametrize("same_first", [True, False])
def test_tensors_may_be_the_same_or_new_ones(same_first):
    step = evaluation(lambda x: 2 * x)
    same = torch.zeros(2)
    for number in range(20):
        x = same.fill_(number) if (number < 10) == same_first else torch.full((2,), float(number))
        assert step(x).tolist() == [2 * number] * 2
    assert step.replays() == 20 - WARMUP


def test_an_input_that_is_written_to_is_written():
    step = evaluation(lambda x: x.add_(1.0).sum(), verify=2)
    for _ in range(8):
        x = torch.zeros(4)
        assert step(x) == 4
        assert x.tolist() == [1.0] * 4
    assert step.replays() == 8 - WARMUP


def test_inference_mode():
    step = evaluation(lambda x: x.add_(1.0).sum())
    with torch.inference_mode():
        for _ in range(8):
            x = torch.zeros(4)
            assert step(x) == 4
            assert x.tolist() == [1.0] * 4
    assert step.replays() == 8 - WARMUP


@dataclass(frozen=True)
class Sample:
    x: torch.Tensor
    rest: dict[str, Any]


def test_arguments_may_be_nested():
    step = evaluation(lambda sample, *, shift: sample.x * sample.rest["weight"] + shift[0])
    for number in range(10):
        x, shift = torch.full((2,), float(number)), [torch.ones(()), None, "text"]
        sample = Sample(x, {"weight": 2.0, "none": None})
        assert step(sample, shift=shift).tolist() == [2 * number + 1] * 2
    assert step.replays() == 10 - WARMUP


@pytest.mark.parametrize("functions", ["new", "same"])
def test_functions_among_the_arguments_run_eagerly(functions, caplog):
    step = evaluation(lambda x, function: function(x))
    x = torch.ones(2)
    for number in range(8):
        assert step(x, lambda y, number=number: number * y).tolist() == [number] * 2
    assert step.replays() == 0
    assert "args[1] is a function, whose contents cannot be watched" in caplog.text
    for _ in range(8):
        step(x, torch.nn.functional.relu)
    assert step.replays() == 8 - WARMUP


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        (SimpleNamespace(y=1.0), "is a SimpleNamespace, whose contents cannot be watched"),
        ({1.0}, "is a set, whose contents cannot be watched"),
        (torch.eye(2).to_sparse(), "is a tensor of type Tensor, torch.sparse_coo"),
        (torch.zeros(2, device="meta"), "is on meta; move it to cpu before the call"),
    ],
)
def test_what_cannot_be_watched_runs_eagerly(argument, reason, caplog):
    step = evaluation(lambda x, nest: x + 1)
    for _ in range(6):
        step(torch.zeros(2), {"a": [argument]})
    assert step.replays() == 0
    assert caplog.text.count(f"without CUDA graphs: args[1]['a'][0] {reason}") == 1


def test_results_that_cannot_be_copied_run_eagerly(caplog):
    step = evaluation(lambda x: {"a": SimpleNamespace(y=2 * x)})
    outputs = [step(torch.full((1,), float(n))) for n in range(8)]
    assert [output["a"].y.item() for output in outputs] == [2.0 * n for n in range(8)]
    assert step.replays() == 0
    assert "its result['a'] is a SimpleNamespace, which cannot be copied" in caplog.text


def test_draws_on_the_host_run_eagerly(caplog):
    step = evaluation(lambda x: x * random.random())
    random.seed(0)
    got = [step(torch.ones(1)).item() for _ in range(8)]
    random.seed(0)
    assert got == pytest.approx([random.random() for _ in range(8)])
    assert step.replays() == 0
    assert "it draws random numbers on the host" in caplog.text


def test_a_number_that_changes_each_time_is_named_once(caplog):
    step = evaluation(lambda x, number: x * number)
    for number in range(40):
        assert step(torch.ones(2), number).tolist() == [number] * 2
    assert step.replays() == 0
    texts = [text for text in caplog.messages if "since it changes each time" in text]
    assert len(texts) == 1
    assert "args[1] changes from 14 to 15; pass numbers that change as tensors" in texts[0]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda x, n: ((x, [None] * n), {}), "the nesting of the arguments changes"),
        (lambda x, n: ((x.new_zeros(n), ()), {}), "args[0] changes its shape or another property"),
        (lambda x, n: ((x, ()), {"flag": n}), "kwargs['flag'] changes from 14 to 15; pass numbers"),
        (
            lambda x, n: ((x, ()), {"flag": x.new_zeros(n) if n % 2 else n}),
            "kwargs['flag'] changes from 14 to a tensor; pass a tensor each time",
        ),
        (
            lambda x, n: ((x, ()), {"flag": n if n % 2 else x.new_zeros(n)}),
            "kwargs['flag'] changes from a tensor to 15; pass a tensor each time",
        ),
        (
            lambda x, n: ((x, ()), {"flag": str(n)}),
            "kwargs['flag'] changes from '14' to '15'; pass a tensor each time, or the same object",
        ),
        (
            lambda x, n: ((x, (OPERATIONS[n],)), {}),
            f"args[1][0] changes from {OPERATIONS[14].__name__} to {OPERATIONS[15].__name__}; pass",
        ),
        (
            lambda x, n: ((x, (n if n % 2 else OPERATIONS[n],)), {}),
            f"args[1][0] changes from {OPERATIONS[14].__name__} to 15; pass a tensor each time, or",
        ),
    ],
)
def test_what_changes_is_named(change, named, caplog):
    step = evaluation(lambda x, nest, flag=0: x.sum())
    for number in range(20):
        args, kwargs = change(torch.ones(2), number)
        step(*args, **kwargs)
    assert named in caplog.text


def test_a_failing_guard_is_named(caplog):
    weight = 0.0

    def function(x):
        return weight * x

    step = evaluation(function)
    for number in range(20):
        weight = float(number)
        assert step(torch.ones(1)).item() == weight
    assert "'weight', which the step reads from outside its arguments, changes" in caplog.text
    for _ in range(8):
        assert step(torch.ones(1)).item() == weight
    assert step.replays() == 8 + 1 - WARMUP


def test_attributes_of_the_model_that_change_are_named(caplog):
    model = make().eval()
    step = evaluation(model, model)
    for number in range(20):
        model.inner_model[1].eps = 1e-5 * (number + 1)
        step(torch.ones(1, 3))
    assert "'model.inner_model.1.eps', which the step reads" in caplog.text


def test_cache_entries_are_bounded(caplog):
    step = evaluation(lambda x: x + 1, warmup=1)
    for size in range(1, 41):
        for number in range(3):
            assert step(torch.full((size,), float(number))).tolist() == [number + 1] * size
    assert step.replays() == 80
    assert caplog.text.count("more than 16 kinds of calls were recorded") == 1
    step(torch.zeros(40))
    assert step.replays() == 81
    step(torch.zeros(1))
    assert step.replays() == 81


def test_an_eager_step_replays_nothing():
    step = StaticCaptureEvaluateNoGrad(make().eval(), use_amp=False)(lambda x: x)
    for _ in range(20):
        step(torch.ones(1))
    assert step.replays() == 0


def test_recordings_are_logged(caplog):
    step = evaluation(lambda x: x)
    with caplog.at_level(logging.INFO, "physicsnemo.capture"):
        for _ in range(8):
            step(torch.ones(1))
    assert caplog.messages == ["recorded a CUDA graph after 3 calls"]


def test_a_generator_is_drawn_from_as_in_eager_calls():
    """Whichever object it is: its state counts, and is advanced."""
    step = evaluation(lambda x, generators: [torch.randn(2, generator=it) for it in generators])
    x, shared = torch.zeros(2), torch.Generator().manual_seed(7)
    for seed in range(8):
        mine, others = ([torch.Generator().manual_seed(seed)] for _ in range(2))
        got, expected = step(x, mine), [torch.randn(2, generator=it) for it in others]
        assert torch.equal(got[0], expected[0])
        assert torch.equal(mine[0].get_state(), others[0].get_state())
        step(x, [shared])
    assert step.replays() == 16 - WARMUP
    expected = torch.Generator().manual_seed(7)
    for _ in range(8):
        torch.randn(2, generator=expected)
    assert torch.equal(shared.get_state(), expected.get_state())


def test_a_replay_that_draws_is_verified():
    step = evaluation(lambda x, generator: x + torch.randn(2, generator=generator), verify=5)
    mine, other = (torch.Generator().manual_seed(3) for _ in range(2))
    for _ in range(WARMUP + 5):
        got, expected = step(torch.ones(2), mine), 1 + torch.randn(2, generator=other)
        assert torch.equal(got, expected)
    assert step.replays() == 5


def test_a_generator_that_is_passed_twice(caplog):
    step = evaluation(lambda a, b: torch.randn(2, generator=a) + torch.randn(2, generator=b))
    generator, other = (torch.Generator().manual_seed(3) for _ in range(2))
    for _ in range(WARMUP + 2):
        expected = torch.randn(2, generator=other) + torch.randn(2, generator=other)
        assert torch.equal(step(generator, generator), expected)
    assert step.replays() == 0
    assert "a generator is passed twice; pass it once" in caplog.text


def test_a_generator_that_is_passed_twice_after_others_were_not():
    step = evaluation(lambda a, b: torch.randn(2, generator=a) + torch.randn(2, generator=b))
    for seed in range(WARMUP + 2):
        mine, others = ([torch.Generator().manual_seed(seed + n) for n in (0, 9)] for _ in range(2))
        expected = torch.randn(2, generator=others[0]) + torch.randn(2, generator=others[1])
        assert torch.equal(step(*mine), expected)
    assert step.replays() == 2
    expected = torch.randn(2, generator=others[0]) + torch.randn(2, generator=others[0])
    assert torch.equal(step(mine[0], mine[0]), expected)
    assert step.replays() == 2


@pytest.mark.parametrize("other", [{1.0}, torch.eye(2).to_sparse(), torch.zeros(2, device="meta")])
def test_what_cannot_be_watched_after_what_can(other, caplog):
    step = evaluation(lambda x, nest: x + 1)
    for _ in range(2):
        for _ in range(WARMUP + 1):
            step(torch.zeros(2), [torch.zeros(2)])
        assert step(torch.zeros(2), [other]).tolist() == [1.0, 1.0]
    assert caplog.text.count("this call runs without CUDA graphs: args[1][0] is") == 1
    assert step.replays() == WARMUP + 2
