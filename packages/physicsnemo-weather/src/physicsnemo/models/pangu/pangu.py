# SPDX-License-Identifier: Apache-2.0
"""Pangu-Weather, for fields at the surface and on 13 levels of pressure."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.models.pangu._padding import reference_pads
from physicsnemo.models.window_layers import (
    DownSample,
    FuserLayer,
    PatchEmbed,
    PatchRecovery,
    UpSample,
    coarser,
)
from physicsnemo.models.window_layers._checks import check_sizes
from physicsnemo.nn.checks import check_input
from physicsnemo.nn.numerics import PAPER, check_numerics, implied

_SURFACE, _MASKS, _UPPER, _LEVELS = 4, 3, 5, 13


@dataclass
class MetaData(ModelMetaData):
    """What :class:`Pangu` supports."""

    name: str = "Pangu"
    cuda_graphs: bool = True
    amp: bool = True
    onnx_gpu: bool = True
    onnx_runtime: bool = True
    var_dim: int = 1


class Pangu(Module):
    """Pangu-Weather: a transformer of levels, latitudes and longitudes.

    Fields at the surface and on levels are divided into patches, which form one grid of three
    axes. Blocks of attention within windows of that grid alternate with blocks whose windows are
    shifted by half of their size; a learned bias tells them the latitude and the level. Blocks
    normalize what attention and their networks return, before it is added, as the authors'
    pseudocode does. The middle blocks work at half the resolution. Fields whose size is no multiple
    of the patches', and grids that windows do not fill, are padded by zeros and cropped: half
    before and half after, of which the pseudocode says nothing. Windows cross the first longitude,
    without zeros in between if they fill both grids along it.

    Parameters
    ----------
    img_size
        Number of latitudes and longitudes.
    patch_size
        Levels, latitudes and longitudes of a patch.
    embed_dim
        Channels of the grid of patches; at half the resolution there are twice as many.
    num_heads
        Number of heads in the four series of blocks, of which the middle ones work at half the
        resolution.
    window_size
        Points of a window along levels, latitudes and longitudes.
    numerics
        ``paper``, or ``reference-1.2`` to ``reference-2.2`` for what those releases of
        nvidia-physicsnemo compute, as files of theirs mean it. All keep apart the points on the
        two sides of the first longitude wherever windows are shifted, although these are
        neighbours; all normalize what attention and the networks of blocks take, and not what
        they return; all shift windows of any size by 1, 3 and 6 points, half of the default ones;
        and all pad fields on levels as if the height of a patch was its number of levels, which
        moves them where 3 rows are left over of a patch of 4. Until 2.0, moreover, the windows'
        shift in longitude is that in latitude, and its reverse is not.

    Raises
    ------
    ValueError
        If a size is not positive, ``num_heads`` does not divide the channels, or ``numerics`` has
        another value or cannot pad this size.

    References
    ----------
    Bi et al. 2023, Accurate medium-range global weather forecasting with 3D neural networks,
    arXiv:2211.02556, and the pseudocode that its authors publish with it.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.pangu import Pangu
    >>> model = Pangu(img_size=(19, 36), embed_dim=8, num_heads=(2, 4, 4, 2), window_size=(2, 3, 3))
    >>> surface, masks = torch.randn(1, 4, 19, 36), torch.randn(3, 19, 36)
    >>> upper = torch.randn(1, 5, 13, 19, 36)
    >>> surface, upper = model(model.prepare_input(surface, masks, upper))
    >>> surface.shape, upper.shape
    (torch.Size([1, 4, 19, 36]), torch.Size([1, 5, 13, 19, 36]))
    """

    _implied_args = implied(
        "latitude_roll",
        "fixed_shift",
        "normalized_before",
        "dateline_mask",
        "level_patch_pads_latitude",
    )

    def __init__(
        self,
        img_size: Sequence[int] = (721, 1440),
        patch_size: Sequence[int] = (2, 4, 4),
        embed_dim: int = 192,
        num_heads: Sequence[int] = (6, 12, 12, 6),
        window_size: Sequence[int] = (2, 6, 12),
        numerics: str = PAPER,
    ) -> None:
        super().__init__(meta=MetaData())
        check_numerics(numerics)
        self.img_size = check_sizes("img_size", img_size, "latitudes, longitudes")
        patch = check_sizes("patch_size", patch_size, "levels, latitudes, longitudes")
        window = check_sizes("window_size", window_size, "levels, latitudes, longitudes")
        heads = check_sizes("num_heads", num_heads, "first, second, third, fourth blocks")
        check_sizes("embed_dim", [embed_dim], "channels")

        dim, size = embed_dim, (_LEVELS, *self.img_size)
        pads = None if numerics == PAPER else reference_pads(size, patch)
        self.patchembed2d = PatchEmbed(self.img_size, patch[1:], _SURFACE + _MASKS, dim)
        self.patchembed3d = PatchEmbed(size, patch, _UPPER, dim, pads)
        levels, *plane = self.patchembed3d.grid
        grid = (1 + levels, *plane)
        drop = torch.linspace(0, 0.2, 8, device="cpu").tolist()
        outer, inner = drop[:2], drop[2:]
        self.layer1 = FuserLayer(dim, grid, heads[0], window, outer, numerics)
        self.downsample = DownSample(dim, grid)
        self.layer2 = FuserLayer(2 * dim, coarser(grid), heads[1], window, inner, numerics)
        self.layer3 = FuserLayer(2 * dim, coarser(grid), heads[2], window, inner, numerics)
        self.upsample = UpSample(dim, grid)
        self.layer4 = FuserLayer(dim, grid, heads[3], window, outer, numerics)
        self.patchrecovery2d = PatchRecovery(self.img_size, patch[1:], 2 * dim, _SURFACE)
        self.patchrecovery3d = PatchRecovery(size, patch, 2 * dim, _UPPER)

    def prepare_input(self, surface: Tensor, surface_mask: Tensor, upper_air: Tensor) -> Tensor:
        """Join the fields that :meth:`forward` takes.

        Parameters
        ----------
        surface
            Mean sea level pressure, two components of wind and the temperature at the surface, of
            shape (batch, 4, *img_size).
        surface_mask
            Fields that do not change, such as topography, land-sea mask and soil type, of shape
            (3, *img_size).
        upper_air
            Five fields on 13 levels, of shape (batch, 5, 13, *img_size).

        Returns
        -------
        All of them, of shape (batch, 72, *img_size).
        """
        masks = surface_mask.expand(surface.shape[0], -1, -1, -1)
        return torch.cat((surface, masks, upper_air.flatten(1, 2)), dim=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Forecast the next state.

        Parameters
        ----------
        x
            Fields of shape (batch, 72, *img_size), in the order that :meth:`prepare_input` has.

        Returns
        -------
        Fields at the surface, of shape (batch, 4, *img_size), and on levels, of shape
        (batch, 5, 13, *img_size).

        Raises
        ------
        TypeError
            If ``x`` does not hold floating-point numbers.
        ValueError
            If it has another shape or device than expected.
        """
        height, width = self.img_size
        sections = [_SURFACE + _MASKS, _UPPER * _LEVELS]
        layout = {"batch": None, "channels": sum(sections)}
        layout |= {"img_size[0]": height, "img_size[1]": width}
        check_input(x, layout, self.patchembed2d.proj.weight)

        surface, upper = x.split(sections, dim=1)
        planes = self.patchembed2d(surface).unsqueeze(1)
        levels = self.patchembed3d(upper.unflatten(1, (_UPPER, _LEVELS)))
        x = skip = self.layer1(torch.cat((planes, levels), dim=1))
        x = self.layer3(self.layer2(self.downsample(x)))
        x = self.layer4(self.upsample(x))
        x = torch.cat((x, skip), dim=-1)
        return self.patchrecovery2d(x[:, 0]), self.patchrecovery3d(x[:, 1:])
