# SPDX-License-Identifier: Apache-2.0
"""What captured calls promise of arguments, results and surroundings, each as a check."""

import random
from itertools import pairwise
from types import SimpleNamespace

import torch
from torch import Tensor

from physicsnemo.utils import StaticCaptureEvaluateNoGrad
from tools.gpu.capture_common import batches, close, inner, log, require, small
from tools.gpu.capture_models import MODELS, batches_of


def _check_replays_draw_new_dropout_masks() -> None:
    model = small(dropout=0.5)
    step = StaticCaptureEvaluateNoGrad(model, use_amp=False, cuda_graph_warmup=2)(model)
    x = next(batches())[0]
    outputs = [step(x) for _ in range(8)]
    require(step.replays() == 6, f"{step.replays()} replays")
    require(not any(torch.equal(a, b) for a, b in pairwise(outputs)), "two masks are equal")


def _check_outputs_of_an_evaluation_can_be_kept() -> None:
    model = MODELS["FNO"].build().cuda().eval()
    evaluate = StaticCaptureEvaluateNoGrad(
        model, use_amp=False, cuda_graph_warmup=2, compile=False
    )(lambda x: {"y": [model(x), None, 3]})
    inputs = [x for x, _ in batches_of("FNO", 8)]
    outputs = [evaluate(x) for x in inputs]
    require(evaluate.replays() == 6, f"{evaluate.replays()} replays")
    with torch.no_grad():
        for x, output in zip(inputs, outputs, strict=True):
            close(output["y"][0], model(x), "an output")


def _check_compiled_evaluation_is_replayed() -> None:
    model = small().eval()
    evaluate = StaticCaptureEvaluateNoGrad(model, use_amp=False, cuda_graph_warmup=2, compile=True)(
        lambda x: model(x)
    )
    for x, _ in batches(6):
        with torch.no_grad():
            close(evaluate(x), model(x), "an output")
    require(evaluate.replays() == 4, f"{evaluate.replays()} replays")


def _check_changing_number_is_seen() -> None:
    model = small().eval()
    with log() as texts:
        evaluate = StaticCaptureEvaluateNoGrad(model, use_amp=False, cuda_graph_warmup=2)(
            lambda x, number: x * number
        )
        for number in range(40):
            close(evaluate(torch.ones(2, device="cuda"), number), number * torch.ones(2).cuda(), "")
    require(evaluate.replays() == 0, "a stale number may have been used")
    require(any("args[1] changes from" in text for text in texts), f"no such warning: {texts}")


def _check_number_in_a_closure_is_seen() -> None:
    model = small().eval()
    settings, weight = {"power": 1}, 2.0

    def helper(x: Tensor) -> Tensor:
        return weight * x ** settings["power"]

    evaluate = StaticCaptureEvaluateNoGrad(model, use_amp=False, cuda_graph_warmup=2)(
        lambda x: helper(x)
    )
    x = torch.full((2,), 3.0, device="cuda")
    for weight, settings["power"] in ((2.0, 1), (5.0, 1), (5.0, 2)):
        for _ in range(5):
            close(evaluate(x), weight * x ** settings["power"], "a stale number")
    require(evaluate.replays() == 9, f"{evaluate.replays()} replays")


def _check_tensor_in_a_closure_is_seen() -> None:
    model = small().eval()
    mask = torch.ones(2, device="cuda")
    evaluate = StaticCaptureEvaluateNoGrad(model, use_amp=False, cuda_graph_warmup=2)(
        lambda x: x * mask
    )
    x = torch.full((2,), 3.0, device="cuda")
    for factor in (1, 2):
        mask = torch.full((2,), float(factor), device="cuda")
        for _ in range(5):
            close(evaluate(x), factor * x, "a stale tensor")
    require(evaluate.replays() == 6, f"{evaluate.replays()} replays")


def _check_attribute_and_mode_of_the_model_are_seen() -> None:
    model = small()
    evaluate = StaticCaptureEvaluateNoGrad(model, use_amp=False, cuda_graph_warmup=2)(model)
    x = next(batches())[0]
    for factor, training in ((1.0, False), (2.0, False), (2.0, True), (1.0, False)):
        inner(model).factor = factor
        model.train(training)
        for _ in range(5):
            got = evaluate(x)
            if not training:
                with torch.no_grad():
                    close(got, model(x), "a stale attribute")
    require(evaluate.replays() >= 12, f"{evaluate.replays()} replays")


def _check_exchanged_weights_are_seen() -> None:
    model = small().eval()
    evaluate = StaticCaptureEvaluateNoGrad(model, use_amp=False, cuda_graph_warmup=2)(model)
    x = next(batches())[0]
    for round_ in range(3):
        for _ in range(4):
            with torch.no_grad():
                close(evaluate(x), model(x), "stale weights")
        for parameter in model.parameters():
            parameter.data = torch.randn_like(parameter) * (round_ + 1)


