# SPDX-License-Identifier: Apache-2.0
"""What a variant switches on, and the step that it makes of a case.

Without capture, a step is plain PyTorch; with it, what the decorators of
``physicsnemo.utils`` make. Mixed precision is what they use by default: float16 and a gradient
scaler on a CUDA device, bfloat16 elsewhere.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial, reduce
from operator import add
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import mse_loss
from torch.optim import Optimizer
from torch.utils import _pytree as pytree

from physicsnemo import ModelMetaData, Module
from physicsnemo.utils import StaticCaptureEvaluateNoGrad, StaticCaptureTraining
from tools.bench.cases import BenchCase
from tools.bench.fourier_methods import fourier_methods

EAGER = "eager"
GRAPH_WARMUP = 3
WARMUP = GRAPH_WARMUP + 2  # a graph is recorded, and replayed twice, before anything is timed

Function = Callable[..., Any]


@dataclass(frozen=True)
class Variant:
    """What is switched on; with nothing on, it is ``eager``.

    Parameters
    ----------
    plain
        The case's model in the straightforward way that it names; for FNO by ``torch.fft``.
    capture
        The library's capture decorator, which uses CUDA graphs where it can.
    compile
        ``torch.compile``, of the model and the loss.
    amp
        Automatic mixed precision.
    blocks
        Compilation of the model's blocks, each kind once; with capture only.
    """

    plain: bool = False
    capture: bool = False
    compile: bool = False
    amp: bool = False
    blocks: bool = False

    def __post_init__(self) -> None:
        if self.blocks and (self.compile or not self.capture):
            raise ValueError("blocks are compiled with capture, and instead of compile")

    @property
    def compilation(self) -> bool | Literal["blocks"]:
        """The decorators' argument ``compile``."""
        return "blocks" if self.blocks else self.compile

    @classmethod
    def parse(cls, name: str) -> "Variant":
        """Return the variant of a name such as ``eager`` or ``capture+amp``.

        Raises
        ------
        ValueError
            If a part of the name is unknown, or appears twice.
        """
        parts = [] if name == EAGER else name.split("+")
        known = [field.name for field in fields(cls)]
        if len(set(parts)) < len(parts) or not set(parts) <= set(known):
            raise ValueError(
                f"unknown variant {name!r}: expected {EAGER}, or one or more of "
                f"{', '.join(known)}, joined by '+'"
            )
        return cls(**dict.fromkeys(parts, True))

    def __str__(self) -> str:
        """Return the name, with the parts in one order."""
        return "+".join(f.name for f in fields(self) if getattr(self, f.name)) or EAGER


def forward_step(case: BenchCase, variant: Variant, device: torch.device) -> Function:
    """Return a forward pass in evaluation mode, without gradients."""
    model, inputs = _prepare(case, variant, device)
    model.eval()

    def forward(*inputs: Any) -> Any:
        return model(*inputs)

    decorate = (
        StaticCaptureEvaluateNoGrad(
            model, use_amp=variant.amp, compile=variant.compilation, cuda_graph_warmup=GRAPH_WARMUP
        )
        if variant.capture
        else partial(_plain_forward, variant, device)
    )
    return partial(decorate(forward), *inputs)


def training_step(case: BenchCase, variant: Variant, device: torch.device) -> Function:
    """Return a step of the case's optimizer that fits the model to noise."""
    model, inputs = _prepare(case, variant, device)
    optimizer = case.optimizer(model.parameters())
    with torch.no_grad():
        # Noise, since a model that learns to return zeros computes with denormal numbers, slowly.
        targets = [torch.randn_like(output) for output in pytree.tree_leaves(model(*inputs))]

    def loss(inputs: tuple[Any, ...], targets: list[Tensor]) -> Tensor:
        return reduce(add, map(mse_loss, pytree.tree_leaves(model(*inputs)), targets))

    decorate = (
        StaticCaptureTraining(
            model,
            optimizer,
            use_amp=variant.amp,
            compile=variant.compilation,
            cuda_graph_warmup=GRAPH_WARMUP,
        )
        if variant.capture
        else partial(_plain_training, optimizer, variant, device)
    )
    return partial(decorate(loss), inputs, targets)


MODES = {"forward": forward_step, "train": training_step}


def check_plain(case: BenchCase, device: torch.device) -> None:
    """Raise AssertionError unless the plain version of a model computes what the model does.

    In float64, since GPUs round the factors of convolutions unless they are told otherwise.
    """
    with torch.no_grad():
        outputs = [
            model.double()(*pytree.tree_map_only(Tensor, _double, inputs))
            for model, inputs in (_prepare(case, Variant(plain), device) for plain in (True, False))
        ]
    torch.testing.assert_close(*outputs)


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def remarks(case: BenchCase, variant: Variant, device: torch.device) -> list[str]:
    """Say where a variant is less than its name promises, or more than the metadata does.

    Of ``eager``, which is neither, say how its model transforms each axis.
    """
    if variant == Variant():
        return fourier_methods(case, device)
    meta = case.build().meta or ModelMetaData()
    on_gpu = device.type == "cuda"
    flag = "amp_gpu" if on_gpu else "amp_cpu"
    found = []
    if variant.amp and not getattr(meta, flag):
        beginning = "no autocast:" if variant.capture else "autocast, though"
        found.append(f"{beginning} the metadata does not set {flag}")
    if variant.capture and not on_gpu:
        found.append(f"no CUDA graphs on {device.type}")
    elif variant.capture and not meta.cuda_graphs:
        found.append("no CUDA graphs: the metadata does not set cuda_graphs")
    return found


def _prepare(
    case: BenchCase, variant: Variant, device: torch.device
) -> tuple[Module, tuple[Any, ...]]:
    inputs = pytree.tree_map_only(Tensor, lambda tensor: tensor.to(device), case.inputs())
    return _build(case, variant).to(device), inputs


def _build(case: BenchCase, variant: Variant) -> Module:
    if not variant.plain:
        return case.build()
    if case.plain is None:
        raise ValueError(f"{case} has no plain version to compare with")
    return case.plain(case.build())


def _plain_forward(variant: Variant, device: torch.device, forward: Function) -> Function:
    forward = torch.compile(forward) if variant.compile else forward

    def step(*inputs: Any) -> Any:
        with torch.no_grad(), _autocast(variant, device):
            return forward(*inputs)

    return step


def _plain_training(
    optimizer: Optimizer, variant: Variant, device: torch.device, loss: Function
) -> Function:
    loss = torch.compile(loss) if variant.compile else loss
    scaler = torch.amp.GradScaler(device.type, enabled=variant.amp and device.type == "cuda")

    def step(*args: Any) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with _autocast(variant, device):
            value: Tensor = loss(*args)
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
        return value.detach()

    return step


def _autocast(variant: Variant, device: torch.device) -> torch.autocast:
    dtype = torch.float16 if device.type == "cuda" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=variant.amp)
