# SPDX-License-Identifier: Apache-2.0
"""Captured steps on a CPU; GPU checks run them on CUDA."""

import copy
import gc
import logging
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch

from physicsnemo import ModelMetaData, Module
from physicsnemo.core.capture.decorator import _why_no_graphs
from physicsnemo.utils import StaticCaptureEvaluateNoGrad, StaticCaptureTraining
from physicsnemo.utils.capture import _StaticCapture


class Net(torch.nn.Module):
    def __init__(self, meta=None):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.Tanh(), torch.nn.Linear(8, 1)
        )

    def forward(self, x):
        return self.layers(x)


@pytest.fixture(autouse=True)
def _fresh_state():
    _StaticCapture.reset_state()
    yield
    _StaticCapture.reset_state()


def make(**flags):
    torch.manual_seed(0)
    return Module.from_torch(Net, ModelMetaData(**flags))()


def batches(count=12):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        x = torch.randn(5, 3, generator=generator)
        yield x, x.sum(dim=1, keepdim=True)


def optimizer_of(model):
    return torch.optim.AdamW(model.parameters(), lr=0.01)


def train_reference(model, dtype=None):
    optimizer, losses = optimizer_of(model), []
    for x, y in batches():
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is not None):
            loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def train_captured(model, **options):
    @StaticCaptureTraining(model=model, optim=optimizer_of(model), **options)
    def step(x, y):
        return torch.nn.functional.mse_loss(model(x), y)

    return torch.stack([step(x, y) for x, y in batches()])


def test_autocast_is_bfloat16_where_the_metadata_allows_it():
    model = make(amp=True)
    twin = copy.deepcopy(model)
    losses = train_captured(model)
    assert torch.equal(losses, train_reference(twin, dtype=torch.bfloat16))
    assert not torch.equal(losses, train_reference(make()))


def test_autocast_is_off_where_the_metadata_does_not_allow_it(caplog):
    with caplog.at_level(logging.WARNING, "physicsnemo.capture"):
        losses = train_captured(make())
    assert torch.equal(losses, train_reference(make()))
    assert "does not set amp_cpu" in caplog.text


def test_loss_may_be_kept_and_has_no_graph():
    losses = train_captured(make(), use_amp=False)
    assert not losses.requires_grad
    assert len(losses.unique()) == len(losses)


class Output(NamedTuple):
    prediction: torch.Tensor
    loss: torch.Tensor


@pytest.mark.parametrize(
    ("wrap", "find"),
    [
        (lambda loss, x: loss, lambda result: result),
        (lambda loss, x: (loss, x), lambda result: result[0]),
        (lambda loss, x: [[loss], x], lambda result: result[0][0]),
        (lambda loss, x: {"x": x, "loss": loss}, lambda result: result["loss"]),
        (lambda loss, x: {"x": x, "loss": (loss, 3)}, lambda result: result["loss"][0]),
        (lambda loss, x: Output(x, loss), lambda result: result.loss),
        (lambda loss, x: SimpleNamespace(x=x, loss=loss), lambda result: result.loss),
    ],
)
def test_the_loss_is_found_among_results(wrap, find):
    model = make()

    @StaticCaptureTraining(model=model, optim=optimizer_of(model), use_amp=False)
    def step(x, y):
        output = model(x)
        return wrap(torch.nn.functional.mse_loss(output, y), output.sum())

    results = [step(x, y) for x, y in batches()]
    losses = torch.stack([find(result).detach() for result in results])
    assert torch.equal(losses, train_reference(make()))
    assert type(results[0]) is type(wrap(torch.ones(()), None))


@pytest.mark.parametrize(
    ("result", "got"),
    [
        (3.0, "float"),
        (None, "NoneType"),
        ((), "tuple"),
        ({"x": 1}, "dict"),
        ({"loss": 3.0}, "float"),
        (torch.ones(()), r"a tensor of shape \(\), requires_grad=False"),
        (torch.ones(2, requires_grad=True), r"a tensor of shape \(2,\), requires_grad=True"),
    ],
)
def test_a_step_must_return_the_loss(result, got):
    model = make()
    step = StaticCaptureTraining(model, optimizer_of(model), use_amp=False)(lambda: result)
    with pytest.raises(ValueError, match=f"must return the loss, one number .*; got {got}"):
        step()


@pytest.mark.parametrize("steps", [0, -1, 1.5])
def test_accumulation_is_a_whole_number(steps):
    model = make()
    with pytest.raises(ValueError, match=f"accumulation_steps must be a whole .*, got {steps}"):
        StaticCaptureTraining(model, optimizer_of(model), accumulation_steps=steps)


def test_verify_is_a_number_of_replays():
    with pytest.raises(ValueError, match="verify must be a number of replays from 0 on, got -1"):
        StaticCaptureEvaluateNoGrad(make(), verify=-1)


