# SPDX-License-Identifier: Apache-2.0
"""Running checks by name, one line each, and what checks of models share."""

import traceback
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from physicsnemo import Module
from physicsnemo.testing import Case
from tools.gpu.capture_common import require


def run(checks: Iterable[tuple[str, Callable[[], None]]], words: tuple[str, ...]) -> int:
    """Run the checks whose name contains all words, and return the number of failures."""
    chosen = [(name, check) for name, check in checks if all(word in name for word in words)]
    failed = 0
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    for name, check in chosen:
        torch.compiler.reset()
        try:
            check()
        except Exception as failure:
            traceback.print_exc()
            failed += 1
            print(f"FAIL {name}: {failure}", flush=True)
        else:
            print(f"PASS {name}", flush=True)
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return failed


def on_gpu(case: Case) -> tuple[Module, Any]:
    """Return the model of a case and its inputs."""
    torch.manual_seed(0)
    return case.build().cuda(), to_gpu(case.inputs())


def to_gpu(inputs: Any) -> Any:
    """Return inputs whose tensors are on the GPU."""
    return pytree.tree_map_only(Tensor, Tensor.cuda, inputs)


def gradients(
    function: Callable[..., Any], model: Module, inputs: Any, dtype: torch.dtype, scale: float = 1
) -> list[Tensor]:
    """Return the outputs of a model, or of a function made of it, and the gradients of a loss.

    The loss is the sum of their mean squares, times a scale. Random numbers are the same each time.
    """
    torch.manual_seed(0)
    model.zero_grad()
    with torch.autocast("cuda", dtype, enabled=dtype is not torch.float32):
        outputs = pytree.tree_leaves(function(*inputs))
    loss = torch.stack([output.float().square().mean() for output in outputs]).sum()
    (scale * loss).backward()
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    return [*(output.detach() for output in outputs), *found]


def require_same_bits(
    function: Callable[..., Any], model: Module, inputs: Any, dtype: torch.dtype
) -> None:
    """Fail unless calls give the same outputs and gradients, bit by bit."""
    first = gradients(function, model, inputs, dtype)
    for _ in range(5):
        again = gradients(function, model, inputs, dtype)
        for one, other in zip(first, again, strict=True):
            require(torch.equal(one, other), "the results of two calls differ")
