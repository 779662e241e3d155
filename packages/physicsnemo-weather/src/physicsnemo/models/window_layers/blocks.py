# SPDX-License-Identifier: Apache-2.0
"""Window transformer block."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from physicsnemo.models.history import Constant, Renamed, follow_history
from physicsnemo.models.window_layers.windows import Pads, crop_grid, pad_grid
from physicsnemo.nn import DropPath, Mlp


class WindowBlock(nn.Module):
    """Window transformer block: window attention and an MLP, each with a residual connection.

    Parameters
    ----------
    dim
        Number of channels.
    attention
        Window attention, called with grids of shape (batch, *grid, dim) and the mask.
    pads
        Padding that makes the grid a multiple of the window.
    roll
        Cyclic shift of the grid along each axis before attention.
    unroll
        Cyclic shift afterwards.
    mask
        Function that computes the window mask, and can be pickled; None for no mask.
    keep_mask
        Whether the mask is a persistent buffer, as in nvidia-physicsnemo.
    drop_path
        Stochastic depth: probability of dropping a residual branch for a sample.
    post_norm
        Whether to normalize the output of each branch instead of its input.
    history
        Former names of its state keys; see :mod:`physicsnemo.models.history`.

    References
    ----------
    Liu et al. 2021, Swin transformer, arXiv:2103.14030 (pre-norm); Liu et al. 2022, Swin
    transformer V2, arXiv:2111.09883 (post-norm).
    """

    attn_mask: Tensor | None

    def __init__(
        self,
        dim: int,
        attention: nn.Module,
        pads: Pads,
        roll: tuple[int, ...] = (),
        unroll: tuple[int, ...] = (),
        mask: Callable[[], Tensor] | None = None,
        keep_mask: bool = False,
        drop_path: float = 0.0,
        post_norm: bool = False,
        history: tuple[Renamed, ...] = (),
    ) -> None:
        super().__init__()
        # The mask belongs to the numerics, so a state brings weights alone.
        kept = (Constant("attn_mask", tolerance=None),) if keep_mask else ()
        self._state_history = history + kept
        follow_history(self)
        self.norm1 = nn.LayerNorm(dim)
        self.attn = attention
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, hidden_features=4 * dim, out_features=dim)
        self.drop_path = DropPath(drop_path)
        self.pads, self.roll, self.unroll = pads, roll, unroll
        self.post_norm = post_norm
        self._mask = mask
        self.register_buffer("attn_mask", mask and mask(), persistent=keep_mask)

    def forward(self, x: Tensor) -> Tensor:
        """Map grids of shape (batch, *grid, dim) to grids of the same shape."""
        for branch, norm in ((self._attend, self.norm1), (self.mlp, self.norm2)):
            change = norm(branch(x)) if self.post_norm else branch(norm(x))
            x = x + self.drop_path(change)
        return x

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        was_meta = self.attn_mask is not None and self.attn_mask.is_meta
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # A mask that left the meta device has no values, and no file brings them.
        if self._mask and self.attn_mask is not None and was_meta:
            with torch.device("cpu"):
                mask = self._mask()
            self.attn_mask = mask.to(self.attn_mask)
        return self

    def _attend(self, x: Tensor) -> Tensor:
        axes = tuple(range(1, x.ndim - 1))
        x = pad_grid(x, self.pads)
        # Shifting the grid shifts the windows the other way; the mask keeps apart what came around.
        if self.roll:
            x = x.roll(self.roll, axes)
        x = self.attn(x, self.attn_mask)
        if self.unroll:
            x = x.roll(self.unroll, axes)
        return crop_grid(x, self.pads)