def test_sharded_and_distributed_models_have_no_graphs():
    """A device other than CUDA never has them, so the reason is asked for by itself."""
    model = make(cuda_graphs=True)
    assert _why_no_graphs(model, model, model.meta) is None
    assert "does not set cuda_graphs" in _why_no_graphs(model, model, ModelMetaData())
    model.inner_model.register_buffer("elsewhere", torch.zeros(1, device="meta"))
    assert "are on cpu, meta" in _why_no_graphs(model, model, model.meta)
    wrapper = type("Wrapper", (torch.nn.Module,), {"__module__": "torch.distributed.fsdp.x"})()
    wrapper.module = model
    assert "sharded or quantized" in _why_no_graphs(wrapper, model, model.meta)


def test_gradients_of_parameters_outside_the_optimizer_do_not_pile_up():
    model = make()
    head = list(model.parameters())[-2:]
    optimizer = torch.optim.SGD(head, lr=0.0)
    step = StaticCaptureTraining(model, optimizer, use_amp=False)(lambda x: model(x).sum())
    x = torch.ones(4, 3)
    step(x)
    first = next(model.parameters()).grad.clone()
    step(x)
    assert torch.equal(next(model.parameters()).grad, first)


def test_evaluation_has_no_gradient_and_any_output():
    model = make().eval()

    @StaticCaptureEvaluateNoGrad(model=model, use_amp=False)
    def evaluate(x, scale=1.0):
        return {"y": [scale * model(x)]}

    x = torch.ones(4, 3)
    output = evaluate(x, scale=2.0)["y"][0]
    assert not output.requires_grad
    assert torch.equal(output, 2 * model(x).detach())


def test_evaluation_keeps_gradients_of_training():
    model = make()
    model(torch.ones(4, 3)).sum().backward()
    before = [p.grad.clone() for p in model.parameters()]
    StaticCaptureEvaluateNoGrad(model, use_amp=False)(model.forward)(torch.ones(4, 3))
    for parameter, gradient in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter.grad, gradient)


@pytest.mark.parametrize("decorator", ["training", "evaluation"])
def test_compiled_function_is_called(decorator, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function: compiled.append(function) or function)
    model = make()
    if decorator == "training":
        capture = StaticCaptureTraining(model, optimizer_of(model), use_amp=False, compile=True)
    else:
        capture = StaticCaptureEvaluateNoGrad(model, use_amp=False, compile=True)

    def step(x):
        return model(x).sum()

    capture(step)(torch.ones(4, 3))
    assert compiled == [step]


def test_compiled_training_equals_eager():
    losses = train_captured(make(), use_amp=False, compile=True)
    torch.testing.assert_close(losses, train_reference(make()))


def test_one_decorator_serves_two_functions():
    model = make()
    capture = StaticCaptureEvaluateNoGrad(model, use_amp=False)
    first, second = capture(lambda x: x + 1), capture(lambda x: x + 2)
    assert first(torch.zeros(1)).item() == 1
    assert second(torch.zeros(1)).item() == 2


