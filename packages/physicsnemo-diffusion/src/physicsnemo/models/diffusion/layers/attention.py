# SPDX-License-Identifier: Apache-2.0
"""Self-attention between the pixels of an image."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from physicsnemo.models.diffusion.layers.convolution import Conv2d
from physicsnemo.models.diffusion.layers.normalization import GroupNorm
from physicsnemo.nn.checks import is_integer
from physicsnemo.nn.numerics import PAPER, has_oddity
from physicsnemo.nn.precision import at_least_float32
from physicsnemo.nn.transformer import dot_product_attention


class Attention(nn.Module):
    """Residual self-attention between the pixels of an image.

    Parameters
    ----------
    out_channels
        Channels, of input and output.
    num_heads
        Attention heads; the number must divide the channels.
    eps
        Epsilon of the normalization, added to the variance.
    init, init_zero, init_attn
        Initialization, as arguments of :class:`Conv2d`: ``init_attn`` or else ``init`` for queries,
        keys and values, ``init_zero`` for the projection.
    use_apex_gn
        As in :class:`GroupNorm`.
    fused_conv_bias, amp_mode
        As in :class:`Conv2d`.
    numerics
        ``paper``, where each head has its own channels; or a release of nvidia-physicsnemo. In
        ``reference-1.2``, each of several heads has its own pixels, n-th parts of the image,
        between which there is no attention; runs of channels count there as pixels of their own.
        Later releases do as the paper. All normalize as :class:`GroupNorm` says.

    Raises
    ------
    ValueError
        If the number of heads is not a positive one that divides the channels.

    References
    ----------
    Vaswani et al. 2017, Attention is all you need, arXiv:1706.03762; Dhariwal and Nichol 2021,
    Diffusion models beat GANs on image synthesis, arXiv:2105.05233.
    """

    def __init__(
        self,
        out_channels: int,
        num_heads: int,
        eps: float = 1e-5,
        init: Mapping[str, Any] | None = None,
        init_zero: Mapping[str, Any] | None = None,
        init_attn: Mapping[str, Any] | None = None,
        use_apex_gn: bool = False,
        fused_conv_bias: bool = False,
        amp_mode: bool = False,
        numerics: str = PAPER,
    ) -> None:
        super().__init__()
        if not is_integer(num_heads) or num_heads < 1 or out_channels % num_heads:
            raise ValueError(
                f"expected a positive number of heads that divides {out_channels} channels, got "
                f"{num_heads!r}; change the channels of levels with attention, or the heads"
            )
        self.num_heads = num_heads
        self.heads_split_pixels = has_oddity(numerics, "heads_split_pixels")
        init_zero = {"init_weight": 0} if init_zero is None else init_zero
        self.norm = GroupNorm(
            out_channels, eps=eps, use_apex_gn=use_apex_gn, amp_mode=amp_mode, numerics=numerics
        )
        self.qkv = Conv2d(
            out_channels,
            3 * out_channels,
            kernel=1,
            fused_conv_bias=fused_conv_bias,
            amp_mode=amp_mode,
            **(init_attn or init or {}),
        )
        self.proj = Conv2d(
            out_channels,
            out_channels,
            kernel=1,
            fused_conv_bias=fused_conv_bias,
            amp_mode=amp_mode,
            **init_zero,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map images of shape (batch, out_channels, height, width) to images of that shape."""
        # Channels hold query, key and value of the first head's first channel, and so on.
        # The first line of each is (batch, heads, pixels, channels of a head, 3).
        mixed = self.qkv(self.norm(x)).permute(0, 2, 3, 1)
        batch, width = x.shape[:2]
        heads, pixels = self.num_heads, x.shape[2] * x.shape[3]
        if self.heads_split_pixels:
            mixed = mixed.reshape(batch, heads, pixels, width // heads, 3)
        else:
            mixed = mixed.reshape(batch, pixels, heads, width // heads, 3).transpose(1, 2)
        query, key, value = mixed.movedim(-1, 0).contiguous().unbind(0)
        mixed = dot_product_attention(query, key, value)
        # Contiguous, since group_norm has forward mode and vmap for no other layout.
        projected: Tensor = self.proj(mixed.transpose(-1, -2).reshape(x.shape).contiguous())
        return projected + x


class AttentionOp:
    """The weights of attention alone, as a function of queries and keys."""

    @staticmethod
    def apply(q: Tensor, k: Tensor) -> Tensor:
        """Return the attention weights, computed in single precision at least.

        Parameters
        ----------
        q
            Queries of shape (batch, channels, queries).
        k
            Keys of shape (batch, channels, keys).

        Returns
        -------
        Weights of shape (batch, queries, keys) in the type of ``q``; those of a query sum to 1.

        References
        ----------
        Vaswani et al. 2017, arXiv:1706.03762, eq. (1).
        """
        precise = at_least_float32(q.dtype)
        products = torch.einsum("bcq,bck->bqk", q.to(precise), k.to(precise))
        return (products / math.sqrt(q.shape[1])).softmax(dim=2).to(q.dtype)
