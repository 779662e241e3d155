# SPDX-License-Identifier: Apache-2.0
"""How checks run a model and compare what it returns."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from physicsnemo.models.module import Module
from physicsnemo.testing.case import Case, Inputs

# What sums in another order may change in float32.
SAME = 1e-5
# What a product in bfloat16, which has 8 significant bits, may lose over a few layers.
LOW_PRECISION = 0.05


def prepare(case: Case, device: torch.device) -> tuple[Module, Inputs]:
    """Return the model in evaluation mode and its inputs, both on the device."""
    return case.build().eval().to(device), move(case.inputs(), device)


def move(inputs: Any, target: torch.device | torch.dtype) -> Any:
    """Move all tensors to a device, or those of floating point to a type."""

    def moved(tensor: Tensor) -> Tensor:
        keep = isinstance(target, torch.dtype) and not tensor.is_floating_point()
        return tensor if keep else tensor.to(target)

    return pytree.tree_map_only(Tensor, moved, inputs)


def vary(inputs: Any) -> Any:
    """Return other inputs of the same shapes: floats halved, which keeps them in their range."""

    def varied(tensor: Tensor) -> Tensor:
        floats = tensor.is_floating_point() or tensor.is_complex()
        return tensor * 0.5 if floats else tensor.clone()

    return pytree.tree_map_only(Tensor, varied, inputs)


def disturb(model: Module) -> None:
    """Move all weights a little, away from their initial values and from zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(0.02 * noise.to(parameter.device))


def split(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the inputs that have no names, and those that do."""
    return ((), inputs) if isinstance(inputs, dict) else (inputs, {})


def call(function: Callable[..., Any], inputs: Inputs) -> Any:
    """Call a model, or what was made of it, with its inputs."""
    positional, named = split(inputs)
    return function(*positional, **named)


def function_of_floats(
    function: Callable[..., Any], inputs: Inputs
) -> tuple[Callable[..., list[Tensor]], list[Tensor]]:
    """Return a model's differentiable outputs as a function of its inputs of floating point.

    Returns
    -------
    The function, which takes these inputs one by one, and their values.
    """
    leaves, structure = pytree.tree_flatten(inputs)
    places = [index for index, leaf in enumerate(leaves) if _is_float(leaf)]

    def differentiable(*values: Tensor) -> list[Tensor]:
        arguments = list(leaves)
        for place, value in zip(places, values, strict=True):
            arguments[place] = value
        outputs = tensors(call(function, pytree.tree_unflatten(arguments, structure)))
        return [output for output in outputs if _is_float(output)]

    return differentiable, [leaves[place] for place in places]


def run(model: Module, inputs: Inputs, seed: int = 0) -> Any:
    """Call the model after seeding PyTorch, without gradients."""
    torch.manual_seed(seed)
    with torch.no_grad():
        return call(model, inputs)


def gradients(model: Module, outputs: Any) -> dict[str, Tensor]:
    """Return the gradients of a fixed random projection of all outputs, where there are any."""
    model.zero_grad()
    generator = torch.Generator().manual_seed(2)
    total = torch.zeros(())
    for output in tensors(outputs):
        if output.requires_grad:
            weights = torch.randn(output.shape, generator=generator, dtype=output.dtype)
            total = total.to(output.device) + (output * weights.to(output.device)).real.sum()
    if total.requires_grad:
        total.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def tensors(tree: Any) -> list[Tensor]:
    """Return all tensors of nested containers."""
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def exactness(device: torch.device) -> float:
    """Return how much two equal calls may differ: on a GPU, sums come in any order."""
    return 0.0 if device.type == "cpu" else SAME


def assert_equal(got: Any, expected: Any, tolerance: float, what: str = "the output") -> None:
    """Compare all tensors of two results by their norms; ``what`` names them in the error."""
    ours, theirs = tensors(got), tensors(expected)
    if len(ours) != len(theirs):
        raise AssertionError(f"{what} has {len(ours)} tensors, expected {len(theirs)}")
    for mine, wanted in zip(ours, theirs, strict=True):
        _assert_close(mine.detach().cpu(), wanted.detach().cpu(), tolerance, what)


def assert_same_state(got: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Compare two state dictionaries bit by bit."""
    if list(got) != list(expected):
        raise AssertionError(f"the state holds {list(got)}, expected {list(expected)}")
    for name, tensor in expected.items():
        if got[name].dtype != tensor.dtype:
            raise AssertionError(f"{name} has become {got[name].dtype}, expected {tensor.dtype}")
        assert_equal(got[name], tensor, 0.0, name)


def _is_float(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def _assert_close(ours: Tensor, theirs: Tensor, tolerance: float, what: str) -> None:
    if ours.shape != theirs.shape:
        raise AssertionError(f"{what}: shape {tuple(ours.shape)}, expected {tuple(theirs.shape)}")
    if torch.equal(ours, theirs):
        return
    wide = torch.complex128 if theirs.is_complex() else torch.float64
    ours, theirs = ours.to(wide), theirs.to(wide)
    error = (torch.linalg.vector_norm(ours - theirs) / torch.linalg.vector_norm(theirs)).item()
    if not error <= tolerance or not tolerance:  # not below, so that NaN fails
        raise AssertionError(f"{what}: relative error {error:.2e} exceeds {tolerance:.0e}")
