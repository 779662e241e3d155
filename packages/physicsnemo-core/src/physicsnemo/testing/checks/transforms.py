# SPDX-License-Identifier: Apache-2.0
"""Derivatives of all kinds, and what PyTorch makes of a model as a function."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import save_on_cpu
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from physicsnemo.models.module import Module
from physicsnemo.testing._compare import (
    SAME,
    assert_equal,
    call,
    disturb,
    function_of_floats,
    gradients,
    move,
    prepare,
    split,
)
from physicsnemo.testing.case import Case, Inputs

# What sums in another order may change in float64.
_EXACT = 1e-8
# How far a difference quotient goes, not to meet a kink, and how well it agrees.
_STEP, _NEARLY = 1e-7, 1e-4

# PyTorch's fused kernels of attention have neither forward mode nor second derivatives.
_plain_attention = partial(sdpa_kernel, SDPBackend.MATH)


def check_recomputation(case: Case, device: torch.device) -> None:
    """Activations that are computed again, or kept elsewhere, give the same gradients."""
    expected = _trained(case, device, call)
    recomputed = _trained(case, device, partial(checkpoint, call, use_reentrant=False))
    assert_equal(recomputed, expected, SAME, "a gradient under torch.utils.checkpoint")
    with save_on_cpu():
        kept = _trained(case, device, call)
    assert_equal(kept, expected, SAME, "a gradient under saved-tensor hooks")


def check_double_backward(case: Case, device: torch.device) -> None:
    """Gradients can be differentiated, with respect to weights and inputs alike."""
    model, inputs = _in_double(case, device)
    function, values = function_of_floats(model, inputs)
    points = [value.clone().requires_grad_() for value in values]
    leaves = [*(weight for weight in model.parameters() if weight.requires_grad), *points]
    direction = _drawn(leaves)

    def slope() -> Tensor:
        with _plain_attention():
            outputs = function(*points)
        return _along(direction, _product(outputs, outputs), leaves)

    def slope_after(step: float) -> Tensor:
        with torch.no_grad():
            for leaf, way in zip(leaves, direction, strict=True):
                leaf.add_(way, alpha=step)
        return slope()

    second = _along(direction, slope(), leaves)
    ahead, behind = slope_after(_STEP), slope_after(-2 * _STEP)
    assert_equal(second, (ahead - behind) / (2 * _STEP), _NEARLY, "the second derivative")


def check_transforms(case: Case, device: torch.device) -> None:
    """``torch.func`` differentiates it, and forward mode agrees with reverse mode."""
    plane, origin = _through_a_plane(case, device)
    rows = torch.autograd.functional.jacobian(plane, origin)
    for name, jacobian in (("jacrev", torch.func.jacrev), ("jacfwd", torch.func.jacfwd)):
        assert_equal(jacobian(plane)(origin), rows, _EXACT, f"the Jacobian by {name}")
    direction = torch.tensor([0.6, -0.8], dtype=origin.dtype, device=device)
    slope = torch.func.jvp(plane, (origin,), (direction,))[1]
    assert_equal(slope, rows @ direction, _EXACT, "the derivative by jvp")


def check_vmap(case: Case, device: torch.device) -> None:
    """``torch.func.vmap`` computes for many inputs what the model computes for each."""
    function, points = function_of_floats(*_in_double(case, device))
    pairs = [torch.stack((point, 0.5 * point)) for point in points]
    together = torch.func.vmap(lambda *values: tuple(function(*values)))(*pairs)
    for index in range(2):
        alone = function(*(pair[index] for pair in pairs))
        assert_equal([outputs[index] for outputs in together], alone, _EXACT)


def _through_a_plane(case: Case, device: torch.device) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Return two numbers that the model makes of two, and where to differentiate.

    The first two are how far weights and inputs move along two directions, the last two fixed
    combinations of all outputs: whole matrices of derivatives cost little more than one number, and
    every operation of the model takes part.
    """
    model, inputs = _in_double(case, device)
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    function, centre = function_of_floats(
        lambda weights, inputs: functional_call(model, weights, *split(inputs)), (weights, inputs)
    )
    directions = _drawn(centre, 2)
    combinations = _drawn(function(*centre), 2)

    def plane(steps: Tensor) -> Tensor:
        moves = (torch.tensordot(steps, ways, 1) for ways in directions)
        with _plain_attention():
            outputs = function(*map(torch.add, centre, moves))
        return torch.stack([_product(row, outputs) for row in zip(*combinations, strict=True)])

    return plane, torch.zeros(2, dtype=torch.float64, device=device)


def _in_double(case: Case, device: torch.device) -> tuple[Module, Inputs]:
    model, inputs = prepare(case, device)
    disturb(model)  # a layer that starts at zero hides what is below it
    return model.double(), move(inputs, torch.float64)


def _drawn(tensors: Iterable[Tensor], *number: int) -> list[Tensor]:
    """Return random tensors of norm about 1 and of the same shapes, or so many of each."""
    generator = torch.Generator().manual_seed(3)
    return [
        torch.randn((*number, *tensor.shape), generator=generator, dtype=tensor.dtype).to(tensor)
        / max(1, tensor.numel()) ** 0.5
        for tensor in tensors
    ]


def _product(first: Iterable[Tensor], second: Iterable[Tensor]) -> Tensor:
    """Return the inner product of two lists of tensors."""
    return torch.stack([(a * b).sum() for a, b in zip(first, second, strict=True)]).sum()


def _along(direction: list[Tensor], value: Tensor, leaves: list[Tensor]) -> Tensor:
    """Return the derivative of a value along a direction, for further differentiation."""
    slopes = torch.autograd.grad(
        value, leaves, create_graph=True, allow_unused=True, materialize_grads=True
    )
    return _product(direction, slopes)


def _trained(
    case: Case, device: torch.device, forward: Callable[[Module, Inputs], Any]
) -> dict[str, Tensor]:
    """Return the gradients of a model in training mode."""
    model = case.build().to(device).train()
    disturb(model)
    torch.manual_seed(0)  # as dropout draws
    return gradients(model, forward(model, move(case.inputs(), device)))
