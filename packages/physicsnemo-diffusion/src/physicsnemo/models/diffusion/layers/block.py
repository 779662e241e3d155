# SPDX-License-Identifier: Apache-2.0
"""The residual block of the U-Nets."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.models.diffusion.layers.attention import Attention
from physicsnemo.models.diffusion.layers.convolution import Conv2d
from physicsnemo.models.diffusion.layers.linear import Linear
from physicsnemo.models.diffusion.layers.normalization import GroupNorm
from physicsnemo.models.history import Renamed, follow_history
from physicsnemo.nn.numerics import PAPER


class UNetBlock(nn.Module):
    """Residual block: two convolutions modulated by an embedding, then attention if any.

    Parameters
    ----------
    in_channels
        Input channels.
    out_channels
        Output channels.
    emb_channels
        Channels of the embedding.
    up
        Upsample by 2 in the first convolution.
    down
        Downsample by 2 in the first convolution.
    attention
        Whether :class:`Attention` follows.
    num_heads
        Attention heads, by default one for each ``channels_per_head`` channels.
    channels_per_head
        Channels of each attention head.
    dropout
        Dropout probability, before the second convolution.
    skip_scale
        Scale of the sum after each skip connection.
    eps
        Epsilon of the normalizations, added to variances.
    resample_filter
        Resampling filter, see :class:`Conv2d`.
    resample_proj
        Projection by a convolution of width 1 in the skip connection wherever it resamples.
    adaptive_scale
        Adaptive group normalization: the embedding scales and shifts the normalized features.
        Otherwise it is added before the normalization.
    init, init_zero, init_attn
        Initialization, as arguments of :class:`Conv2d`: of most weights; of the last convolution,
        and of the last in the attention; of queries, keys and values, by default ``init``.
    use_apex_gn
        As in :class:`GroupNorm`.
    act
        Activation, see :class:`GroupNorm`.
    fused_conv_bias
        As in :class:`Conv2d`.
    profile_mode
        Mark the block in profiles.
    amp_mode
        Leave types to autocast, see :class:`Linear`.
    numerics
        ``paper``, or a release of nvidia-physicsnemo, see :class:`Attention` and
        :class:`GroupNorm`.

    Raises
    ------
    ValueError
        If an option has a value that it cannot have.

    References
    ----------
    Song et al. 2021, Score-based generative modeling through stochastic differential equations,
    arXiv:2011.13456; Dhariwal and Nichol 2021, arXiv:2105.05233; Karras et al. 2022,
    arXiv:2206.00364, appendix F.
    """

    # Before attention was a layer of its own.
    _state_history: ClassVar[tuple[Renamed, ...]] = (
        Renamed("attn.norm.", "norm2.", until="1.2"),
        Renamed("attn.qkv.", "qkv.", until="1.2"),
        Renamed("attn.proj.", "proj.", until="1.2"),
    )

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        emb_channels: int,
        up: bool = False,
        down: bool = False,
        attention: bool = False,
        num_heads: int | None = None,
        channels_per_head: int = 64,
        dropout: float = 0.0,
        skip_scale: float = 1.0,
        eps: float = 1e-5,
        resample_filter: Sequence[int] = (1, 1),
        resample_proj: bool = False,
        adaptive_scale: bool = True,
        init: Mapping[str, Any] | None = None,
        init_zero: Mapping[str, Any] | None = None,
        init_attn: Mapping[str, Any] | None = None,
        use_apex_gn: bool = False,
        act: str = "silu",
        fused_conv_bias: bool = False,
        profile_mode: bool = False,
        amp_mode: bool = False,
        numerics: str = PAPER,
    ) -> None:
        super().__init__()
        self.dropout, self.skip_scale, self.adaptive_scale = dropout, skip_scale, adaptive_scale
        self.profile_mode, self.amp_mode = profile_mode, amp_mode
        init = {} if init is None else init
        init_zero = {"init_weight": 0} if init_zero is None else init_zero
        common: dict[str, Any] = {"use_apex_gn": use_apex_gn, "amp_mode": amp_mode}
        norm: Callable[..., GroupNorm] = partial(
            GroupNorm, eps=eps, fused_act=True, act=act, numerics=numerics, **common
        )
        conv = partial(Conv2d, fused_conv_bias=fused_conv_bias, amp_mode=amp_mode)
        resampling: dict[str, Any] = {"up": up, "down": down, "resample_filter": resample_filter}
        self.norm0 = norm(in_channels)
        self.conv0 = conv(in_channels, out_channels, kernel=3, **resampling, **init)
        parts = 2 if adaptive_scale else 1
        self.affine = Linear(emb_channels, parts * out_channels, amp_mode=amp_mode, **init)
        self.norm1 = norm(out_channels)
        self.conv1 = conv(out_channels, out_channels, kernel=3, **init_zero)
        self.skip = self.attn = None
        if out_channels != in_channels or up or down:
            kernel = 1 if resample_proj or out_channels != in_channels else 0
            self.skip = conv(in_channels, out_channels, kernel=kernel, **resampling, **init)
        if attention:
            self.attn = Attention(
                out_channels,
                num_heads=out_channels // channels_per_head if num_heads is None else num_heads,
                eps=eps,
                init=init,
                init_zero=init_zero,
                init_attn=init_attn,
                fused_conv_bias=fused_conv_bias,
                numerics=numerics,
                **common,
            )
            follow_history(self)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Apply the block.

        Parameters
        ----------
        x
            Images of shape (batch, in_channels, height, width).
        emb
            Embedding of shape (batch, emb_channels), or (1, emb_channels) for all.

        Returns
        -------
        Images of shape (batch, out_channels, height, width), twice or half as high and wide after
        ``up`` or ``down``.
        """
        with profile_range("UNetBlock", self.profile_mode):
            h = self._modulate(self.conv0(self.norm0(x)), self.affine(emb)[:, :, None, None])
            h = self.conv1(functional.dropout(h, self.dropout, self.training))
            x = x if self.skip is None else self.skip(x)
            x = (h + x) * self.skip_scale
            if self.attn is not None:
                x = self.attn(x) * self.skip_scale
            return x

    def _modulate(self, h: Tensor, signal: Tensor) -> Tensor:
        """Apply the second normalization, modulated by the embedding."""
        signal = signal.to(h.dtype)
        normalized: Tensor
        if self.adaptive_scale:
            scale, shift = signal.chunk(2, dim=1)
            normalized = self.norm1(h, modulation=(scale, shift))
        else:
            normalized = self.norm1(h, offset=signal)
        return normalized


def profile_range(name: str, wanted: bool) -> AbstractContextManager[Any]:
    """Return what marks a piece of work in profiles by a name, if wanted."""
    if not wanted or torch.compiler.is_compiling():
        return nullcontext()
    return torch.profiler.record_function(name)
