# SPDX-License-Identifier: Apache-2.0
"""Adaptive Fourier neural operator (AFNO), for fields on one grid of two dimensions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.models.afno._filter import AFNO2DLayer, Grid
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.nn import Mlp
from physicsnemo.nn.checks import (
    check_above,
    check_at_least,
    check_between,
    check_input,
    is_integer,
)
from physicsnemo.nn.numerics import PAPER, implied

__all__ = ["AFNO", "AFNO2DLayer", "AFNOMlp", "Block", "MetaData", "PatchEmbed"]


@dataclass
class MetaData(ModelMetaData):
    """What :class:`AFNO` supports."""

    name: str = "AFNO"
    cuda_graphs: bool = True
    amp: bool = True
    onnx_gpu: bool = True
    onnx_runtime: bool = True
    var_dim: int = 1


class AFNO(Module):
    """Adaptive Fourier neural operator: a transformer that mixes its tokens in Fourier space.

    Fields are divided into patches, each of which becomes a token with a learned position
    embedding. Blocks then alternate between an adaptive filter of the tokens' Fourier modes
    (:class:`AFNO2DLayer`) and an MLP of each token, and a linear head turns each token into a patch
    again.

    Under autocast, products round their factors and results to half precision and sum in float32,
    those of the transforms too. With six blocks and random weights, the output then differs from
    that in float64 by about 0.4 % of its norm in bfloat16 and 0.05 % in float16; without autocast,
    by 0.00002 %.

    Parameters
    ----------
    inp_shape
        Height and width of the fields.
    in_channels
        Input channels.
    out_channels
        Output channels.
    patch_size
        Patch size: height and width; they must divide those of the fields.
    embed_dim
        Embedding dimension: channels of the tokens.
    depth
        Number of blocks.
    mlp_ratio
        MLP expansion ratio: hidden channels by ``embed_dim``.
    drop_rate
        Dropout probability of the embedded tokens and in the MLPs.
    num_blocks
        Number of diagonal blocks of each filter's weights; it must divide ``embed_dim``.
    sparsity_threshold
        Soft-shrinkage threshold of real and imaginary parts of the filtered modes.
    hard_thresholding_fraction
        Fraction of the spectrum that the filters keep, above 0 and up to 1: of n tokens along an
        axis, the frequencies whose absolute value is below ``int((n // 2 + 1) * fraction)``.
    numerics
        ``paper``, or ``reference-1.2`` to ``reference-2.2`` for what those releases of
        nvidia-physicsnemo compute, as files of theirs mean it. They do the same here: with a grid
        of h by w tokens and ``k = int((h // 2 + 1) * fraction)``, they keep the columns below k of
        the spectrum, and of its rows those closer than k to the highest frequency. That is the
        whole spectrum for a square grid and a fraction of 1; else, high frequencies of the second
        axis are lost if h < w, and low ones of the first axis if the fraction is below 1.

    Raises
    ------
    ValueError
        If the patches do not fill the fields, ``num_blocks`` does not divide ``embed_dim``, or
        another option has a value that it cannot have.

    References
    ----------
    Guibas et al. 2021, Adaptive Fourier neural operators: efficient token mixers for transformers,
    arXiv:2111.13587; Pathak et al. 2022, FourCastNet, arXiv:2202.11214.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.afno import AFNO
    >>> model = AFNO(
    ...     inp_shape=[32, 64], in_channels=2, out_channels=3, patch_size=[8, 8], embed_dim=16,
    ...     depth=2, num_blocks=4,
    ... )
    >>> model(torch.randn(4, 2, 32, 64)).shape
    torch.Size([4, 3, 32, 64])
    """

    _draws_only_weights = True
    _implied_args = implied("modes_of_one_axis")

    def __init__(
        self,
        inp_shape: Sequence[int],
        in_channels: int,
        out_channels: int,
        patch_size: Sequence[int] = (16, 16),
        embed_dim: int = 256,
        depth: int = 4,
        mlp_ratio: float = 4.0,
        drop_rate: float = 0.0,
        num_blocks: int = 16,
        sparsity_threshold: float = 0.01,
        hard_thresholding_fraction: float = 1.0,
        numerics: str = PAPER,
    ) -> None:
        super().__init__(meta=MetaData())
        check_at_least(1, depth=depth, out_channels=out_channels)
        check_above(0, mlp_ratio=mlp_ratio)
        check_between(0, 1, drop_rate=drop_rate)
        self.patch_embed = PatchEmbed(
            inp_shape, in_channels, patch_size=patch_size, embed_dim=embed_dim
        )
        rows, columns = self.patch_embed.grid
        start = torch.empty(1, rows * columns, embed_dim)
        self.pos_embed = nn.Parameter(nn.init.normal_(start, std=0.02))
        self.pos_drop = nn.Dropout(drop_rate)
        blocks = [
            Block(
                embed_dim,
                num_blocks=num_blocks,
                mlp_ratio=mlp_ratio,
                drop=drop_rate,
                sparsity_threshold=sparsity_threshold,
                hard_thresholding_fraction=hard_thresholding_fraction,
                numerics=numerics,
            )
            for _ in range(depth)
        ]
        blocks[0].filter.modes(self.patch_embed.grid)  # raises if no mode is left
        self.blocks = nn.ModuleList(blocks)
        patch_points = patch_size[0] * patch_size[1]
        self.head = nn.Linear(embed_dim, patch_points * out_channels, bias=False)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the operator.

        Parameters
        ----------
        x
            Fields of shape (batch, in_channels, *inp_shape).

        Returns
        -------
        Fields of shape (batch, out_channels, *inp_shape).

        Raises
        ------
        TypeError
            If ``x`` does not hold floating-point numbers.
        ValueError
            If it has another shape or device than expected.
        """
        tokens = self.pos_drop(self.patch_embed(x) + self.positions())
        tokens = tokens.unflatten(1, (-1, self.patch_embed.grid[1]))
        for block in self.blocks:
            tokens = block(tokens)
        return join_patches(self.head(tokens), self.patch_embed.patch_size)

    def positions(self) -> Tensor:
        """Return the learned embeddings of the tokens' positions, (1, tokens, embed_dim)."""
        return self.pos_embed


class Block(nn.Module):
    """AFNO block: adaptive Fourier filter and MLP, each normalized before, with skip connections.

    Parameters
    ----------
    embed_dim
        Embedding dimension: channels of the tokens.
    num_blocks, mlp_ratio, drop, sparsity_threshold, hard_thresholding_fraction, numerics
        As in :class:`AFNO`, where ``drop`` is called ``drop_rate``.
    """

    def __init__(
        self,
        embed_dim: int,
        num_blocks: int = 8,
        mlp_ratio: float = 4.0,
        drop: float = 0.0,
        sparsity_threshold: float = 0.01,
        hard_thresholding_fraction: float = 1.0,
        numerics: str = PAPER,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.filter = AFNO2DLayer(
            embed_dim,
            num_blocks=num_blocks,
            sparsity_threshold=sparsity_threshold,
            hard_thresholding_fraction=hard_thresholding_fraction,
            numerics=numerics,
        )
        self.norm2 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.mlp = AFNOMlp(
            in_features=embed_dim,
            latent_features=int(embed_dim * mlp_ratio),
            out_features=embed_dim,
            drop=drop,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens of shape (batch, height, width, embed_dim) to tokens of that shape."""
        x = x + self.filter(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return x


class PatchEmbed(nn.Module):
    """Patch embedding: divide fields into patches, and map each to a token.

    Parameters
    ----------
    inp_shape
        Height and width of the fields.
    in_channels
        Input channels.
    patch_size
        Patch size: height and width.
    embed_dim
        Embedding dimension: channels of the tokens.

    Attributes
    ----------
    grid
        Number of patches along both axes.

    Raises
    ------
    ValueError
        If ``inp_shape`` or ``patch_size`` has not two entries, or the patches do not fill the
        fields.
    """

    def __init__(
        self,
        inp_shape: Sequence[int],
        in_channels: int,
        patch_size: Sequence[int] = (16, 16),
        embed_dim: int = 256,
    ) -> None:
        super().__init__()
        check_at_least(1, in_channels=in_channels, embed_dim=embed_dim)
        self.grid = _grid_of_patches(inp_shape, patch_size)
        self.inp_shape = tuple(inp_shape)
        self.patch_size = (patch_size[0], patch_size[1])
        self.in_channels = in_channels
        self.proj = nn.Conv2d(in_channels, embed_dim, self.patch_size, stride=self.patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Embed the patches.

        Parameters
        ----------
        x
            Fields of shape (batch, in_channels, *inp_shape).

        Returns
        -------
        Tokens of shape (batch, number of patches, embed_dim).

        Raises
        ------
        TypeError
            If ``x`` does not hold floating-point numbers.
        ValueError
            If it has another shape or device than expected.
        """
        height, width = self.inp_shape
        layout = {
            "batch": None,
            "in_channels": self.in_channels,
            "inp_shape[0]": height,
            "inp_shape[1]": width,
        }
        check_input(x, layout, self.proj.weight)
        return self.embed(x)

    def embed(self, x: Tensor) -> Tensor:
        """Embed fields of any number of patches, unchecked.

        Parameters
        ----------
        x
            Fields of shape (batch, in_channels, height, width), multiples of those of a patch.

        Returns
        -------
        Tokens of shape (batch, patches, embed_dim).
        """
        # Patches do not overlap, so that the convolution is one matrix product, whose result has
        # channels last.
        weight, bias = self.proj.weight.flatten(start_dim=1), self.proj.bias
        return functional.linear(split_patches(x, self.patch_size), weight, bias)


class AFNOMlp(Mlp):
    """MLP of each token: :class:`physicsnemo.nn.Mlp` by the argument names of nvidia-physicsnemo.

    Parameters
    ----------
    in_features
        Input channels.
    latent_features
        Hidden channels.
    out_features
        Output channels.
    drop
        Dropout probability of hidden and output channels.
    """

    def __init__(
        self, in_features: int, latent_features: int, out_features: int, drop: float = 0.0
    ) -> None:
        super().__init__(
            in_features, hidden_features=latent_features, out_features=out_features, drop=drop
        )


def split_patches(x: Tensor, patch_size: Sequence[int]) -> Tensor:
    """Divide fields into patches.

    Parameters
    ----------
    x
        Fields of shape (batch, channels, rows * height, columns * width).
    patch_size
        Height and width of a patch.

    Returns
    -------
    Patches of shape (batch, rows * columns, channels times points of a patch), channels first.
    """
    height, width = patch_size
    patches: Tensor = x.unflatten(3, (-1, width)).unflatten(2, (-1, height))
    return patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def join_patches(tokens: Tensor, patch_size: Sequence[int]) -> Tensor:
    """Join patches to a field.

    Parameters
    ----------
    tokens
        Patches of shape (batch, rows, columns, points of a patch times channels), channels last.
    patch_size
        Height and width of a patch.

    Returns
    -------
    Fields of shape (batch, channels, height, width).
    """
    batch, rows, columns, _ = tokens.shape
    height, width = patch_size
    patches: Tensor = tokens.unflatten(-1, (height, width, -1))
    field = patches.permute(0, 5, 1, 3, 2, 4)
    return field.reshape(batch, field.shape[1], rows * height, columns * width)


def initialize(module: nn.Module) -> None:
    """Initialize all linear layers of a module: normally distributed weights, zero bias."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _grid_of_patches(inp_shape: Sequence[int], patch_size: Sequence[int]) -> Grid:
    if len(inp_shape) != 2 or len(patch_size) != 2:
        raise ValueError(
            f"expected inp_shape and patch_size to have two entries, height and width, "
            f"got inp_shape={list(inp_shape)} and patch_size={list(patch_size)}"
        )
    if not all(map(is_integer, (*inp_shape, *patch_size))):
        raise TypeError(
            f"expected inp_shape and patch_size to hold whole numbers, got "
            f"inp_shape={list(inp_shape)} and patch_size={list(patch_size)}"
        )
    if min(*inp_shape, *patch_size) < 1 or any(
        n % p for n, p in zip(inp_shape, patch_size, strict=True)
    ):
        raise ValueError(
            f"expected patch_size to divide inp_shape, got inp_shape={list(inp_shape)} and "
            f"patch_size={list(patch_size)}; pad or crop the fields, or take other patches"
        )
    height, width = (n // p for n, p in zip(inp_shape, patch_size, strict=True))
    return height, width
