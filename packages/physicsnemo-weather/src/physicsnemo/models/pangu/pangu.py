# SPDX-License-Identifier: Apache-2.0
"""Pangu-Weather: a 3D earth-specific transformer of surface fields and 13 pressure levels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.models.window_layers.earth import FuserLayer
from physicsnemo.models.window_layers.patches import (
    DownSample,
    PatchEmbed,
    PatchRecovery,
    UpSample,
    coarser,
)
from physicsnemo.models.window_layers.windows import Pads, centered_pads, check_sizes
from physicsnemo.nn.checks import check_input
from physicsnemo.nn.numerics import PAPER, check_numerics, has_oddity, implied

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
    """Pangu-Weather: a 3D earth-specific transformer.

    Patch embeddings of surface fields and of pressure levels form one grid of levels, latitudes and
    longitudes. Blocks have window attention with an earth-specific bias, every second one in
    windows shifted by half their size, and post-norm residual branches, as in the authors'
    pseudocode; the middle stages work at half resolution. Fields are padded by zeros to whole
    patches, and grids to whole windows, half before and half after, of which the pseudocode says
    nothing. Shifted windows wrap around in longitude, without padding in between if windows fill
    both grids along it; between the poles and between the ends of the levels they are masked
    (:mod:`physicsnemo.models.window_layers.earth`).

    Parameters
    ----------
    img_size
        Number of latitudes and longitudes.
    patch_size
        Size of a patch: levels, latitudes, longitudes.
    embed_dim
        Number of embedding channels; at half resolution there are twice as many.
    num_heads
        Number of attention heads of the four stages, the middle ones of which work at half
        resolution.
    window_size
        Size of a window: levels, latitudes, longitudes.
    numerics
        ``paper``, or ``reference-1.2`` to ``reference-2.2`` to compute what those releases of
        nvidia-physicsnemo do, as their files imply. All of them mask pairs of points across the
        first longitude in shifted windows; have pre-norm instead of post-norm blocks; shift windows
        by 1, 3 and 6 points, half of the default window, whatever its size; and pad fields on
        levels as if the height of a patch was its number of levels, which moves them where 3 rows
        are left over of a patch of 4. Before 2.1, moreover, windows are shifted in longitude by the
        latitude's shift, and back by their own.

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
        has_pads_of_levels = has_oddity(numerics, "level_patch_pads_latitude")
        pads = _reference_pads(size, patch) if has_pads_of_levels else None
        self.patchembed2d = PatchEmbed(
            self.img_size, patch[1:], in_chans=_SURFACE + _MASKS, embed_dim=dim
        )
        self.patchembed3d = PatchEmbed(size, patch, in_chans=_UPPER, embed_dim=dim, pads=pads)
        levels, *plane = self.patchembed3d.grid
        grid = (1 + levels, *plane)
        drop = torch.linspace(0, 0.2, 8, device="cpu").tolist()
        full: dict[str, Any] = {
            "dim": dim,
            "grid": grid,
            "window": window,
            "drop_path": drop[:2],
            "numerics": numerics,
            "post_norm": not has_oddity(numerics, "normalized_before"),
        }
        half = full | {"dim": 2 * dim, "grid": coarser(grid), "drop_path": drop[2:]}
        self.layer1 = FuserLayer(num_heads=heads[0], **full)
        self.downsample = DownSample(dim, grid)
        self.layer2 = FuserLayer(num_heads=heads[1], **half)
        self.layer3 = FuserLayer(num_heads=heads[2], **half)
        self.upsample = UpSample(dim, grid)
        self.layer4 = FuserLayer(num_heads=heads[3], **full)
        self.patchrecovery2d = PatchRecovery(
            self.img_size, patch[1:], in_chans=2 * dim, out_chans=_SURFACE
        )
        self.patchrecovery3d = PatchRecovery(size, patch, in_chans=2 * dim, out_chans=_UPPER)

    def prepare_input(self, surface: Tensor, surface_mask: Tensor, upper_air: Tensor) -> Tensor:
        """Concatenate the input fields of :meth:`forward`.

        Parameters
        ----------
        surface
            Surface fields: mean sea level pressure, two wind components and temperature, of shape
            (batch, 4, *img_size).
        surface_mask
            Static fields, such as topography, land-sea mask and soil type, of shape
            (3, *img_size).
        upper_air
            Five fields on 13 pressure levels, of shape (batch, 5, 13, *img_size).

        Returns
        -------
        Input fields, of shape (batch, 72, *img_size).
        """
        masks = surface_mask.expand(surface.shape[0], -1, -1, -1)
        return torch.cat((surface, masks, upper_air.flatten(1, 2)), dim=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Forecast the next state.

        Parameters
        ----------
        x
            Input fields, of shape (batch, 72, *img_size), in the order of :meth:`prepare_input`.

        Returns
        -------
        Surface fields, of shape (batch, 4, *img_size), and fields on pressure levels, of shape
        (batch, 5, 13, *img_size).

        Raises
        ------
        TypeError
            If ``x`` is not floating-point.
        ValueError
            If its shape or device does not fit.
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


def _reference_pads(img_size: Sequence[int], patch_size: Sequence[int]) -> Pads:
    """Return the padding of levels, latitudes and longitudes in nvidia-physicsnemo.

    Parameters
    ----------
    img_size
        Number of levels, latitudes and longitudes.
    patch_size
        Those of a patch.

    Raises
    ------
    ValueError
        If the number of patches is not that of the surface fields.
    """
    # It pads latitudes by the remainder of a division by a patch's levels instead of its height.
    # Its convolution then ignores latitudes that fill no patch; here they are cropped.
    levels, height, _ = patch_size
    rows = img_size[1]
    over = rows % levels
    total = height - over if over else 0
    before = total // 2
    patches = -(-rows // height)
    if (rows + total) // height != patches:
        raise ValueError(
            f"nvidia-physicsnemo cannot compute a model of {rows} latitudes with patch_size="
            f"{list(patch_size)}, so there are no such numerics; take numerics='paper'"
        )
    pads = centered_pads(img_size, patch_size)
    return pads[0], (before, patches * height - rows - before), pads[2]
