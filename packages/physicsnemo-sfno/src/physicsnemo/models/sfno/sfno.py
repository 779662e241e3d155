# SPDX-License-Identifier: Apache-2.0
"""The spherical Fourier neural operator."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.models.sfno._layers import (
    NORMALIZATIONS,
    OPERATOR_TYPES,
    POSITION_EMBEDDINGS,
    SpectralFilter,
    SphericalBlock,
    normalization,
    pointwise_mlp,
    position_embedding,
)
from physicsnemo.models.sfno._sht import InverseRealSHT, RealSHT, SphericalGrid
from physicsnemo.nn.checks import (
    check_at_least,
    check_choice,
    check_input,
    check_real,
    is_integer,
)

__all__ = ["SFNO", "MetaData"]

_FEW = 8  # degrees of spherical harmonics: 45 degrees of latitude for a wave


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

    A pointwise encoder lifts the channels to ``embed_dim``. Each block then applies a spectral
    convolution in spherical harmonics and a pointwise MLP. The first block leads to a coarser
    internal grid, the last one to the grid of the output, where a pointwise decoder returns to the
    channels of the output. Without a position embedding, the model is equivariant to rotations
    about the axis.

    Parameters
    ----------
    inp_shape
        Input grid: numbers of latitudes and longitudes.
    out_shape
        Output grid: numbers of latitudes and longitudes.
    inp_chans
        Input channels.
    out_chans
        Output channels.
    embed_dim
        Latent channels of the blocks.
    num_layers
        Number of blocks.
    scale_factor
        Downsampling factor of the internal grid: of n latitudes and m longitudes of the input it
        has ``(n - 1) // scale_factor + 1`` and ``m // scale_factor``. The default is for grids of
        1 degree and finer; a warning tells if fewer than 8 degrees of harmonics are left, or
        the mean over the sphere alone.
    model_grid_type
        Type of the input grid: ``equiangular`` (with both poles), ``legendre-gauss`` or
        ``lobatto``. All have the first longitude at 0, and the latitudes from north to south:
        ``SphericalGrid(*inp_shape, model_grid_type).latitudes()`` are those, in degrees. Data on
        other latitudes, such as those between the poles of cell-centred grids, are to be regridded.
    out_grid_type
        Type of the output grid, by default that of the input.
    sht_grid_type
        Type of the internal grid.
    max_modes
        Truncation: numbers of degrees and of orders that filters keep, the second no larger than
        the first. By default, both are the largest number that all three grids transform exactly. A
        grid of n latitudes and m longitudes does so with ``(m + 1) // 2`` orders, and with
        ``(n + 1) // 2`` degrees if it is equiangular, ``n`` if Legendre-Gauss, and ``n - 1`` if
        Lobatto. On equiangular grids, up to n degrees may be asked for; their transforms are then
        approximate.
    filter_type
        Type of filter; ``linear`` is the only one.
    operator_type
        Weights of the filters: ``dhconv`` (or ``driscoll-healy``), one matrix for each degree,
        which is a convolution on the sphere; ``diagonal``, one for each degree and order.
    encoder_layers
        Number of linear layers of the encoder, and of the decoder.
    mlp_ratio
        MLP expansion ratio: hidden channels of blocks, encoder and decoder by ``embed_dim``.
    activation_function
        Name of the activation (:func:`physicsnemo.nn.get_activation`).
    normalization_layer
        Normalization after each filter: ``instance_norm``, with mean and variance over the sphere
        for each channel; ``layer_norm``, over the channels of each point; or ``none``.
    pos_embed
        Position embedding of the encoded input: ``none``; ``direct``, a learned value for each
        point and channel; or ``frequency``, learned spherical harmonic coefficients.
    big_skip
        Global skip connection: add a linear map of the input's channels to the output; between
        different grids, of the input truncated to ``max_modes``.
    pos_drop_rate
        Dropout probability after the position embedding.
    path_drop_rate
        Stochastic depth: probability, in training, that a sample takes only the skip of the last
        block; it rises linearly from 0 in the first.
    mlp_drop_rate
        Dropout probability of hidden channels of the blocks' MLPs.

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
    is no activation between filter and MLP. It differs in the statistics of
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
        _check_counts(
            inp_chans=inp_chans,
            out_chans=out_chans,
            embed_dim=embed_dim,
            num_layers=num_layers,
            scale_factor=scale_factor,
            encoder_layers=encoder_layers,
        )
        _check_rates(
            pos_drop_rate=pos_drop_rate,
            path_drop_rate=path_drop_rate,
            mlp_drop_rate=mlp_drop_rate,
        )
        first = _grid("inp_shape", inp_shape, model_grid_type)
        last = _grid("out_shape", out_shape, out_grid_type or model_grid_type)
        internal = _coarser_grid(first, scale_factor, sht_grid_type)
        lmax, mmax = _truncation((first, internal, last), max_modes)
        resolved = min(_exact_modes(first), _exact_modes(last))
        if max_modes is None and lmax < max(2, min(_FEW, resolved)):
            self.logger.warning(
                "scale_factor=%d and sht_grid_type=%r keep %d of %d degrees of spherical "
                "harmonics; take %s, or give max_modes if so few are meant",
                *(scale_factor, sht_grid_type, lmax, resolved),
                _remedy(lmax, resolved, scale_factor),
            )
        grids = [first, *[internal] * (num_layers - 1), last]

        hidden = _hidden_channels(embed_dim, mlp_ratio)
        coder = [hidden] * (encoder_layers - 1)
        self._layout = {
            "batch": None,
            "inp_chans": inp_chans,
            "inp_shape[0]": first.nlat,
            "inp_shape[1]": first.nlon,
        }
        self.encoder = pointwise_mlp([inp_chans, *coder, embed_dim], activation_function)
        self.pos_embed = position_embedding(
            pos_embed, channels=embed_dim, grid=first, lmax=lmax, mmax=mmax
        )
        self.pos_drop = nn.Dropout(pos_drop_rate)
        self.forward_transforms = _transforms(RealSHT, grids[:-1], lmax=lmax, mmax=mmax)
        self.inverse_transforms = _transforms(InverseRealSHT, grids[1:], lmax=lmax, mmax=mmax)
        self.blocks = nn.ModuleList(
            SphericalBlock(
                spectral_filter=SpectralFilter(
                    embed_dim, lmax=lmax, mmax=mmax, operator_type=operator_type
                ),
                norm=normalization(normalization_layer, embed_dim, grid),
                mlp=pointwise_mlp(
                    [embed_dim, hidden, embed_dim], activation_function, mlp_drop_rate
                ),
                drop_rate=path_drop_rate * number / max(1, num_layers - 1),
            )
            for number, grid in enumerate(grids[1:])
        )
        self.decoder = pointwise_mlp([embed_dim, *coder, out_chans], activation_function)
        self.big_skip = (
            pointwise_mlp([inp_chans, out_chans], activation_function) if big_skip else None
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
        for block, sht, isht in zip(
            self.blocks, self.forward_transforms, self.inverse_transforms, strict=True
        ):
            hidden = block(hidden, sht, isht)
        output: Tensor = self.decoder(hidden)
        if self.big_skip is None:
            return output
        if not self.same_grid:
            x = self.inverse_transforms[-1](self.forward_transforms[0](x)).to(x.dtype)
        skip: Tensor = self.big_skip(x)
        return output + skip


def _transforms(
    kind: Callable[[SphericalGrid, int, int], nn.Module],
    grids: Sequence[SphericalGrid],
    lmax: int,
    mmax: int,
) -> nn.ModuleList:
    """Return a transform for each grid; equal grids share one."""
    of_grid = {grid: kind(grid, lmax, mmax) for grid in dict.fromkeys(grids)}
    return nn.ModuleList(of_grid[grid] for grid in grids)


def _check_counts(**values: int) -> None:
    """Raise a ValueError unless options are whole numbers of at least 1."""
    for name, value in values.items():
        if not is_integer(value) or value < 1:
            raise ValueError(f"expected {name} to be a whole number of at least 1, got {value!r}")


def _check_rates(**values: float) -> None:
    """Raise a ValueError unless options are probabilities below 1."""
    check_real(**values)
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"expected {name} to be at least 0 and below 1, got {value}")


def _hidden_channels(embed_dim: int, mlp_ratio: float) -> int:
    """Return the hidden channels of MLPs; raise a ValueError if there would be none."""
    check_real(mlp_ratio=mlp_ratio)
    if mlp_ratio != mlp_ratio:
        raise ValueError("expected mlp_ratio to be a number, got NaN")
    hidden = int(mlp_ratio * embed_dim)
    if hidden < 1:
        raise ValueError(
            f"mlp_ratio={mlp_ratio} leaves no hidden channel of embed_dim={embed_dim}; use a "
            f"larger one"
        )
    return hidden


def _grid(name: str, shape: Sequence[int], grid_type: str) -> SphericalGrid:
    """Return the grid of a shape; raise a ValueError if there is no such grid."""
    if len(shape) != 2:
        raise ValueError(
            f"expected {name} to be the numbers of latitudes and of longitudes, got {list(shape)}"
        )
    nlat, nlon = shape
    check_at_least(0, **{f"{name}[0]": nlat, f"{name}[1]": nlon})
    return SphericalGrid(nlat, nlon, grid_type)


def _coarser_grid(grid: SphericalGrid, scale_factor: int, grid_type: str) -> SphericalGrid:
    """Return a grid with a fraction of the points along each axis; poles stay where they are."""
    nlat, nlon = (grid.nlat - 1) // scale_factor + 1, grid.nlon // scale_factor
    if nlat < 2 or nlon < 1:
        raise ValueError(
            f"scale_factor={scale_factor} leaves {nlat} × {nlon} of {grid.nlat} × {grid.nlon} "
            f"points; use a smaller one"
        )
    return SphericalGrid(nlat, nlon, grid_type)


def _exact_modes(grid: SphericalGrid) -> int:
    """Return the largest number of degrees and orders that a grid transforms exactly."""
    return min(grid.degrees, grid.orders)


def _remedy(kept: int, resolved: int, scale_factor: int) -> str:
    """Return what would keep more degrees than ``kept``, of those that outer grids resolve."""
    if kept == resolved:
        return "finer grids"
    # Without a scale factor, an internal grid is coarser than others by its type alone.
    return "a smaller scale_factor" if scale_factor > 1 else "sht_grid_type='legendre-gauss'"


def _truncation(grids: Sequence[SphericalGrid], max_modes: Sequence[int] | None) -> tuple[int, int]:
    """Return the number of degrees and of orders to keep.

    Unless given, both are the largest number that every grid transforms exactly.
    """
    if max_modes is None:
        modes = min(map(_exact_modes, grids))
        return modes, modes
    if len(max_modes) != 2:
        raise ValueError(
            f"expected max_modes to be the numbers of degrees and of orders, got {list(max_modes)}"
        )
    lmax, mmax = max_modes
    return lmax, mmax
