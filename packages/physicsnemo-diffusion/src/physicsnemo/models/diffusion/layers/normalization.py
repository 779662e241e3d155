# SPDX-License-Identifier: Apache-2.0
"""Group normalization, followed by an activation."""

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional

from physicsnemo.models.history import Twin, follow_history
from physicsnemo.nn.checks import check_choice
from physicsnemo.nn.numerics import PAPER, has_oddity
from physicsnemo.nn.precision import no_autocast
from physicsnemo.nn.tracing import is_tracing, is_transformed

Function = Callable[[Tensor], Tensor]

# As files of nvidia-physicsnemo mean these names: its slope of leaky_relu here is PyTorch's.
ACTIVATIONS: dict[str, Function] = {
    "silu": functional.silu,
    "relu": functional.relu,
    "leaky_relu": functional.leaky_relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": functional.gelu,
    "elu": functional.elu,
}

_FUSED_ON = ("cuda",)  # types of devices
# Numbers in images that are fused. In a step that is not captured, the host takes longer to launch
# these kernels than PyTorch's own, and a GPU as long for images of this size.
_FEWEST_FUSED = 2**24


class GroupNorm(nn.Module):
    """Group normalization, followed by an activation if asked for.

    It sums in single precision at least, and returns the type of its input, under autocast too.
    Images on a GPU in the memory format channels-last stay in it; where there are Triton and a C
    compiler, and the model is not compiled as a whole, all of it is one operation.

    Parameters
    ----------
    num_channels
        Channels; the number of groups must divide it.
    num_groups
        Number of groups at most.
    min_channels_per_group
        Channels of each group at least, which may leave fewer groups.
    eps
        Epsilon, added to the variance.
    use_apex_gn
        Kernel of NVIDIA Apex, for images on a GPU in the memory format channels-last.
    fused_act
        Whether the activation follows.
    act
        Activation: silu, relu, leaky_relu (of slope 0.01), sigmoid, tanh, gelu or elu.
    amp_mode
        Accepted for the sake of checkpoints: it changes nothing.
    numerics
        ``paper``, or a release of nvidia-physicsnemo, ``reference-1.2`` to ``reference-2.2``: in
        evaluation, but not in training, all of them divide by the unbiased estimate of the
        variance.

    Raises
    ------
    ValueError
        If the groups do not divide the channels, there is no such activation, or Apex or a GPU is
        missing.

    References
    ----------
    Wu and He 2018, Group normalization, arXiv:1803.08494.
    """

    # The module of Apex, where there is one, is what is trained.
    _state_history: ClassVar[tuple[Twin, ...]] = tuple(
        Twin(name, f"gn.{name}", until="2.0") for name in ("weight", "bias")
    )

    # Which ranks have rows of the images, if not this one alone: `physicsnemo.distributed` sets it.
    _domain: Any = None

    def __init__(
        self,
        num_channels: int,
        num_groups: int = 32,
        min_channels_per_group: int = 4,
        eps: float = 1e-5,
        use_apex_gn: bool = False,
        fused_act: bool = False,
        act: str | None = None,
        amp_mode: bool = False,
        numerics: str = PAPER,
    ) -> None:
        super().__init__()
        groups = -(-num_channels // min_channels_per_group)
        self.num_groups = min(num_groups, groups)
        if num_channels % self.num_groups:
            raise ValueError(
                f"expected channels that {self.num_groups} groups divide, got {num_channels}; "
                f"change model_channels or channel_mult"
            )
        self.eps, self.amp_mode = eps, amp_mode
        self.unbiased_in_eval = has_oddity(numerics, "unbiased_variance")
        self.activation = get_activation(act) if fused_act else None
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.gn = _apex_norm(self) if use_apex_gn else None
        follow_history(self)

    def forward(
        self,
        x: Tensor,
        offset: Tensor | None = None,
        modulation: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Normalize images.

        Parameters
        ----------
        x
            Images of shape (batch, num_channels, height, width).
        offset
            Added before, of shape (batch, num_channels, 1, 1), or (1, num_channels, 1, 1) for all.
        modulation
            What the normalized images are scaled with, relative to 1, and shifted by, before the
            activation. Of the shape of ``offset``.

        Returns
        -------
        Images of the shape of ``x``.
        """
        tensors = x, self.weight, self.bias, offset, *(modulation or ())
        if self._is_fusable([it for it in tensors if it is not None]):
            return self._normalize_fused(x, offset, modulation)
        x = x if offset is None else x + offset
        x = self._normalize(x) if self.gn is None else self.gn(x)
        if modulation is not None:
            scale, shift = modulation
            # The scale is relative to 1: an embedding of zeros modulates nothing.
            x = torch.addcmul(shift, x, scale + 1)
        return x if self.activation is None else self.activation(x)

    def _is_fusable(self, tensors: list[Tensor]) -> bool:
        """Return whether the kernels here know images, weights and what modulates."""
        x = tensors[0]
        if torch.compiler.is_compiling() or x.device.type not in _FUSED_ON:
            return False  # compilers fuse by themselves
        if self.gn is not None:
            return False
        if is_tracing() or is_transformed() or forward_ad._current_level >= 0:
            return False
        if x.numel() < _FEWEST_FUSED:
            return False
        if x.ndim != 4 or x.shape[1] != len(self.weight):
            return False
        if x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
            return False
        # Subclasses, such as DTensor, dispatch operations of their own. Where devices or shapes do
        # not fit, PyTorch raises the errors.
        if any(type(it) not in (Tensor, nn.Parameter) or it.device != x.device for it in tensors):
            return False
        if any(it.shape[1:] != (x.shape[1], 1, 1) for it in tensors[3:]):
            return False
        if self._domain is not None and len(set(self._domain.counts(x.shape[2]))) > 1:
            return False
        # Not before: it imports Triton.
        from physicsnemo.models.diffusion.layers import _fused_group_norm

        return x.dtype in _fused_group_norm.TYPES and _fused_group_norm.is_usable(x.device)

    def _normalize_fused(
        self, x: Tensor, offset: Tensor | None, modulation: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        from physicsnemo.models.diffusion.layers import _fused_group_norm

        silu = self.activation is functional.silu
        x = _fused_group_norm.group_norm(
            x,
            self.weight,
            self.bias,
            self.num_groups,
            self.eps,
            unbiased=self.unbiased_in_eval and not self.training,
            silu=silu,
            offset=offset,
            modulation=modulation,
            domain=self._domain,
        )
        return x if silu or self.activation is None else self.activation(x)

    def _normalize(self, x: Tensor) -> Tensor:
        weight, eps = self.weight, self.eps
        unbiased = self.unbiased_in_eval and not self.training
        if self._domain is not None:
            normed: Tensor = self._domain.normalize_groups(
                x, self.num_groups, eps, weight, self.bias, unbiased=unbiased
            )
            return normed
        if unbiased:
            # With n values in a group, their variance is n / (n - 1) times the biased one.
            n = math.prod(x.shape[1:]) // self.num_groups
            # Rounded once, to the type that it is used in: weights may be kept in a narrower one.
            weight = weight.to(torch.promote_types(weight.dtype, x.dtype)) * ((n - 1) / n) ** 0.5
            eps = eps * (n - 1) / n
        if is_transformed():  # vmap knows no other memory format
            x = x.contiguous()
        # Autocast would make norms return single precision, and so double the traffic after them.
        with no_autocast(x):
            return torch.group_norm(
                x, self.num_groups, weight.to(x.dtype), self.bias.to(x.dtype), eps
            )

    def extra_repr(self) -> str:
        """Return what sets this layer apart in printed models."""
        return f"{len(self.weight)}, groups={self.num_groups}, eps={self.eps}"


def get_activation(name: str | None) -> Function:
    """Return the function that the layers here know by a name.

    Raises
    ------
    ValueError
        If there is none.
    """
    check_choice("act", name, ACTIVATIONS)
    return ACTIVATIONS[name]  # type: ignore[index]  # None is refused above


def _apex_norm(norm: GroupNorm) -> nn.Module:
    """Return the module of Apex, whose weights are those of the given one."""
    try:
        apex = import_module("apex.contrib.group_norm")
    except ImportError as error:
        raise ValueError(
            f"use_apex_gn=True needs NVIDIA Apex with its extension group_norm, got: {error}; "
            f"install it from https://github.com/NVIDIA/apex, or leave use_apex_gn out"
        ) from error
    if not torch.cuda.is_available():
        raise ValueError("use_apex_gn=True needs a GPU, and there is none; leave it out")
    twin: nn.Module = apex.GroupNorm(norm.num_groups, len(norm.weight), norm.eps)
    twin.weight, twin.bias = norm.weight, norm.bias
    return twin
