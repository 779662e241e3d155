# SPDX-License-Identifier: Apache-2.0
"""Captured training of real models on a GPU equals a plain loop, and launches one graph a step."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from physicsnemo import Module
from physicsnemo.models.fno import FNO
from physicsnemo.models.mlp import FullyConnected
from physicsnemo.utils import StaticCaptureEvaluateNoGrad, StaticCaptureTraining
from tools.bench.unet import UNet

pytestmark = pytest.mark.gpu

STEPS = 50
WARMUP = 5
TOLERANCE = 1e-4  # relative, of each step's loss
PROFILED = 5
SYNCHRONIZING = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


@dataclass(frozen=True)
class Example:
    """A model, the shapes of its input and output, and whether it runs under autocast."""

    build: Callable[[], Module]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    amp: bool


MODELS = {
    "UNet": Example(UNet, (4, 1, 32, 32), (4, 1, 16, 16), amp=True),
    "FullyConnected": Example(partial(FullyConnected, 32, 128, 32), (256, 32), (256, 32), amp=True),
    "FNO": Example(
        partial(FNO, 1, 1, latent_channels=16, num_fno_modes=8, padding=3),
        *((4, 1, 32, 32), (4, 1, 32, 32)),
        amp=False,
    ),
}
OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, lr=1e-2, momentum=0.9),
    "fused sgd": partial(torch.optim.SGD, lr=1e-2, momentum=0.9, fused=True),
    "adam": partial(torch.optim.Adam, lr=1e-3),
    "fused adam": partial(torch.optim.Adam, lr=1e-3, fused=True),
    "capturable adam": partial(torch.optim.Adam, lr=1e-3, capturable=True),
    "adamw": partial(torch.optim.AdamW, lr=1e-3),
    "fused adamw": partial(torch.optim.AdamW, lr=1e-3, fused=True),
    "capturable adamw": partial(torch.optim.AdamW, lr=1e-3, capturable=True),
}

PROMOTED = ("sgd", "adam", "adamw")


@dataclass(frozen=True)
class Setting:
    """How one training runs."""

    model: str
    optimizer: str = "fused adam"
    amp_type: torch.dtype | None = None
    clip: float | None = None
    accumulation: int = 1
    schedule: bool = False
    dropout: bool = False
    in_place: bool = False
    compile: bool = False

    def __str__(self) -> str:
        parts = [self.model, self.optimizer, str(self.amp_type or "float32").removeprefix("torch.")]
        if self.accumulation > 1:
            parts.append(f"accumulation of {self.accumulation}")
        flags = {"clip": self.clip, "schedule": self.schedule, "dropout": self.dropout}
        flags |= {"in place": self.in_place, "compile": self.compile}
        return ", ".join([*parts, *(name for name, on in flags.items() if on)])


def settings() -> Iterator[Setting]:
    """Yield what is compared with a plain loop."""
    for model in MODELS:
        plain = Setting(model)
        yield from (replace(plain, optimizer=optimizer) for optimizer in OPTIMIZERS)
        yield replace(plain, clip=0.1)
        yield replace(plain, accumulation=3, clip=0.1)
        yield replace(plain, schedule=True)
        yield replace(plain, schedule=True, optimizer="adam")
        yield replace(plain, in_place=True)
        yield replace(plain, compile=True)
        if not MODELS[model].amp:
            continue
        for amp_type, clip in product((torch.float16, torch.bfloat16), (None, 0.1)):
            for optimizer in ("sgd", "fused sgd", "adam", "fused adamw", "capturable adam"):
                yield replace(plain, amp_type=amp_type, clip=clip, optimizer=optimizer)
        yield replace(plain, amp_type=torch.float16, accumulation=2, clip=0.1, schedule=True)
        yield replace(plain, amp_type=torch.float16, accumulation=2, optimizer="adamw")
        yield replace(plain, amp_type=torch.bfloat16, compile=True)
    for amp in (None, torch.float16):
        yield Setting("UNet", dropout=True, amp_type=amp)
        yield Setting("FullyConnected", "capturable adamw", dropout=True, amp_type=amp)


def whole_steps() -> Iterator[Setting]:
    """Yield all optimizers: the whole step is in the graph."""
    for model, optimizer, clip in product(MODELS, OPTIMIZERS, (None, 0.1)):
        for amp_type in (None, torch.float16, torch.bfloat16) if MODELS[model].amp else (None,):
            yield Setting(model, optimizer, amp_type, clip)


@pytest.fixture(autouse=True)
def _deterministic_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two plain loops differ as well."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


@pytest.mark.parametrize("setting", list(settings()), ids=str)
def test_captured_training_equals_a_plain_loop(setting: Setting, gpu: torch.device) -> None:
    losses = []
    for train in (train_plainly, train_captured):
        torch.manual_seed(0)
        model = MODELS[setting.model].build().to(gpu)
        losses.append(torch.stack(train(setting, model)).double().cpu())
    expected, got = losses
    error = ((got - expected).abs() / expected.abs().clamp_min(1e-6)).max()
    assert error <= TOLERANCE


@pytest.mark.parametrize("optimizer", PROMOTED)
@pytest.mark.parametrize("name", MODELS)
def test_promoted_optimizers_are_those_of_the_caller(
    name: str, optimizer: str, gpu: torch.device
) -> None:
    """In double precision, where rounding does not grow, a plain loop with it ends alike."""
    setting, losses = Setting(name, optimizer), []
    for promote in (False, True):
        torch.manual_seed(0)
        model = MODELS[name].build().to(gpu, torch.float64)
        own = make_optimizer(setting, model)
        step = StaticCaptureTraining(
            model,
            own,
            use_amp=False,
            cuda_graph_warmup=WARMUP,
            promote_optimizer=promote,
            use_graphs=promote,
        )(partial(loss_of, setting, model))
        batches = batches_of(name, gpu, STEPS)
        losses.append(torch.stack([step(x.double(), y.double()) for x, y in batches]))
        assert step.replays() == (STEPS - WARMUP) * promote
    torch.testing.assert_close(*losses, rtol=1e-8, atol=0)


@pytest.mark.parametrize("setting", list(whole_steps()), ids=str)
def test_a_replayed_step_launches_one_graph_and_never_waits(
    setting: Setting, gpu: torch.device
) -> None:
    model = MODELS[setting.model].build().to(gpu)
    step = capture(setting, model, make_optimizer(setting, model))
    batches = list(batches_of(setting.model, gpu, WARMUP + 3 + PROFILED))
    for batch in batches[:-PROFILED]:
        step(*batch)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
            for batch in batches[-PROFILED:]:
                step(*batch)
        names = [event.name for event in profiler.events()]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert names.count("cudaGraphLaunch") == PROFILED
    # The profiler itself waits once, when it stops.
    assert sum(name in SYNCHRONIZING for name in names) <= 1
    assert not [name for name in names if name.startswith("Memcpy DtoH")]


@pytest.mark.parametrize("name", MODELS)
def test_outputs_of_an_evaluation_can_be_kept(name: str, gpu: torch.device) -> None:
    torch.manual_seed(0)
    model = MODELS[name].build().to(gpu).eval()
    evaluate = StaticCaptureEvaluateNoGrad(
        model, use_amp=False, cuda_graph_warmup=2, compile=False
    )(lambda x: {"y": [model(x), None, 3]})
    inputs = [x for x, _ in batches_of(name, gpu, 8)]
    outputs = [evaluate(x)["y"][0] for x in inputs]
    assert evaluate.replays() == 6
    with torch.no_grad():
        for x, output in zip(inputs, outputs, strict=True):
            expected = model(x)
            assert (output - expected).abs().max() <= 1e-4 * expected.abs().max()


def train_plainly(setting: Setting, model: Module) -> list[Tensor]:
    """Train with a loop that uses no decorator.

    After its first step, its optimizer is the one that a captured step promotes to: in float16,
    bfloat16 and TF32 another rounding of weights grows within fifty steps to more than the
    tolerance.
    """
    optimizer = make_optimizer(setting, model)
    advance = scheduler(setting, optimizer)
    scaler = torch.amp.GradScaler(model.device.type, enabled=setting.amp_type is torch.float16)
    compute = torch.compile(loss_of) if setting.compile else loss_of
    losses = []
    for number, (x, y) in enumerate(batches_of(setting.model, model.device, STEPS)):
        if number % setting.accumulation == 0:
            optimizer.zero_grad()
        with torch.autocast(
            model.device.type, setting.amp_type, enabled=setting.amp_type is not None
        ):
            loss = compute(setting, model, x, y)
        scaler.scale(loss / setting.accumulation).backward()
        losses.append(loss.detach())
        if (number + 1) % setting.accumulation == 0:
            if setting.clip is not None:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(model.parameters(), setting.clip)
            scaler.step(optimizer)
            scaler.update()
            advance()
            # A scaler's optimizers are fused, too, if they are made for recordings.
            if setting.optimizer in PROMOTED or (
                scaler.is_enabled() and setting.optimizer.startswith("capturable")
            ):
                make_fused(optimizer)
    return losses


def make_fused(optimizer: torch.optim.Optimizer) -> None:
    """Let the steps that follow be those of the fused implementation."""
    optimizer.load_state_dict(
        {
            "state": optimizer.state_dict()["state"],
            "param_groups": [
                group | {"fused": True, "foreach": False}
                for group in optimizer.state_dict()["param_groups"]
            ],
        }
    )
    optimizer._step_supports_amp_scaling = True  # type: ignore[attr-defined]


def train_captured(setting: Setting, model: Module) -> list[Tensor]:
    """Train with the decorator, on new tensors at each step or on the same ones."""
    optimizer = make_optimizer(setting, model)
    advance = scheduler(setting, optimizer)
    step = capture(setting, model, optimizer)
    buffers: tuple[Tensor, Tensor] | None = None
    losses = []
    for number, batch in enumerate(batches_of(setting.model, model.device, STEPS)):
        if setting.in_place:
            buffers = buffers or (torch.empty_like(batch[0]), torch.empty_like(batch[1]))
            batch = (buffers[0].copy_(batch[0]), buffers[1].copy_(batch[1]))
        losses.append(step(*batch))
        if (number + 1) % setting.accumulation == 0:
            advance()
    assert step.replays() >= STEPS - (WARMUP + 1) * min(setting.accumulation, 3)
    return losses


def capture(setting: Setting, model: Module, optimizer: torch.optim.Optimizer) -> Any:
    """Return the captured step of a setting."""
    capturing = StaticCaptureTraining(
        model=model,
        optim=optimizer,
        use_amp=setting.amp_type is not None,
        amp_type=setting.amp_type or torch.float16,
        gradient_clip_norm=setting.clip,
        compile=setting.compile,
        cuda_graph_warmup=WARMUP,
        accumulation_steps=setting.accumulation,
    )

    @capturing
    def step(x: Tensor, y: Tensor) -> Tensor:
        return loss_of(setting, model, x, y)

    return step


def loss_of(setting: Setting, model: Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the mean square error, with dropout before the model if the setting says so."""
    if setting.dropout:
        x = torch.nn.functional.dropout(x, 0.3)
    return torch.nn.functional.mse_loss(model(x), y)


def make_optimizer(setting: Setting, model: Module) -> torch.optim.Optimizer:
    """Return an optimizer of two groups of parameters, with different learning rates.

    Optimizers that are capturable but not fused round differently with a tensor as the learning
    rate. A graph needs one, so the plain loop has one as well.
    """
    parameters = list(model.parameters())
    make = OPTIMIZERS[setting.optimizer]
    rates = [2e-3, make.keywords["lr"]]
    if "capturable" in make.keywords:
        rates = [torch.tensor(rate, device=model.device) for rate in rates]
    first, rest = parameters[:2], parameters[2:]
    return make([{"params": first, "lr": rates[0]}, {"params": rest, "lr": rates[1]}])


def scheduler(setting: Setting, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Return what changes the learning rates after a step."""
    if not setting.schedule:
        return lambda: None
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.97).step


def batches_of(model: str, device: torch.device, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the same random inputs and targets each time."""
    generator = torch.Generator(device).manual_seed(1)
    shapes = MODELS[model].inputs, MODELS[model].outputs
    for _ in range(count):
        x, y = (torch.randn(shape, device=device, generator=generator) for shape in shapes)
        yield x, y
