# SPDX-License-Identifier: Apache-2.0
"""The spherical Fourier neural operator."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.models.sfno._block import SphericalBlock
from physicsnemo.models.sfno._filter import OPERATOR_TYPES, SpectralFilter
from physicsnemo.models.sfno._norm import NORMALIZATIONS, normalization
from physicsnemo.models.sfno._options import (
    check_counts,
    check_rates,
    coarser_grid,
    grid_of,
    hidden_channels,
    truncation,
)
from physicsnemo.models.sfno._pointwise import pointwise_network
from physicsnemo.models.sfno._position import POSITION_EMBEDDINGS, position_embedding
from physicsnemo.models.sfno._transform import (
    SphericalAnalysis,
    SphericalSynthesis,
    transforms,
)
from physicsnemo.nn.checks import check_choice, check_input

__all__ = ["SFNO", "MetaData"]


@dataclass
class MetaData(ModelMetaData):
    """What :class:`SFNO` supports."""

    name: str = "SFNO"
    jit: bool = True
    cuda_graphs: bool = True
    amp: bool = True
    bf16: bool = True
    onnx: bool = True
    onnx_runtime: bool = True
    func_torch: bool = True
    auto_grad: bool = True
    var_dim: int = 0


class SFNO(Module):
    """Spherical Fourier neural operator: a map between fields on the sphere.

    An encoder lifts the channels at each point to ``embed_dim``. A chain of blocks follows; each
    filters the field by its spherical harmonics and applies a small network to each point. The
    first block leads to a coarser internal grid, the last one to the grid of the output, where a
    decoder returns to the channels of the output. Nothing in it knows a point from another, so it
    commutes with rotations about the axis, unless a position embedding is asked for.

    Parameters
    ----------
    inp_shape
        Latitudes and longitudes of the input's grid.
    out_shape
        Those of the output's grid.
    inp_chans
        Channels of the input.
    out_chans
        Channels of the output.
    embed_dim
        Channels of the blocks.
    num_layers
        Number of blocks.
    scale_factor
        How much coarser than the input's grid the internal one is: of n latitudes and m longitudes
        it has ``(n - 1) // scale_factor + 1`` and ``m // scale_factor``.
    model_grid_type
        Type of the input's grid: ``equiangular`` (with both poles), ``legendre-gauss`` or
        ``lobatto``. All have the first longitude at 0, and the latitudes from north to south.
    out_grid_type
        Type of the output's grid, by default that of the input's.
    sht_grid_type
        Type of the internal grid.
    max_modes
        The numbers of degrees and of orders that the filters keep, the second no larger than the
        first. By default, both are the largest number that all three grids transform exactly. A
        grid of n latitudes and m longitudes does so with ``(m + 1) // 2`` orders, and with
        ``(n + 1) // 2`` degrees if it is equiangular, ``n`` if Legendre-Gauss, and ``n - 1`` if
        Lobatto. On equiangular grids, up to n degrees may be asked for; their transforms are then
        approximate.
    filter_type
        ``linear``, the only one.
    operator_type
        What the filters are made of: ``dhconv`` (or ``driscoll-healy``), one matrix for each
        degree, which is a convolution on the sphere; ``diagonal``, one for each degree and order.
    encoder_layers
        Linear maps in the encoder and in the decoder, with activations between.
    mlp_ratio
        Hidden channels of the pointwise networks of blocks, encoder and decoder, as a multiple of
        ``embed_dim``.
    activation_function
        Name of the activation (:func:`physicsnemo.nn.get_activation`).
    normalization_layer
        What follows each filter: ``instance_norm``, with mean and variance over the sphere for
        each channel; ``layer_norm``, over the channels of each point; or ``none``.
    pos_embed
        What is added to the encoded input: ``none``; ``direct``, a learned value for each point and
        channel; or ``frequency``, a learned field given by its spherical harmonics.
    big_skip
        Add a linear map of the input's channels to the output, at each point; between different
        grids, of the input without the degrees and orders beyond ``max_modes``.
    pos_drop_rate
        Share of values to drop from the encoded input in training.
    path_drop_rate
        Probability, in training, that a sample takes only the skip of the last block; it rises
        linearly from 0 in the first.
    mlp_drop_rate
        Share of hidden channels of the blocks' pointwise networks to drop in training.

    Raises
    ------
    KeyError
        If there is no activation of that name.
    ValueError
        If another option has a value that it cannot have, or a grid does not resolve
        ``max_modes``.

    Notes
    -----
    Transforms and filters compute in float32 under autocast too, and if the model is converted to
    half precision; the rest follows. From those in float64, outputs differ by less than 1e-6 of
    their norm in float32, by about 1% in bfloat16 and by 0.1% in float16.

    References
    ----------
    Bonev et al. 2023, Spherical Fourier neural operators: learning stable dynamics on the sphere,
    arXiv:2306.03838. Blocks are those of the example in torch-harmonics, by the same authors: there
    is no activation between filter and pointwise network. It differs in the statistics of
    ``instance_norm``, which count points by their area here, in the initial weights of filters,
    which keep the variance here, and in the default truncation.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.sfno import SFNO
    >>> model = SFNO([33, 64], [33, 64], inp_chans=3, out_chans=2, embed_dim=8, scale_factor=2)
    >>> model(torch.randn(4, 3, 33, 64)).shape
    torch.Size([4, 2, 33, 64])
    """

    def __init__(
        self,
        inp_shape: Sequence[int],
        out_shape: Sequence[int],
        inp_chans: int,
        out_chans: int,
        embed_dim: int = 32,
        num_layers: int = 4,
        scale_factor: int = 8,
        model_grid_type: str = "equiangular",
        out_grid_type: str | None = None,
        sht_grid_type: str = "legendre-gauss",
        max_modes: Sequence[int] | None = None,
        filter_type: str = "linear",
        operator_type: str = "dhconv",
        encoder_layers: int = 1,
        mlp_ratio: float = 2.0,
        activation_function: str = "gelu",
        normalization_layer: str = "instance_norm",
        pos_embed: str = "none",
        big_skip: bool = True,
        pos_drop_rate: float = 0.0,
        path_drop_rate: float = 0.0,
        mlp_drop_rate: float = 0.0,
    ) -> None:
        super().__init__(meta=MetaData())
        check_choice("filter_type", filter_type, ("linear",))
        check_choice("operator_type", operator_type, OPERATOR_TYPES)
        check_choice("normalization_layer", normalization_layer, NORMALIZATIONS)
        check_choice("pos_embed", pos_embed, POSITION_EMBEDDINGS)
        check_counts(
            inp_chans=inp_chans,
            out_chans=out_chans,
            embed_dim=embed_dim,
            num_layers=num_layers,
            scale_factor=scale_factor,
            encoder_layers=encoder_layers,
        )
        check_rates(
            pos_drop_rate=pos_drop_rate,
            path_drop_rate=path_drop_rate,
            mlp_drop_rate=mlp_drop_rate,
        )
        first = grid_of("inp_shape", inp_shape, model_grid_type)
        last = grid_of("out_shape", out_shape, out_grid_type or model_grid_type)
        internal = coarser_grid(first, scale_factor, sht_grid_type)
        lmax, mmax = truncation((first, internal, last), max_modes)
        grids = [first, *[internal] * (num_layers - 1), last]

        hidden = hidden_channels(embed_dim, mlp_ratio)
        coding = [hidden] * (encoder_layers - 1)
        self._layout = {
            "batch": None,
            "inp_chans": inp_chans,
            "inp_shape[0]": first.nlat,
            "inp_shape[1]": first.nlon,
        }
        self.encoder = pointwise_network([inp_chans, *coding, embed_dim], activation_function)
        self.pos_embed = position_embedding(pos_embed, embed_dim, first, lmax, mmax)
        self.pos_drop = nn.Dropout(pos_drop_rate)
        self.analyses = transforms(SphericalAnalysis, grids[:-1], lmax, mmax)
        self.syntheses = transforms(SphericalSynthesis, grids[1:], lmax, mmax)
        self.blocks = nn.ModuleList(
            SphericalBlock(
                SpectralFilter(embed_dim, lmax, mmax, operator_type),
                normalization(normalization_layer, embed_dim, grid),
                pointwise_network(
                    [embed_dim, hidden, embed_dim], activation_function, mlp_drop_rate
                ),
                drop_rate=path_drop_rate * number / max(1, num_layers - 1),
            )
            for number, grid in enumerate(grids[1:])
        )
        self.decoder = pointwise_network([embed_dim, *coding, out_chans], activation_function)
        self.big_skip = (
            pointwise_network([inp_chans, out_chans], activation_function) if big_skip else None
        )
        self.same_grid = first == last

    def forward(self, x: Tensor) -> Tensor:
        """Apply the operator.

        Parameters
        ----------
        x
            Fields of shape (batch, inp_chans, *inp_shape).

        Returns
        -------
        Fields of shape (batch, out_chans, *out_shape).

        Raises
        ------
        TypeError
            If ``x`` does not hold floating-point numbers.
        ValueError
            If it has another shape or device than expected.
        """
        check_input(x, self._layout, next(self.encoder.parameters()))
        hidden = self.pos_drop(self.pos_embed(self.encoder(x)))
        for block, analysis, synthesis in zip(
            self.blocks, self.analyses, self.syntheses, strict=True
        ):
            hidden = block(hidden, analysis, synthesis)
        output: Tensor = self.decoder(hidden)
        if self.big_skip is None:
            return output
        if not self.same_grid:
            x = self.syntheses[-1](self.analyses[0](x)).to(x.dtype)
        skip: Tensor = self.big_skip(x)
        return output + skip
