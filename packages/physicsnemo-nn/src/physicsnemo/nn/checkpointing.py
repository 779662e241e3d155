# SPDX-License-Identifier: Apache-2.0
"""Activation checkpointing."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

__all__ = ["computed_again", "maybe_checkpoint"]

Result = TypeVar("Result")


def maybe_checkpoint(
    function: Callable[..., Result],
    enabled: bool,
    *arguments: Any,
    preserve_rng_state: bool = False,
) -> Result:
    """Call a function, with activation checkpointing if enabled.

    That keeps only the arguments for the backward pass, which calls the function again. Within the
    transforms of :mod:`torch.func`, which cannot call it again, activations are kept.

    Parameters
    ----------
    function
        What to call.
    enabled
        Whether to checkpoint, or to just call it.
    *arguments
        What to call it with.
    preserve_rng_state
        Whether it draws random numbers, and must draw the same again.

    References
    ----------
    Chen et al. 2016, Training deep nets with sublinear memory cost, arXiv:1604.06174.
    """
    if not enabled or torch._C._are_functorch_transforms_active():  # compiled ones too
        return function(*arguments)
    result: Result = checkpoint(
        function, *arguments, use_reentrant=False, preserve_rng_state=preserve_rng_state
    )
    return result


def computed_again(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Call a function of tensors, which the backward pass calls again instead of keeping more.

    It costs less than :func:`maybe_checkpoint`, and more is asked of the function: what it returns
    depends on the tensors alone, weights among them, so that they are the same in both passes
    whatever a module holds by then. Compiled code is left to the compiler, which decides what to
    keep. Derivatives in forward mode, and the transforms of :mod:`torch.func`, keep everything.

    Parameters
    ----------
    function
        What to call; it draws no random numbers.
    *tensors
        What to call it with.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.nn.checkpointing import computed_again
    >>> x = torch.ones(2, requires_grad=True)
    >>> computed_again(lambda x: (3 * x) ** 2, x).sum().backward()
    >>> x.grad
    tensor([18., 18.])
    """
    if (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors)
    ):
        return function(*tensors)
    result: Tensor = _ComputedAgain.apply(function, *tensors)  # type: ignore[no-untyped-call]
    return result


class _ComputedAgain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        ctx.function = function
        device = tensors[0].device.type
        ctx.autocast = {
            "device_type": device,
            "dtype": torch.get_autocast_dtype(device),
            "enabled": torch.is_autocast_enabled(device),
        }
        ctx.save_for_backward(*tensors)
        # Detached, or autocast would give what it casts here to others that differentiate it.
        return function(*(tensor.detach() for tensor in tensors))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        wanted = ctx.needs_input_grad[1:]
        differentiated_again = torch.is_grad_enabled()
        with torch.enable_grad(), torch.autocast(**ctx.autocast):
            # Views are of this call alone, also of a tensor that is given twice.
            tensors = [
                tensor.view_as(tensor)
                if differentiated_again
                else tensor.detach().requires_grad_(needed)
                for tensor, needed in zip(ctx.saved_tensors, wanted, strict=True)
            ]
            output = ctx.function(*tensors)
        gradients = iter(
            torch.autograd.grad(
                output,
                [tensor for tensor, needed in zip(tensors, wanted, strict=True) if needed],
                gradient,
                create_graph=differentiated_again,
                allow_unused=True,
            )
        )
        return None, *(next(gradients) if needed else None for needed in wanted)
