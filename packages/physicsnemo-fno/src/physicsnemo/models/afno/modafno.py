# SPDX-License-Identifier: Apache-2.0
"""Modulated adaptive Fourier neural operator: AFNO conditioned on a number, such as a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.models.afno._filter import AFNO2DLayer, Grid, SpectralFilter, to_blocks
from physicsnemo.models.afno.afno import AFNOMlp, PatchEmbed, initialize, join_patches
from physicsnemo.models.afno.modembed import ModEmbedNet
from physicsnemo.models.history import Renamed, follow_history
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.nn.checks import (
    Layout,
    check_above,
    check_at_least,
    check_between,
    check_choice,
    check_input,
)
from physicsnemo.nn.numerics import PAPER, implied

__all__ = ["Block", "MetaData", "ModAFNO", "ModAFNO2DLayer", "ModAFNOMlp", "ScaleShiftMlp"]

SCALE_SHIFT_MODES = ("complex", "real")


@dataclass
class MetaData(ModelMetaData):
    """What :class:`ModAFNO` supports."""

    name: str = "ModAFNO"
    cuda_graphs: bool = True
    amp: bool = True
    onnx_gpu: bool = True
    onnx_runtime: bool = True
    var_dim: int = 1


class ModAFNO(Module):
    """Modulated adaptive Fourier neural operator: an AFNO conditioned on a number.

    The number, such as the time between two given states, is embedded. The embedding is projected
    and added to all tokens, and it scales and shifts the hidden features of filters and MLPs.

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
    embed_model
        Arguments of :class:`~physicsnemo.models.afno.modembed.ModEmbedNet`, which embeds the
        number: ``max_time``, ``depth``, ``activation_fn``, ``method``, and ``dim``, which must
        equal ``mod_dim`` if it is given. Not used if neither filters nor MLPs are modulated.
    patch_size
        Patch size: height and width; they must divide those of the fields.
    embed_dim
        Embedding dimension: channels of the tokens.
    mod_dim
        Size of the embedding of the number.
    modulate_filter
        Modulate the filters (:class:`ModAFNO2DLayer`).
    modulate_mlp
        Modulate the MLPs (:class:`ModAFNOMlp`).
    scale_shift_mode
        Whether filters are scaled and shifted by ``complex`` or ``real`` numbers.
    depth
        Number of blocks.
    mlp_ratio
        MLP expansion ratio: hidden channels by ``embed_dim``.
    drop_rate
        Dropout probability of the embedded tokens and in the MLPs.
    num_blocks
        Number of diagonal blocks of each filter's weights; it must divide ``embed_dim``.
    sparsity_threshold, hard_thresholding_fraction
        As in :class:`~physicsnemo.models.afno.afno.AFNO`.
    numerics
        As in :class:`~physicsnemo.models.afno.afno.AFNO`; but the releases of nvidia-physicsnemo
        choose the modes of modulated filters by ``k = int((min(h, w) // 2 + 1) * fraction)``, so
        that a grid that is not square loses frequencies of its longer axis.

    Raises
    ------
    ValueError
        If the patches do not fill the fields, ``num_blocks`` does not divide ``embed_dim``, or
        another option has a value that it cannot have.

    References
    ----------
    Leinonen et al. 2024, Modulated adaptive Fourier neural operators for temporal interpolation of
    weather forecasts, arXiv:2410.18904.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.afno import ModAFNO
    >>> model = ModAFNO(
    ...     inp_shape=[32, 64], in_channels=4, out_channels=2, embed_model={"max_time": 6.0},
    ...     patch_size=[8, 8], embed_dim=16, mod_dim=8, depth=2,
    ... )
    >>> hours = torch.tensor([1.0, 2.5, 5.0])
    >>> model(torch.randn(3, 4, 32, 64), hours).shape
    torch.Size([3, 2, 32, 64])
    """

    _draws_only_weights = True
    _implied_args = implied("modes_of_one_axis")

    def __init__(
        self,
        inp_shape: Sequence[int],
        in_channels: int = 155,
        out_channels: int = 73,
        embed_model: Mapping[str, Any] | None = None,
        patch_size: Sequence[int] = (2, 2),
        embed_dim: int = 512,
        mod_dim: int = 64,
        modulate_filter: bool = True,
        modulate_mlp: bool = True,
        scale_shift_mode: str = "complex",
        depth: int = 12,
        mlp_ratio: float = 2.0,
        drop_rate: float = 0.0,
        num_blocks: int = 1,
        sparsity_threshold: float = 0.01,
        hard_thresholding_fraction: float = 1.0,
        numerics: str = PAPER,
    ) -> None:
        super().__init__(meta=MetaData())
        check_at_least(1, depth=depth, out_channels=out_channels, mod_dim=mod_dim)
        check_above(0, mlp_ratio=mlp_ratio)
        check_between(0, 1, drop_rate=drop_rate)
        check_choice("scale_shift_mode", scale_shift_mode, SCALE_SHIFT_MODES)
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
                mod_dim,
                num_blocks=num_blocks,
                mlp_ratio=mlp_ratio,
                drop=drop_rate,
                modulate_filter=modulate_filter,
                modulate_mlp=modulate_mlp,
                scale_shift_mode=scale_shift_mode,
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
        self.mod_additive_proj = nn.Linear(mod_dim, embed_dim)
        self.mod_embed_net: nn.Module = nn.Identity()
        if modulate_filter or modulate_mlp:
            self.mod_embed_net = _embedding(embed_model or {}, mod_dim)

    def forward(self, x: Tensor, mod: Tensor) -> Tensor:
        """Apply the operator.

        Parameters
        ----------
        x
            Fields of shape (batch, in_channels, *inp_shape).
        mod
            The modulating number of each sample, of shape (batch,) or (batch, 1); features of
            shape (batch, mod_dim) if neither filters nor MLPs are modulated.

        Returns
        -------
        Fields of shape (batch, out_channels, *inp_shape).

        Raises
        ------
        TypeError
            If ``x`` or ``mod`` does not hold floating-point numbers.
        ValueError
            If one has another shape or device than expected.
        """
        tokens = self.pos_drop(self.patch_embed(x) + self.positions())
        layout = self._layout(mod, batch=x.shape[0])
        check_input(mod, layout, self.mod_additive_proj.weight, name="mod")
        mod_embed = self.mod_embed_net(mod)
        tokens = tokens + self.mod_additive_proj(mod_embed).unsqueeze(1)
        tokens = tokens.unflatten(1, (-1, self.patch_embed.grid[1]))
        for block in self.blocks:
            tokens = block(tokens, mod_embed)
        return join_patches(self.head(tokens), self.patch_embed.patch_size)

    def positions(self) -> Tensor:
        """Return the learned embeddings of the tokens' positions, (1, tokens, embed_dim)."""
        return self.pos_embed

    def _layout(self, mod: Tensor, batch: int) -> Layout:
        if isinstance(self.mod_embed_net, nn.Identity):
            return {"batch": batch, "mod_dim": self.mod_additive_proj.in_features}
        # What is no tensor has no axes either; the check says so.
        column = isinstance(mod, Tensor) and mod.ndim != 1
        return {"batch": batch, "number": 1} if column else {"batch": batch}


class Block(nn.Module):
    """A block of :class:`~physicsnemo.models.afno.afno.AFNO` with modulated parts.

    Parameters
    ----------
    embed_dim
        Embedding dimension: channels of the tokens.
    mod_dim
        Size of the embedding of the number.
    num_blocks, mlp_ratio, drop
        As in :class:`ModAFNO`, where ``drop`` is called ``drop_rate``.
    modulate_filter, modulate_mlp, scale_shift_mode
        As in :class:`ModAFNO`.
    sparsity_threshold, hard_thresholding_fraction, numerics
        As in :class:`ModAFNO`.
    """

    def __init__(
        self,
        embed_dim: int,
        mod_dim: int,
        num_blocks: int = 8,
        mlp_ratio: float = 4.0,
        drop: float = 0.0,
        modulate_filter: bool = True,
        modulate_mlp: bool = True,
        scale_shift_mode: str = "complex",
        sparsity_threshold: float = 0.01,
        hard_thresholding_fraction: float = 1.0,
        numerics: str = PAPER,
    ) -> None:
        super().__init__()
        options: dict[str, Any] = {
            "num_blocks": num_blocks,
            "sparsity_threshold": sparsity_threshold,
            "hard_thresholding_fraction": hard_thresholding_fraction,
            "numerics": numerics,
        }
        latent = int(embed_dim * mlp_ratio)
        self.modulate_filter = modulate_filter
        self.modulate_mlp = modulate_mlp
        self.norm1 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.filter: SpectralFilter = (
            ModAFNO2DLayer(embed_dim, mod_dim, scale_shift_mode=scale_shift_mode, **options)
            if modulate_filter
            else AFNO2DLayer(embed_dim, **options)
        )
        self.norm2 = nn.LayerNorm(embed_dim, eps=1e-6)
        sizes = {"in_features": embed_dim, "latent_features": latent, "out_features": embed_dim}
        self.mlp = (
            ModAFNOMlp(**sizes, mod_features=mod_dim, drop=drop)
            if modulate_mlp
            else AFNOMlp(**sizes, drop=drop)
        )

    def forward(self, x: Tensor, mod_embed: Tensor) -> Tensor:
        """Apply the block.

        Parameters
        ----------
        x
            Tokens of shape (batch, height, width, embed_dim).
        mod_embed
            Embedding of shape (batch, mod_dim).

        Returns
        -------
        Tokens of the shape of ``x``.
        """
        normed = self.norm1(x)
        x = x + (self.filter(normed, mod_embed) if self.modulate_filter else self.filter(normed))
        normed = self.norm2(x)
        x = x + (self.mlp(normed, mod_embed) if self.modulate_mlp else self.mlp(normed))
        return x


def _embedding(arguments: Mapping[str, Any], mod_dim: int) -> ModEmbedNet:
    dim = arguments.get("dim", mod_dim)
    if dim != mod_dim:
        raise ValueError(
            f"expected the features of embed_model to be the mod_dim={mod_dim} modulating ones, "
            f"got dim={dim}; leave it out, or set mod_dim={dim}"
        )
    return ModEmbedNet(**{**arguments, "dim": mod_dim})


class ModAFNO2DLayer(SpectralFilter):
    r"""Adaptive Fourier filter, modulated by an embedding of each sample.

    See :class:`~physicsnemo.models.afno.afno.AFNO2DLayer` for what is computed without modulation.

    The hidden features :math:`h = W_1 \mathcal F x + b_1` become :math:`s h + t` before the ReLU,
    where a :class:`ScaleShiftMlp` computes :math:`s` and :math:`t` from the embedding.

    Parameters
    ----------
    hidden_size, num_blocks, sparsity_threshold, hard_thresholding_fraction, hidden_size_factor
        As in :class:`SpectralFilter`.
    mod_features
        Size of the embedding of the number.
    scale_shift_mode
        Whether :math:`s` and :math:`t` are ``complex`` or ``real``. Real ones act on real and
        imaginary parts alike. An MLP that returns 0 stands for t = 0 and s = 1 if real, but
        s = 1 + i if complex.
    numerics
        As in :class:`SpectralFilter`.

    Raises
    ------
    ValueError
        If ``hidden_size`` is not divisible by ``num_blocks``, or another option has a value that
        it cannot have.

    References
    ----------
    Leinonen et al. 2024, arXiv:2410.18904.
    """

    def __init__(
        self,
        hidden_size: int,
        mod_features: int,
        num_blocks: int = 8,
        sparsity_threshold: float = 0.01,
        hard_thresholding_fraction: float = 1.0,
        hidden_size_factor: int = 1,
        scale_shift_mode: str = "complex",
        numerics: str = PAPER,
    ) -> None:
        super().__init__(
            hidden_size,
            num_blocks=num_blocks,
            sparsity_threshold=sparsity_threshold,
            hard_thresholding_fraction=hard_thresholding_fraction,
            hidden_size_factor=hidden_size_factor,
            numerics=numerics,
        )
        check_choice("scale_shift_mode", scale_shift_mode, SCALE_SHIFT_MODES)
        self.scale_shift_mode = scale_shift_mode
        parts = 2 if scale_shift_mode == "complex" else 1
        self.scale_shift = ScaleShiftMlp(mod_features, parts * hidden_size * hidden_size_factor)

    def forward(self, x: Tensor, mod_embed: Tensor) -> Tensor:
        """Apply the layer.

        Parameters
        ----------
        x
            Tokens of shape (batch, height, width, hidden_size).
        mod_embed
            Embedding of shape (batch, mod_features).

        Returns
        -------
        Tokens of the shape of ``x``.

        Raises
        ------
        TypeError
            If ``x`` does not hold floating-point numbers.
        ValueError
            If it has another shape or device than expected, or no mode of its grid is kept.
        """
        scale, shift = (self._to_blocks(part) for part in self.scale_shift(mod_embed))
        if self.scale_shift_mode == "complex":
            return self._filter(x, lambda hidden: _complex_product(hidden, scale) + shift)
        return self._filter(x, lambda hidden: hidden * scale + shift)

    def _reference_size(self, grid: Grid) -> int:
        return min(grid)

    def _to_blocks(self, features: Tensor) -> Tensor:
        """Shape features of samples like those of modes, real ones as both of their parts."""
        complex_valued = self.scale_shift_mode == "complex"
        real, imaginary = features.chunk(2, dim=-1) if complex_valued else (features, features)
        return to_blocks(real, imaginary, self.num_blocks)[:, None, None]


class ModAFNOMlp(nn.Module):
    """MLP of each token, with hidden features scaled and shifted by the embedding of the sample.

    Parameters
    ----------
    in_features
        Input channels.
    latent_features
        Hidden channels.
    out_features
        Output channels.
    mod_features
        Size of the embedding of the number.
    drop
        Dropout probability of hidden and output channels.
    """

    def __init__(
        self,
        in_features: int,
        latent_features: int,
        out_features: int,
        mod_features: int,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, latent_features)
        self.fc2 = nn.Linear(latent_features, out_features)
        self.drop = nn.Dropout(drop)
        self.scale_shift = ScaleShiftMlp(mod_features, latent_features)

    def forward(self, x: Tensor, mod_embed: Tensor) -> Tensor:
        """Apply the network.

        Parameters
        ----------
        x
            Tokens of shape (batch, height, width, in_features).
        mod_embed
            Embedding of shape (batch, mod_features).

        Returns
        -------
        Tokens of shape (batch, height, width, out_features).
        """
        scale, shift = (part[:, None, None] for part in self.scale_shift(mod_embed))
        hidden = self.drop(functional.gelu(self.fc1(x) * scale + shift))
        output: Tensor = self.drop(self.fc2(hidden))
        return output


class ScaleShiftMlp(nn.Module):
    """MLP that computes scale and shift, 1 and 0 where its last layer gives 0.

    Parameters
    ----------
    in_features
        Size of the embedding of the number.
    out_features
        Number of features to scale and shift.
    hidden_features
        Hidden features, by default twice ``out_features``.
    hidden_layers
        Number of hidden layers after the first one.
    """

    _state_history = (Renamed("net.", "net.layers.", since="2.0"),)

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden_features: int | None = None,
        hidden_layers: int = 0,
    ) -> None:
        super().__init__()
        hidden = 2 * out_features if hidden_features is None else hidden_features
        layers: list[nn.Module] = [nn.Linear(in_features, hidden), nn.GELU()]
        for _ in range(hidden_layers):
            layers += [nn.Linear(hidden, hidden), nn.GELU()]
        self.net = nn.Sequential(*layers, nn.Linear(hidden, 2 * out_features))
        follow_history(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return scale and shift, of shape (batch, out_features), of (batch, in_features)."""
        scale, shift = self.net(x).chunk(2, dim=-1)
        return 1 + scale, shift


def _complex_product(left: Tensor, right: Tensor) -> Tensor:
    (a, b), (c, d) = left.chunk(2, dim=-1), right.chunk(2, dim=-1)
    return torch.cat((a * c - b * d, a * d + b * c), dim=-1)
