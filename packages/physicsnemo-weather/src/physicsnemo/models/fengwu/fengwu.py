# SPDX-License-Identifier: Apache-2.0
"""FengWu, for fields at the surface and on any number of levels of pressure."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.models.window_layers import DecoderLayer, EncoderLayer, FuserLayer, coarser
from physicsnemo.models.window_layers._checks import check_sizes
from physicsnemo.nn.checks import check_input
from physicsnemo.nn.numerics import PAPER, check_numerics, implied

_SURFACE = 4
_KINDS = ("surface", "z", "r", "u", "v", "t")
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
    """FengWu: a transformer that encodes each kind of field alone, fuses them, and decodes each.

    The kinds are the fields at the surface and, on levels of pressure, the geopotential z, the
    humidity r, the winds u and v, and the temperature t. Encoders and decoders attend within
    windows of latitude and longitude, at the resolution of the patches and at half of it. In
    between, at half the resolution, windows also join kinds, which take the place of levels. Every
    second block shifts its windows by half of their size; a learned bias tells it the latitude.
    Fields whose size is no multiple of the patches', and grids that windows do not fill, are padded
    by zeros and cropped. Windows cross the first longitude, without zeros in between if they fill
    both grids along it.

    There is no code of the authors, and their paper writes out no block; what attention and the
    networks take is normalized here, as in the Swin transformers that it builds on.

    Parameters
    ----------
    img_size
        Number of latitudes and longitudes.
    pressure_level
        Number of levels.
    embed_dim
        Channels of the grid of patches, for each kind; at half the resolution there are twice as
        many.
    patch_size
        Latitudes and longitudes of a patch.
    num_heads
        Number of heads at the resolution of the patches, then at half of it; others are ignored.
    window_size
        Points of a window along kinds, latitudes and longitudes.
    numerics
        ``paper``, or ``reference-1.2`` to ``reference-2.2`` for what those releases of
        nvidia-physicsnemo compute, as files of theirs mean it. All keep apart the points on the
        two sides of the first longitude wherever windows are shifted, although these are
        neighbours, and shift windows of any size by 1 kind and by 3 and 6 points, half of the
        default ones. Until 2.0, moreover, the windows' shift in longitude is that in latitude, and
        its reverse is not.

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

        self.channels = [_SURFACE] + [pressure_level] * (len(_KINDS) - 1)
        drop = torch.linspace(0, 0.2, 2 + _MIDDLE_BLOCKS, device="cpu").tolist()
        drops = drop[:2], drop[2:]
        for kind, channels in zip(_KINDS, self.channels, strict=True):
            encoder = EncoderLayer(
                self.img_size, patch, channels, embed_dim, heads, window[1:], drops, numerics
            )
            self.add_module(f"encoder_{kind}", encoder)
        grid = (len(_KINDS), *coarser(encoder.patchembed2d.grid))
        self.fuser = FuserLayer(
            2 * embed_dim,
            grid,
            heads[1],
            window,
            [0.2] * _MIDDLE_BLOCKS,
            numerics,
            post_norm=False,
        )
        for kind, channels in zip(_KINDS, self.channels, strict=True):
            decoder = DecoderLayer(
                self.img_size, patch, channels, embed_dim, heads, window[1:], drops, numerics
            )
            self.add_module(f"decoder_{kind}", decoder)

    def prepare_input(
        self, surface: Tensor, z: Tensor, r: Tensor, u: Tensor, v: Tensor, t: Tensor
    ) -> Tensor:
        """Join the fields that :meth:`forward` takes.

        Parameters
        ----------
        surface
            Four fields at the surface, of shape (batch, 4, *img_size).
        z, r, u, v, t
            Geopotential, humidity, winds and temperature, each of shape
            (batch, pressure_level, *img_size).

        Returns
        -------
        All of them, of shape (batch, 4 + 5 * pressure_level, *img_size).
        """
        return torch.cat((surface, z, r, u, v, t), dim=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Forecast the next state.

        Parameters
        ----------
        x
            Fields of shape (batch, 4 + 5 * pressure_level, *img_size), in the order that
            :meth:`prepare_input` has.

        Returns
        -------
        Fields at the surface, of shape (batch, 4, *img_size), and z, r, u, v and t, each of shape
        (batch, pressure_level, *img_size).

        Raises
        ------
        TypeError
            If ``x`` does not hold floating-point numbers.
        ValueError
            If it has another shape or device than expected.
        """
        height, width = self.img_size
        layout = {"batch": None, "4 + 5 * pressure_level": sum(self.channels)}
        layout |= {"img_size[0]": height, "img_size[1]": width}
        check_input(x, layout, self.encoder_surface.patchembed2d.proj.weight)

        fields = zip(_KINDS, x.split(self.channels, dim=1), strict=True)
        encoded = [getattr(self, f"encoder_{kind}")(field) for kind, field in fields]
        coarse, skips = zip(*encoded, strict=True)
        fused = self.fuser(torch.stack(coarse, dim=1)).unbind(1)
        surface, z, r, u, v, t = (
            getattr(self, f"decoder_{kind}")(grid, skip)
            for kind, grid, skip in zip(_KINDS, fused, skips, strict=True)
        )
        return surface, z, r, u, v, t
