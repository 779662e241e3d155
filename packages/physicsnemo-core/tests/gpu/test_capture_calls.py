# SPDX-License-Identifier: Apache-2.0
"""What captured evaluations promise of arguments, results, and what is read besides, on a GPU."""

import random
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

pytestmark = pytest.mark.gpu


def test_replays_draw_new_dropout_masks(small, batches, capture_evaluation):
    model = small(dropout=0.5)
    step = capture_evaluation(model)(model)
    x = next(batches())[0]
    outputs = [step(x) for _ in range(8)]
    assert step.replays() == 6
    assert not any(torch.equal(a, b) for a, b in pairwise(outputs))


def test_outputs_of_an_evaluation_can_be_kept(small, batches, capture_evaluation, assert_close):
    model = small().eval()
    evaluate = capture_evaluation(model, compile=False)(lambda x: {"y": [model(x), None, 3]})
    inputs = [x for x, _ in batches(8)]
    outputs = [evaluate(x) for x in inputs]
    assert evaluate.replays() == 6
    with torch.no_grad():
        for x, output in zip(inputs, outputs, strict=True):
            assert_close(output["y"][0], model(x))


def test_compiled_evaluation_is_replayed(small, batches, capture_evaluation, assert_close):
    model = small().eval()
    evaluate = capture_evaluation(model, compile=True)(lambda x: model(x))
    for x, _ in batches(6):
        with torch.no_grad():
            assert_close(evaluate(x), model(x))
    assert evaluate.replays() == 4


def test_changing_number_is_seen(gpu, small, capture_evaluation, assert_close, caplog):
    evaluate = capture_evaluation(small().eval())(lambda x, number: x * number)
    x = torch.ones(2, device=gpu)
    for number in range(40):
        assert_close(evaluate(x, number), number * x)
    assert evaluate.replays() == 0
    assert "args[1] changes from" in caplog.text


def test_number_in_a_closure_is_seen(gpu, small, capture_evaluation, assert_close):
    settings, weight = {"power": 1}, 2.0

    def helper(x):
        return weight * x ** settings["power"]

    evaluate = capture_evaluation(small().eval())(lambda x: helper(x))
    x = torch.full((2,), 3.0, device=gpu)
    for weight, settings["power"] in ((2.0, 1), (5.0, 1), (5.0, 2)):
        for _ in range(5):
            assert_close(evaluate(x), weight * x ** settings["power"])
    assert evaluate.replays() == 9


def test_tensor_in_a_closure_is_seen(gpu, small, capture_evaluation, assert_close):
    mask = torch.ones(2, device=gpu)
    evaluate = capture_evaluation(small().eval())(lambda x: x * mask)
    x = torch.full((2,), 3.0, device=gpu)
    for factor in (1, 2):
        mask = torch.full((2,), float(factor), device=gpu)
        for _ in range(5):
            assert_close(evaluate(x), factor * x)
    assert evaluate.replays() == 6


def test_attribute_and_mode_of_the_model_are_seen(small, batches, capture_evaluation, assert_close):
    model = small()
    evaluate = capture_evaluation(model)(model)
    x = next(batches())[0]
    for factor, training in ((1.0, False), (2.0, False), (2.0, True), (1.0, False)):
        model.inner_model.factor = factor
        model.train(training)
        for _ in range(5):
            got = evaluate(x)
            if not training:
                with torch.no_grad():
                    assert_close(got, model(x))
    assert evaluate.replays() >= 12


def test_exchanged_weights_are_seen(small, batches, capture_evaluation, assert_close):
    model = small().eval()
    evaluate = capture_evaluation(model)(model)
    x = next(batches())[0]
    for round_ in range(3):
        for _ in range(4):
            with torch.no_grad():
                assert_close(evaluate(x), model(x))
        for parameter in model.parameters():
            parameter.data = torch.randn_like(parameter) * (round_ + 1)