def test_wrapper_around_a_model_is_unwrapped():
    class Wrapper(torch.nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

    model = make()
    assert StaticCaptureEvaluateNoGrad(Wrapper(model), use_amp=False).model is model


@pytest.mark.parametrize("model", [torch.nn.Linear(1, 1), torch.nn.Sequential()])
def test_plain_torch_models_are_refused(model):
    with pytest.raises(ValueError, match="Model not a PhysicsNeMo Module! Got .*from_torch"):
        StaticCaptureEvaluateNoGrad(model)


def test_unknown_amp_type():
    with pytest.raises(ValueError, match=r"must be torch.float16 or torch.bfloat16, got torch.f"):
        StaticCaptureEvaluateNoGrad(make(), amp_type=torch.float64)


def test_scaler_states_by_label():
    model = make()
    captures = [
        StaticCaptureTraining(model, optimizer_of(model), use_amp=False, label=label)
        for label in (None, "mine", None)
    ]
    assert list(StaticCaptureTraining.state_dict()) == ["mine", "scaler_0", "scaler_1"]
    assert [capture.label for capture in captures] == ["scaler_0", "mine", "scaler_1"]


def test_scalers_do_not_outlive_their_capture():
    model = make()
    StaticCaptureTraining(model, optimizer_of(model), use_amp=False)
    gc.collect()
    assert StaticCaptureTraining.state_dict() == {}


def test_scaler_state_waits_for_its_capture():
    state = torch.amp.GradScaler("cpu", init_scale=64.0).state_dict()
    model = make()
    first = StaticCaptureTraining(model, optimizer_of(model), use_amp=False, label="first")
    first.scaler = torch.amp.GradScaler("cpu")
    StaticCaptureTraining._scalers.add(first.scaler, "first", first.logger)
    StaticCaptureTraining.load_state_dict({"first": state, "later": state})
    assert first.scaler.get_scale() == 64.0
    later = torch.amp.GradScaler("cpu")
    StaticCaptureTraining._scalers.add(later, "later", first.logger)
    assert later.get_scale() == 64.0


def test_scaler_state_that_does_not_fit():
    scaler = torch.amp.GradScaler("cpu")
    StaticCaptureTraining._scalers.add(scaler, "mine", logging.getLogger("physicsnemo.capture"))
    with pytest.raises(ValueError, match="the state of the gradient scaler 'mine' is not valid"):
        StaticCaptureTraining.load_state_dict({"mine": {"scale": 1.0}})


def test_arguments_may_be_any_nesting():
    model = make()

    @StaticCaptureTraining(model=model, optim=optimizer_of(model), use_amp=False)
    def step(batch, *, weight=1.0):
        return weight * torch.nn.functional.mse_loss(model(batch["x"][0]), batch["y"])

    x, y = next(batches())
    loss = step({"x": [x, None], "y": y}, weight=2.0)
    expected = train_reference(make())[0]
    torch.testing.assert_close(loss, 2 * expected)


async def coroutine(x):
    return x


async def asynchronous(x):
    yield x


class Generates:
    def __call__(self, x):
        yield x


@pytest.mark.parametrize(
    "function",
    [lambda x: (yield x), coroutine, asynchronous, Generates(), partial(coroutine, 1)],
    ids=["generator", "coroutine", "asynchronous generator", "object", "partial"],
)
def test_functions_that_run_after_their_call_are_refused(function):
    model = make()
    for capture in (
        StaticCaptureEvaluateNoGrad(model=model, use_amp=False),
        StaticCaptureTraining(model=model, optim=optimizer_of(model), use_amp=False),
    ):
        with pytest.raises(TypeError, match="must be a function that runs when it is called"):
            capture(function)


def test_a_generator_as_result_is_refused():
    model = make()

    @StaticCaptureEvaluateNoGrad(model=model, use_amp=False)
    def evaluate(x):
        return (model(part) for part in x)

    with pytest.raises(TypeError, match="its code would run later, with other gradients"):
        evaluate(torch.ones(2, 3))


class Carrier(dict):
    """As outputs of other libraries are: items that are attributes, too."""

    def __init__(self, **items):
        super().__init__(items)
        vars(self).update(items)


@pytest.mark.parametrize("kind", [SimpleNamespace, Carrier])
@pytest.mark.parametrize("inside", [False, True])
def test_objects_with_a_loss_keep_no_graph(kind, inside):
    model, kept = make(), []

    @StaticCaptureTraining(model=model, optim=optimizer_of(model), use_amp=False)
    def step(x):
        output = model(x)
        kept.append(kind(loss=output.sum(), parts=[output], more=kind(output=output), model=model))
        return (output.sum(), kept[-1]) if inside else kept[-1]

    result = step(torch.ones(2, 3))
    result = result[1] if inside else result
    assert type(result) is kind
    assert not result.loss.requires_grad
    assert not result.parts[0].requires_grad
    assert not result.more.output.requires_grad
    assert result.model is model
    assert kept[0].loss.requires_grad  # the caller's own is as it was
    if kind is Carrier:
        assert not result["loss"].requires_grad
        assert not result["more"]["output"].requires_grad


def test_clipping_covers_all_parameters_of_the_optimizer():
    model, factor = make(), torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([*model.parameters(), factor], lr=0.1)

    @StaticCaptureTraining(model=model, optim=optimizer, use_amp=False, gradient_clip_norm=0.5)
    def step(x):
        return 100 * model(factor * x).square().sum()

    step(torch.ones(2, 3))
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    torch.testing.assert_close(norm, torch.tensor(0.5), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    "options",
    [
        *({"gradient_clip_norm": value} for value in (-1, -1.0, 0, float("nan"))),
        *({"cuda_graph_warmup": value} for value in (-1, float("nan"))),
        *({"accumulation_steps": value} for value in (-1, float("nan"))),
        {"verify": float("nan")},
    ],
)
def test_numbers_out_of_range_are_refused_at_construction(options):
    model = make()
    [name] = options
    with pytest.raises(ValueError, match=f"{name} must be a .*, got"):
        StaticCaptureTraining(model=model, optim=optimizer_of(model), use_amp=False, **options)


def test_optimizers_that_need_a_closure_are_refused_at_construction():
    model = make()
    with pytest.raises(ValueError, match="LBFGS needs a closure"):
        StaticCaptureTraining(model=model, optim=torch.optim.LBFGS(model.parameters()))
