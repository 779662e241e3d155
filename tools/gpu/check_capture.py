# SPDX-License-Identifier: Apache-2.0
"""Compare captured training steps on a GPU with a loop by hand, for several models and options.

Run it on a machine with a GPU: ``python -m tools.gpu.check_capture``. It prints one line a case
and how many passed.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch

from physicsnemo import ModelMetaData, Module
from physicsnemo.registry import ModelRegistry
from physicsnemo.utils import StaticCaptureEvaluateNoGrad, StaticCaptureTraining

STEPS = 30
WARMUP = 5
TOLERANCE = 1e-4  # relative, of each step's loss

Batch = tuple[torch.Tensor, torch.Tensor]


class ConvNet(torch.nn.Module):
    """Convolutions with batch normalization, whose statistics a rehearsal would change."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(1, 16, 3, padding=1, bias=False),
            torch.nn.BatchNorm2d(16),
            torch.nn.ReLU(),
            torch.nn.Dropout(dropout),
            torch.nn.Conv2d(16, 1, 3, padding=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map fields of shape (batch, 1, height, width) to fields of the same shape."""
        output: torch.Tensor = self.layers(x)
        return output


SUPPORTS = ModelMetaData(name="ConvNet", cuda_graphs=True, amp=True)


@dataclass(frozen=True)
class Setting:
    """How one comparison runs."""

    model: str
    amp_type: torch.dtype | None = None
    clip: float | None = None
    in_place: bool = False
    compile: bool = False
    optimizer: str = "adam"

    def __str__(self) -> str:
        parts = [self.model, self.optimizer, str(self.amp_type or "float32").removeprefix("torch.")]
        flags = {"clip": self.clip is not None, "in place": self.in_place, "compile": self.compile}
        return ", ".join([*parts, *(name for name, on in flags.items() if on)])


MODELS: dict[str, tuple[Callable[[], Module], tuple[int, ...]]] = {
    "ConvNet": (lambda: Module.from_torch(ConvNet, SUPPORTS)(), (8, 1, 32, 32)),
    "FullyConnected": (
        lambda: ModelRegistry().factory("FullyConnected")(32, 128, 32),
        (256, 32),
    ),
    "FNO": (
        lambda: ModelRegistry().factory("FNO")(
            1, 1, latent_channels=16, num_fno_modes=8, padding=3
        ),
        (4, 1, 32, 32),
    ),
}
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=1e-2, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
    "fused adamw": lambda parameters: torch.optim.AdamW(parameters, lr=1e-3, fused=True),
}


def settings() -> Iterator[Setting]:
    """Yield what is compared."""
    for model in MODELS:
        for optimizer in OPTIMIZERS:
            yield Setting(model, optimizer=optimizer)
        yield Setting(model, in_place=True)
        yield Setting(model, clip=0.1)
        yield Setting(model, compile=True)
    for model in ("ConvNet", "FullyConnected"):
        for amp_type in (torch.float16, torch.bfloat16):
            for clip in (None, 0.1):
                yield Setting(model, amp_type, clip)


def by_hand(setting: Setting, model: Module) -> list[torch.Tensor]:
    """Train with a loop that uses no decorator."""
    optimizer = OPTIMIZERS[setting.optimizer](model.parameters())
    scaler = torch.amp.GradScaler("cuda", enabled=setting.amp_type is torch.float16)
    losses = []
    for x, y in batches(setting):
        optimizer.zero_grad()
        with torch.autocast("cuda", setting.amp_type, enabled=setting.amp_type is not None):
            loss = torch.nn.functional.mse_loss(model(x), y)
        scaler.scale(loss).backward()
        if setting.clip is not None:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), setting.clip)
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.detach())
    return losses


def captured(setting: Setting, model: Module) -> list[torch.Tensor]:
    """Train with the decorator, on new tensors at each step or on the same ones."""
    capture = StaticCaptureTraining(
        model=model,
        optim=OPTIMIZERS[setting.optimizer](model.parameters()),
        use_amp=setting.amp_type is not None,
        amp_type=setting.amp_type or torch.float16,
        gradient_clip_norm=setting.clip,
        compile=setting.compile,
        cuda_graph_warmup=WARMUP,
    )
    if not capture.use_graphs:
        raise RuntimeError(f"CUDA graphs are off for {setting}")

    @capture
    def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.mse_loss(model(x), y)

    buffers: Batch | None = None
    losses = []
    for batch in batches(setting):
        if setting.in_place:
            buffers = buffers or (torch.empty_like(batch[0]), torch.empty_like(batch[1]))
            batch = (buffers[0].copy_(batch[0]), buffers[1].copy_(batch[1]))
        losses.append(step(*batch))
    return losses


def batches(setting: Setting) -> Iterator[Batch]:
    """Yield the same random inputs and targets each time."""
    generator = torch.Generator("cuda").manual_seed(1)
    for _ in range(STEPS):
        x = torch.randn(MODELS[setting.model][1], device="cuda", generator=generator)
        yield x, torch.tanh(2 * x)


def compare(setting: Setting) -> float:
    """Return the largest relative difference of a step's loss and of the final weights' norms."""
    results = []
    for train in (by_hand, captured):
        torch.manual_seed(0)
        model = MODELS[setting.model][0]().cuda()
        losses = train(setting, model)
        state = model.state_dict().values()
        norms = [value.float().norm() for value in state if value.numel()]
        results.append(torch.stack([*losses, *norms]).double().cpu())
    expected, got = results
    return ((got - expected).abs() / expected.abs().clamp_min(1e-6)).max().item()


def dropout_differs() -> float:
    """Return 0 if replays draw new dropout masks, else 1."""
    model = Module.from_torch(ConvNet, SUPPORTS)(dropout=0.5).cuda()
    step = StaticCaptureEvaluateNoGrad(model, use_amp=False, cuda_graph_warmup=2)(model)
    x = torch.ones(1, 1, 8, 8, device="cuda")
    outputs = [step(x) for _ in range(8)]
    return float(any(torch.equal(a, b) for a, b in pairwise(outputs)))


def evaluation_outputs_can_be_kept() -> float:
    """Return the largest difference of replayed, kept outputs from those of the model."""
    model = MODELS["FNO"][0]().cuda().eval()
    step = StaticCaptureEvaluateNoGrad(model, use_amp=False, cuda_graph_warmup=2)(model)
    inputs = [x for x, _ in batches(Setting("FNO"))]
    outputs = [step(x) for x in inputs]
    with torch.no_grad():
        pairs = zip(outputs, map(model, inputs), strict=True)
        return max(float((ours - theirs).abs().max()) for ours, theirs in pairs)


def main() -> int:
    """Run all comparisons and return the number of failures."""
    checks: dict[str, Callable[[], float]] = {
        str(setting): partial(compare, setting) for setting in settings()
    }
    checks["dropout draws new masks at each replay"] = dropout_differs
    checks["outputs of an evaluation can be kept"] = evaluation_outputs_can_be_kept
    failed = 0
    torch.backends.cudnn.deterministic = True  # else two eager loops differ as well
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    for name, check in checks.items():
        error = check()
        failed += not error <= TOLERANCE
        print(f"{'PASS' if error <= TOLERANCE else 'FAIL'} {name}: {error:.1e}", flush=True)
    print(f"{len(checks) - failed} passed, {failed} failed")
    return failed


if __name__ == "__main__":
    sys.exit(min(1, main()))