def test_shapes_and_memory_of_inputs_may_change(small, batches, capture_evaluation, assert_close):
    model = small().eval()
    evaluate = capture_evaluation(model)(model)
    same = next(batches())[0]
    kept = []
    for _ in range(5):
        same.add_(1.0)
        with torch.no_grad():
            assert_close(evaluate(same), model(same))
    for size in (8, 3, 8, 5, 3):
        for x, _ in batches(4, size):
            kept.append(x)  # so that no other input takes its memory
            with torch.no_grad():
                assert_close(evaluate(x), model(x))
    assert evaluate.replays() >= 15


def test_kinds_of_calls_are_bounded(small, batches, capture_evaluation, caplog):
    model = small().eval()
    evaluate = capture_evaluation(model, cuda_graph_warmup=1)(model)
    for size in range(2, 42):
        for x, _ in batches(3, size):
            evaluate(x)
    assert "more than 16 kinds" in caplog.text


def test_functions_among_the_arguments_are_no_others(gpu, small, capture_evaluation, assert_close):
    evaluate = capture_evaluation(small().eval())(lambda x, function: function(x))
    x = torch.ones(2, device=gpu)
    for number in range(8):
        assert_close(evaluate(x, lambda y, number=number: number * y), number * x)


def test_results_that_cannot_be_copied_are_new(
    gpu, small, capture_evaluation, assert_close, caplog
):
    evaluate = capture_evaluation(small().eval())(lambda x: SimpleNamespace(y=2 * x))
    results = [evaluate(torch.full((2,), float(n), device=gpu)) for n in range(8)]
    for number, result in enumerate(results):
        assert_close(result.y, torch.full((2,), 2.0 * number, device=gpu))
    assert "cannot be copied" in caplog.text


def test_inference_mode_is_replayed(small, batches, capture_evaluation, assert_close):
    model = small().eval()
    evaluate = capture_evaluation(model)(lambda x: model(x.add_(1.0)))
    with torch.inference_mode():
        for x, _ in batches(8):
            expected = model(x + 1)
            assert_close(evaluate(x.clone()), expected)
    assert evaluate.replays() == 6


def test_step_that_draws_on_the_host_runs_eagerly(
    gpu, small, capture_evaluation, assert_close, caplog
):
    evaluate = capture_evaluation(small().eval())(lambda x: x * random.random())
    random.seed(0)
    got = [float(evaluate(torch.ones(1, device=gpu))) for _ in range(6)]
    random.seed(0)
    assert_close(got, [random.random() for _ in range(6)])
    assert "random numbers on the host" in caplog.text


def test_inputs_on_the_host_run_eagerly(
    gpu, small, batches, capture_evaluation, assert_close, caplog
):
    model = small().eval()
    evaluate = capture_evaluation(model)(lambda x: model(x.cuda()))
    for x, _ in batches(6):
        with torch.no_grad():
            assert_close(evaluate(x.cpu()), model(x))
    assert "args[0] is on cpu" in caplog.text


def test_input_that_is_written_to_is_written(gpu, small, capture_evaluation, assert_close):
    evaluate = capture_evaluation(small().eval())(lambda x: x.add_(1.0).sum())
    for _ in range(6):
        x = torch.zeros(4, device=gpu)
        assert_close(evaluate(x), torch.tensor(4.0, device=gpu))
        assert_close(x, torch.ones(4, device=gpu))


def test_autocast_around_the_loop_keeps_no_stale_weights(
    gpu, small, batches, capture_evaluation, assert_close
):
    model = small().eval()
    evaluate = capture_evaluation(model, use_amp=True)(model)
    x = next(batches())[0]
    with torch.autocast(gpu.type, torch.float16):
        for _ in range(6):
            model(x)  # fills the cache of cast weights
            evaluate(x)
            with torch.no_grad():
                model.inner_model.head.weight.add_(1.0)
            torch.clear_autocast_cache()
            with torch.no_grad():
                assert_close(evaluate(x), model(x), tolerance=1e-2)
