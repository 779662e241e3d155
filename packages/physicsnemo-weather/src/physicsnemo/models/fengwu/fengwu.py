# SPDX-License-Identifier: Apache-2.0
"""FengWu: a transformer per modality, fused, of surface fields and any number of levels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.models.window_layers.earth import DecoderLayer, EncoderLayer, FuserLayer
from physicsnemo.models.window_layers.patches import coarser
from physicsnemo.models.window_layers.windows import check_sizes
from physicsnemo.nn.checks import check_input
from physicsnemo.nn.numerics import PAPER, check_numerics, implied

_SURFACE = 4
_MODALITIES = ("surface", "z", "r", "u", "v", "t")
_MIDDLE_BLOCKS = 6


@dataclass
class MetaData(ModelMetaData):
    """What :class:`Fengwu` supports."""

    name: str = "Fengwu"
    cuda_graphs: bool = True
    amp: bool = True
    onnx_gpu: bool = True
    onnx_runtime: bool = True
    var_dim: int = 1


class Fengwu(Module):
    """FengWu: an encoder per modality, a fuser, and a decoder per modality.

    Modalities are the surface fields and, on pressure levels, geopotential z, humidity r, winds u
    and v, and temperature t. Encoders and decoders have window attention in latitude and longitude,
    at full and at half resolution; the fuser, at half resolution, in modality, latitude and
    longitude, with modalities in the place of Pangu's levels. Every second block has windows
    shifted by half their size; an earth-specific bias tells the latitude. Fields are padded by
    zeros to whole patches, and grids to whole windows. Shifted windows wrap around in longitude,
    without padding in between if windows fill both grids along it.

    The authors publish no code, and their paper no block. Blocks are pre-norm here, as in the Swin
    transformers that they build on.

    Parameters
    ----------
    img_size
        Number of latitudes and longitudes.
    pressure_level
        Number of pressure levels.
    embed_dim
        Number of embedding channels of a modality; at half resolution there are twice as many.
    patch_size
        Size of a patch: latitudes, longitudes.
    num_heads
        Number of attention heads at full and at half resolution; further ones are ignored.
    window_size
        Size of a window: modalities, latitudes, longitudes.
    numerics
        ``paper``, or ``reference-1.2`` to ``reference-2.2`` to compute what those releases of
        nvidia-physicsnemo do, as their files imply. All of them mask pairs of points across the
        first longitude in shifted windows, and shift windows by 1 modality and by 3 and 6 points,
        half of the default window, whatever its size. Before 2.1, moreover, windows are shifted in
        longitude by the latitude's shift, and back by their own. The code is in
        :mod:`physicsnemo.models.window_layers.earth`.

    Raises
    ------
    ValueError
        If a size is not positive, ``num_heads`` does not divide the channels, or ``numerics`` has
        another value.

    References
    ----------
    Chen et al. 2023, FengWu: pushing the skillful global medium-range weather forecast beyond 10
    days lead, arXiv:2304.02948; Liu et al. 2021, Swin transformer: hierarchical vision transformer
    using shifted windows, arXiv:2103.14030.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.fengwu import Fengwu
    >>> model = Fengwu(
    ...     img_size=(19, 36), pressure_level=13, embed_dim=8, num_heads=(2, 4),
    ...     window_size=(2, 3, 3),
    ... )
    >>> surface, levels = torch.randn(1, 4, 19, 36), [torch.randn(1, 13, 19, 36)] * 5
    >>> surface, z, r, u, v, t = model(model.prepare_input(surface, *levels))
    >>> surface.shape, t.shape
    (torch.Size([1, 4, 19, 36]), torch.Size([1, 13, 19, 36]))
    """

    _implied_args = implied("latitude_roll", "fixed_shift", "dateline_mask")

    encoder_surface: EncoderLayer

    def __init__(
        self,
        img_size: Sequence[int] = (721, 1440),
        pressure_level: int = 37,
        embed_dim: int = 192,
        patch_size: Sequence[int] = (4, 4),
        num_heads: Sequence[int] = (6, 12, 12, 6),
        window_size: Sequence[int] = (2, 6, 12),
        numerics: str = PAPER,
    ) -> None:
        super().__init__(meta=MetaData())
        check_numerics(numerics)
        self.img_size = check_sizes("img_size", img_size, "latitudes, longitudes")
        patch = check_sizes("patch_size", patch_size, "latitudes, longitudes")
        window = check_sizes("window_size", window_size, "kinds, latitudes, longitudes")
        heads = check_sizes("num_heads[:2]", num_heads[:2], "full resolution, half resolution")
        check_sizes("embed_dim", [embed_dim], "channels")
        check_sizes("pressure_level", [pressure_level], "levels")

        self.channels = [_SURFACE] + [pressure_level] * (len(_MODALITIES) - 1)
        drop = torch.linspace(0, 0.2, 2 + _MIDDLE_BLOCKS, device="cpu").tolist()
        shape: dict[str, Any] = {
            "img_size": self.img_size,
            "patch_size": patch,
            "dim": embed_dim,
            "num_heads": heads,
            "window": window[1:],
            "drop_path": (drop[:2], drop[2:]),
            "numerics": numerics,
        }
        for name, channels in zip(_MODALITIES, self.channels, strict=True):
            encoder = EncoderLayer(in_chans=channels, **shape)
            self.add_module(f"encoder_{name}", encoder)
        self.fuser = FuserLayer(
            2 * embed_dim,
            grid=(len(_MODALITIES), *coarser(encoder.patchembed2d.grid)),
            num_heads=heads[1],
            window=window,
            drop_path=[0.2] * _MIDDLE_BLOCKS,
            numerics=numerics,
            post_norm=False,
        )
        for name, channels in zip(_MODALITIES, self.channels, strict=True):
            self.add_module(f"decoder_{name}", DecoderLayer(out_chans=channels, **shape))

    def prepare_input(
        self, surface: Tensor, z: Tensor, r: Tensor, u: Tensor, v: Tensor, t: Tensor
    ) -> Tensor:
        """Concatenate the input fields of :meth:`forward`.

        Parameters
        ----------
        surface
            Four surface fields, of shape (batch, 4, *img_size).
        z, r, u, v, t
            Geopotential, humidity, winds and temperature, each of shape
            (batch, pressure_level, *img_size).

        Returns
        -------
        Input fields, of shape (batch, 4 + 5 * pressure_level, *img_size).
        """
        return torch.cat((surface, z, r, u, v, t), dim=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Forecast the next state.

        Parameters
        ----------
        x
            Input fields, of shape (batch, 4 + 5 * pressure_level, *img_size), in the order of
            :meth:`prepare_input`.

        Returns
        -------
        Surface fields, of shape (batch, 4, *img_size), and z, r, u, v and t, each of shape
        (batch, pressure_level, *img_size).

        Raises
        ------
        TypeError
            If ``x`` is not floating-point.
        ValueError
            If its shape or device does not fit.
        """
        height, width = self.img_size
        layout = {"batch": None, "4 + 5 * pressure_level": sum(self.channels)}
        layout |= {"img_size[0]": height, "img_size[1]": width}
        check_input(x, layout, self.encoder_surface.patchembed2d.proj.weight)

        fields = zip(_MODALITIES, x.split(self.channels, dim=1), strict=True)
        encoded = [getattr(self, f"encoder_{name}")(field) for name, field in fields]
        coarse, skips = zip(*encoded, strict=True)
        fused = self.fuser(torch.stack(coarse, dim=1)).unbind(1)
        surface, z, r, u, v, t = (
            getattr(self, f"decoder_{name}")(grid, skip)
            for name, grid, skip in zip(_MODALITIES, fused, skips, strict=True)
        )
        return surface, z, r, u, v, t
