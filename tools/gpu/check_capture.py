# SPDX-License-Identifier: Apache-2.0
"""Compare captured training steps on a GPU with a loop by hand, and test what capture promises.

Run it on a machine with a GPU: ``python -m tools.gpu.check_capture [WORD ...]`` runs the checks
whose name contains all words. It prints one line a check and how many passed.
"""

import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from physicsnemo import Module
from physicsnemo.utils import StaticCaptureTraining
from tools.gpu import capture_calls, capture_optimizers, capture_training
from tools.gpu.capture_common import checks_of, require
from tools.gpu.capture_models import MODELS, Batch, batches_of

STEPS = 50
WARMUP = 5
TOLERANCE = 1e-4  # relative, of each step's loss
PROFILED = 5
SYNCHRONIZING = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": partial(torch.optim.SGD, lr=1e-2, momentum=0.9),
    "fused sgd": partial(torch.optim.SGD, lr=1e-2, momentum=0.9, fused=True),
    "adam": partial(torch.optim.Adam, lr=1e-3),
    "fused adam": partial(torch.optim.Adam, lr=1e-3, fused=True),
    "capturable adam": lambda parameters: torch.optim.Adam(
        _with_tensor_rates(parameters), lr=torch.tensor(1e-3, device="cuda"), capturable=True
    ),
    "adamw": partial(torch.optim.AdamW, lr=1e-3),
    "fused adamw": partial(torch.optim.AdamW, lr=1e-3, fused=True),
    "capturable adamw": lambda parameters: torch.optim.AdamW(
        _with_tensor_rates(parameters), lr=torch.tensor(1e-3, device="cuda"), capturable=True
    ),
}
# Those that are capturable but not fused round differently with a tensor as the learning rate. A
# graph needs one, so the loop by hand has one as well.
ON_DEVICE = [name for name in OPTIMIZERS if " " in name]


@dataclass(frozen=True)
class Setting:
    """How one comparison runs."""

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
    """Yield what is compared."""
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


def by_hand(setting: Setting, model: Module) -> list[torch.Tensor]:
    """Train with a loop that uses no decorator."""
    optimizer, schedule = _optimizer(setting, model)
    scaler = torch.amp.GradScaler("cuda", enabled=setting.amp_type is torch.float16)
    compute = torch.compile(_loss) if setting.compile else _loss
    losses = []
    for number, (x, y) in enumerate(batches_of(setting.model, STEPS)):
        if number % setting.accumulation == 0:
            optimizer.zero_grad()
        with torch.autocast("cuda", setting.amp_type, enabled=setting.amp_type is not None):
            loss = compute(setting, model, x, y)
        scaler.scale(loss / setting.accumulation).backward()
        losses.append(loss.detach())
        if (number + 1) % setting.accumulation == 0:
            if setting.clip is not None:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(model.parameters(), setting.clip)
            scaler.step(optimizer)
            scaler.update()
            schedule()
    return losses


def captured(setting: Setting, model: Module) -> list[torch.Tensor]:
    """Train with the decorator, on new tensors at each step or on the same ones."""
    optimizer, schedule = _optimizer(setting, model)
    step = decorate(setting, model, optimizer)
    buffers: Batch | None = None
    losses = []
    for number, batch in enumerate(batches_of(setting.model, STEPS)):
        if setting.in_place:
            buffers = buffers or (torch.empty_like(batch[0]), torch.empty_like(batch[1]))
            batch = (buffers[0].copy_(batch[0]), buffers[1].copy_(batch[1]))
        losses.append(step(*batch))
        if (number + 1) % setting.accumulation == 0:
            schedule()
    least = STEPS - (WARMUP + 1) * min(setting.accumulation, 3)
    require(step.replays() >= least, f"only {step.replays()} of {STEPS} steps were replays")
    return losses


def decorate(setting: Setting, model: Module, optimizer: torch.optim.Optimizer) -> Any:
    """Return the captured step of a setting."""
    capture = StaticCaptureTraining(
        model=model,
        optim=optimizer,
        use_amp=setting.amp_type is not None,
        amp_type=setting.amp_type or torch.float16,
        gradient_clip_norm=setting.clip,
        compile=setting.compile,
        cuda_graph_warmup=WARMUP,
        accumulation_steps=setting.accumulation,
    )

    @capture
    def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return _loss(setting, model, x, y)

    return step


def compare(setting: Setting) -> float:
    """Return the largest relative difference of a step's loss."""
    results = []
    for train in (by_hand, captured):
        torch.manual_seed(0)
        model = MODELS[setting.model].build().cuda()
        results.append(torch.stack(train(setting, model)).double().cpu())
    expected, got = results
    return ((got - expected).abs() / expected.abs().clamp_min(1e-6)).max().item()


def launches_one_graph(setting: Setting) -> float:
    """Profile replayed steps: each launches one graph, and none waits for the device."""
    model = MODELS[setting.model].build().cuda()
    step = decorate(setting, model, _optimizer(setting, model)[0])
    batches = list(batches_of(setting.model, WARMUP + 3 + PROFILED))
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
    graphs = sum(name == "cudaGraphLaunch" for name in names)
    waits = [name for name in names if name in SYNCHRONIZING]
    copies = [name for name in names if name.startswith("Memcpy DtoH")]
    # The profiler itself waits once, when it stops.
    require(graphs == PROFILED, f"{graphs} graphs were launched in {PROFILED} steps")
    require(len(waits) <= 1, f"steps wait for the device: {waits}")
    require(not copies, f"steps copy to the host: {copies}")
    return 0.0


def main(*words: str) -> int:
    """Run the checks and return the number of failures."""
    checks: dict[str, Callable[[], float]] = {
        str(setting): partial(compare, setting) for setting in settings()
    }
    for model, optimizer, clip in product(MODELS, ON_DEVICE, (None, 0.1)):
        for amp_type in (None, torch.float16, torch.bfloat16) if MODELS[model].amp else (None,):
            setting = Setting(model, optimizer, amp_type, clip)
            checks[f"one graph a step: {setting}"] = partial(launches_one_graph, setting)
    for module in (capture_calls, capture_training, capture_optimizers):
        checks |= checks_of(module)
    chosen = {n: check for n, check in checks.items() if all(word in n for word in words)}
    failed = 0
    torch.backends.cudnn.deterministic = True  # else two eager loops differ as well
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    for name, check in chosen.items():
        torch.compiler.reset()
        try:
            error, note = check(), ""
        except Exception as failure:
            traceback.print_exc()
            error, note = float("nan"), f" ({failure})"
        failed += not error <= TOLERANCE
        verdict = "PASS" if error <= TOLERANCE else "FAIL"
        print(f"{verdict} {name}: {error:.1e}{note}", flush=True)
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return failed


def _optimizer(setting: Setting, model: Module) -> tuple[torch.optim.Optimizer, Callable[[], None]]:
    parameters = list(model.parameters())
    groups = [{"params": parameters[:2], "lr": 2e-3}, {"params": parameters[2:]}]
    optimizer = OPTIMIZERS[setting.optimizer](groups)
    if not setting.schedule:
        return optimizer, lambda: None
    return optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.97).step


def _with_tensor_rates(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        group | ({"lr": torch.tensor(group["lr"], device="cuda")} if "lr" in group else {})
        for group in groups
    ]


def _loss(setting: Setting, model: Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    if setting.dropout:
        x = torch.nn.functional.dropout(x, 0.3)
    return torch.nn.functional.mse_loss(model(x), y)


if __name__ == "__main__":
    sys.exit(min(1, main(*sys.argv[1:])))
