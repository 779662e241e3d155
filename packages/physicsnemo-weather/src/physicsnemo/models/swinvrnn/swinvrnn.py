# SPDX-License-Identifier: Apache-2.0
"""SwinRNN: a multi-resolution Swin transformer of several past states."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.models.window_layers import PatchEmbed, SwinTransformer, coarser
from physicsnemo.models.window_layers.attention import check_heads
from physicsnemo.models.window_layers.patches import join_patches
from physicsnemo.models.window_layers.windows import check_sizes, crop_grid, pad_grid
from physicsnemo.nn.checks import check_input

LEVELS = range(1, 5)
_ENCODER_BLOCKS, _DECODER_BLOCKS = 2, 12
_RESIDUALS = 2


@dataclass
class MetaData(ModelMetaData):
    """What :class:`SwinRNN` supports."""

    name: str = "SwinRNN"
    cuda_graphs: bool = True
    amp: bool = True
    onnx_gpu: bool = True
    onnx_runtime: bool = True
    var_dim: int = 1


class SwinRNN(Module):
    """SwinRNN: a Swin transformer at four resolutions that forecasts the increment of the state.

    A patch embedding covers all past states. Swin stages encode it at full, half, quarter and
    eighth resolution; at each, another stage is conditioned on the last state. Convolutions
    upsample and merge the four to the increment, which is added to the last state. Fields are
    padded to whole patches and grids to whole windows, and half the resolution is rounded up, so
    that all sizes work.

    Parameters
    ----------
    img_size
        Number of past states, latitudes and longitudes.
    patch_size
        Size of a patch: past states, all of them, latitudes, longitudes.
    in_chans
        Number of channels of a state.
    out_chans
        Number of output channels, equal to ``in_chans``.
    embed_dim
        Number of embedding channels.
    num_groups
        Number of groups of the group normalizations, which must divide ``embed_dim``.
    num_heads
        Number of attention heads, which must divide ``embed_dim``.
    window_size
        Height and width of a window.

    Raises
    ------
    ValueError
        If a size is not positive, a patch does not hold all past states, ``out_chans`` is not
        ``in_chans``, or ``num_heads`` or ``num_groups`` does not divide ``embed_dim``.

    References
    ----------
    Hu et al. 2023, SwinVRNN: a data-driven ensemble forecasting model via learned distribution
    perturbation, arXiv:2205.13158.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.swinvrnn import SwinRNN
    >>> model = SwinRNN(
    ...     img_size=(2, 19, 36), patch_size=(2, 2, 2), in_chans=3, out_chans=3, embed_dim=8,
    ...     num_groups=2, num_heads=2, window_size=3,
    ... )
    >>> model(torch.randn(1, 3, 2, 19, 36)).shape
    torch.Size([1, 3, 19, 36])
    """

    def __init__(
        self,
        img_size: Sequence[int] = (2, 721, 1440),
        patch_size: Sequence[int] = (2, 4, 4),
        in_chans: int = 70,
        out_chans: int = 70,
        embed_dim: int = 1536,
        num_groups: int = 32,
        num_heads: int = 8,
        window_size: int = 7,
    ) -> None:
        super().__init__(meta=MetaData())
        self.img_size = check_sizes("img_size", img_size, "times, latitudes, longitudes")
        patch = check_sizes("patch_size", patch_size, "times, latitudes, longitudes")
        check_sizes("in_chans", [in_chans], "channels")
        check_sizes("embed_dim", [embed_dim], "channels")
        check_sizes("num_heads", [num_heads], "heads")
        check_sizes("window_size", [window_size], "points")
        check_heads(embed_dim, num_heads)
        _check_consistent(
            times=self.img_size[0],
            patch_times=patch[0],
            in_chans=in_chans,
            out_chans=out_chans,
            embed_dim=embed_dim,
            num_groups=num_groups,
        )

        self.in_chans = in_chans
        self.cube_embedding = PatchEmbed(
            self.img_size, patch, in_chans=in_chans, embed_dim=embed_dim, norm=True
        )
        grid = self.cube_embedding.grid[1:]
        for level in LEVELS:
            if level > 1:
                grid = coarser(grid)
                down = ConvBlock(embed_dim, embed_dim, num_groups, upsample=-1)
                self.add_module(f"down{level - 1}", down)
                down = ConvBlock(in_chans, in_chans, in_chans, upsample=-1)
                self.add_module(f"down{level - 1}x", down)
                channels = embed_dim if level == LEVELS[-1] else 2 * embed_dim
                up = ConvBlock(channels, embed_dim, num_groups, upsample=1)
                self.add_module(f"up{level - 1}x", up)
            for name, depth in (("block", _ENCODER_BLOCKS), ("decoder", _DECODER_BLOCKS)):
                stage = SwinTransformer(
                    embed_dim, grid, num_heads=num_heads, window_size=window_size, depth=depth
                )
                self.add_module(f"swin_{name}{level}", stage)
            self.add_module(f"lin_proj{level}", nn.Linear(in_chans + embed_dim, embed_dim))
        points = patch[1] * patch[2]
        self.pred = ConvBlock(2 * embed_dim, out_chans * points, out_chans)

    def forward(self, x: Tensor) -> Tensor:
        """Forecast the next state.

        Parameters
        ----------
        x
            Past states of shape (batch, in_chans, *img_size), in order of time.

        Returns
        -------
        Next state, of shape (batch, out_chans, latitudes, longitudes).

        Raises
        ------
        TypeError
            If ``x`` is not floating-point.
        ValueError
            If its shape or device does not fit.
        """
        layout = {"batch": None, "in_chans": self.in_chans}
        layout |= {f"img_size[{axis}]": size for axis, size in enumerate(self.img_size)}
        check_input(x, layout, self.cube_embedding.proj.weight)

        last = x[:, :, -1]
        features = self._encode(self.cube_embedding(x).squeeze(1), self._means(last))
        increment = features.pop()
        for level in reversed(LEVELS[:-1]):
            feature = features.pop()
            increment = getattr(self, f"up{level}x")(increment)
            # Half an odd size was rounded up, so twice of it is one too many.
            increment = increment[..., : feature.shape[-2], : feature.shape[-1]]
            increment = torch.cat((feature, increment), dim=1)
        return last + self._recover(self.pred(increment))

    def _means(self, state: Tensor) -> Tensor:
        """Return the mean of each patch of a state."""
        _, *patch = self.cube_embedding.patch_size
        padded = pad_grid(state, self.cube_embedding.pads[1:], channels_last=False)
        return functional.avg_pool2d(padded, patch)

    def _recover(self, grid: Tensor) -> Tensor:
        """Return fields of the patches of a grid."""
        _, *patch = self.cube_embedding.patch_size
        fields = join_patches(grid.movedim(1, -1), patch)
        return crop_grid(fields, self.cube_embedding.pads[1:], channels_last=False)

    def _encode(self, grid: Tensor, state: Tensor) -> list[Tensor]:
        """Return the features of all resolutions, of a grid with channels last and a state."""
        features = []
        for level in LEVELS:
            if level > 1:
                grid = getattr(self, f"down{level - 1}")(grid.movedim(-1, 1)).movedim(1, -1)
                state = getattr(self, f"down{level - 1}x")(state)
            grid = getattr(self, f"swin_block{level}")(grid)
            both = torch.cat((state.movedim(1, -1), grid), dim=-1)
            both = getattr(self, f"lin_proj{level}")(both)
            feature = grid + getattr(self, f"swin_decoder{level}")(both)
            features.append(feature.movedim(-1, 1))
        return features


class ConvBlock(nn.Module):
    """Convolution that changes the resolution, then a residual branch of normalized convolutions.

    Parameters
    ----------
    in_chans
        Number of input channels.
    out_chans
        Number of output channels.
    num_groups
        Number of groups of the group normalizations, which must divide ``out_chans``.
    upsample
        1 for twice the resolution, 0 for the same, -1 for half, rounded up.
    """

    def __init__(
        self, in_chans: int, out_chans: int, num_groups: int, upsample: Literal[-1, 0, 1] = 0
    ) -> None:
        super().__init__()
        self.conv = (
            nn.ConvTranspose2d(in_chans, out_chans, 2, stride=2)
            if upsample == 1
            else nn.Conv2d(in_chans, out_chans, 3, stride=1 - upsample, padding=1)
        )
        layers: list[nn.Module] = []
        for _ in range(_RESIDUALS):
            layers.append(nn.Conv2d(out_chans, out_chans, 3, padding=1))
            layers.append(_GroupNorm(num_groups, out_chans))
            layers.append(nn.SiLU())
        self.b = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map fields of shape (batch, in_chans, height, width) to the other resolution."""
        x = self.conv(x)
        output: Tensor = x + self.b(x)
        return output


class _GroupNorm(nn.GroupNorm):
    """Group normalization of contiguous tensors.

    In forward-mode differentiation, PyTorch's cannot view tensors in channels-last memory format.
    """

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.contiguous())


def _check_consistent(
    *, times: int, patch_times: int, in_chans: int, out_chans: int, embed_dim: int, num_groups: int
) -> None:
    if patch_times != times:
        raise ValueError(
            f"expected a patch to hold all {times} past states, got patch_size[0]={patch_times}; "
            f"take patch_size[0]={times}, or another img_size[0]"
        )
    if out_chans != in_chans:
        raise ValueError(
            f"expected out_chans to be in_chans, whose change the model forecasts, got out_chans="
            f"{out_chans} and in_chans={in_chans}"
        )
    if num_groups < 1 or embed_dim % num_groups:
        raise ValueError(
            f"expected num_groups to divide embed_dim, got num_groups={num_groups} and embed_dim="
            f"{embed_dim}"
        )