def _check_shapes_and_memory_of_inputs_may_change() -> None:
    model = small().eval()
    evaluate = StaticCaptureEvaluateNoGrad(model, use_amp=False, cuda_graph_warmup=2)(model)
    same = next(batches())[0]
    kept = []
    for _ in range(5):
        same.add_(1.0)
        with torch.no_grad():
            close(evaluate(same), model(same), "a stale input")
    for size in (8, 3, 8, 5, 3):
        for x, _ in batches(4, size):
            kept.append(x)
            with torch.no_grad():
                close(evaluate(x), model(x), "a stale input")
    require(evaluate.replays() >= 15, f"{evaluate.replays()} replays")


def _check_kinds_of_calls_are_bounded() -> None:
    model = small().eval()
    evaluate = StaticCaptureEvaluateNoGrad(model, use_amp=False, cuda_graph_warmup=1)(model)
    with log() as texts:
        for size in range(2, 42):
            for x, _ in batches(3, size):
                evaluate(x)
    require(any("more than 16 kinds" in text for text in texts), f"no such warning: {texts}")


def _check_functions_among_the_arguments_are_no_others() -> None:
    evaluate = StaticCaptureEvaluateNoGrad(small().eval(), use_amp=False, cuda_graph_warmup=2)(
        lambda x, function: function(x)
    )
    x = torch.ones(2, device="cuda")
    for number in range(8):
        close(evaluate(x, lambda y, number=number: number * y), number * x, "of another function")


def _check_results_that_cannot_be_copied_are_new() -> None:
    with log() as texts:
        evaluate = StaticCaptureEvaluateNoGrad(small().eval(), use_amp=False, cuda_graph_warmup=2)(
            lambda x: SimpleNamespace(y=2 * x)
        )
        results = [evaluate(torch.full((2,), float(n), device="cuda")) for n in range(8)]
    for number, result in enumerate(results):
        close(result.y, torch.full((2,), 2.0 * number).cuda(), "a result")
    require(any("cannot be copied" in text for text in texts), f"no such warning: {texts}")


def _check_inference_mode_is_replayed() -> None:
    model = small().eval()
    evaluate = StaticCaptureEvaluateNoGrad(model, use_amp=False, cuda_graph_warmup=2)(
        lambda x: model(x.add_(1.0))
    )
    with torch.inference_mode():
        for x, _ in batches(8):
            expected = model(x + 1)
            close(evaluate(x.clone()), expected, "an output")
    require(evaluate.replays() == 6, f"{evaluate.replays()} replays")


def _check_step_that_draws_on_the_host_runs_eagerly() -> None:
    model = small().eval()
    with log() as texts:
        evaluate = StaticCaptureEvaluateNoGrad(model, use_amp=False, cuda_graph_warmup=2)(
            lambda x: x * random.random()
        )
        random.seed(0)
        got = [float(evaluate(torch.ones(1, device="cuda"))) for _ in range(6)]
    random.seed(0)
    close(got, [random.random() for _ in range(6)], "the draws")
    require(any("random numbers on the host" in text for text in texts), f"{texts}")


def _check_inputs_on_the_host_run_eagerly() -> None:
    model = small().eval()
    with log() as texts:
        evaluate = StaticCaptureEvaluateNoGrad(model, use_amp=False, cuda_graph_warmup=2)(
            lambda x: model(x.cuda())
        )
        for x, _ in batches(6):
            with torch.no_grad():
                close(evaluate(x.cpu()), model(x), "an output")
    require(any("args[0] is on cpu" in text for text in texts), f"no such warning: {texts}")


def _check_input_that_is_written_to_is_written() -> None:
    model = small().eval()
    evaluate = StaticCaptureEvaluateNoGrad(model, use_amp=False, cuda_graph_warmup=2)(
        lambda x: x.add_(1.0).sum()
    )
    for _ in range(6):
        x = torch.zeros(4, device="cuda")
        close(evaluate(x), torch.tensor(4.0).cuda(), "the output")
        close(x, torch.ones(4).cuda(), "the input")


def _check_autocast_around_the_loop_keeps_no_stale_weights() -> None:
    model = small().eval()
    evaluate = StaticCaptureEvaluateNoGrad(model, use_amp=True, cuda_graph_warmup=2)(model)
    x = next(batches())[0]
    with torch.autocast("cuda", torch.float16):
        for _ in range(6):
            model(x)  # fills the cache of cast weights
            evaluate(x)
            with torch.no_grad():
                inner(model).head.weight.add_(1.0)
            torch.clear_autocast_cache()
            with torch.no_grad():
                close(evaluate(x), model(x), "stale weights", 1e-2)
