# SPDX-License-Identifier: Apache-2.0
"""DLWP: a U-Net on the cubed sphere."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.models.dlwp._cubed_sphere import (
    EQUATORIAL,
    FACES,
    around_cube,
    around_cube_as_reference,
)
from physicsnemo.models.face_layers import pad_faces
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.nn import get_activation
from physicsnemo.nn.checks import check_at_least, check_input
from physicsnemo.nn.numerics import PAPER, check_numerics, implied

__all__ = ["DLWP", "MetaData"]

_KERNEL = 3


@dataclass
class MetaData(ModelMetaData):
    """What :class:`DLWP` supports."""

    name: str = "DLWP"
    cuda_graphs: bool = True
    amp_cpu: bool | None = True
    amp_gpu: bool | None = True
    var_dim: int = 1


class DLWP(Module):
    """Deep-learning weather prediction (DLWP): a U-Net on the cubed sphere.

    Convolutions are padded by the neighbor cells on the sphere. The four equatorial faces share one
    set of weights, the two polar faces another, which sees the northern one mirrored.

    Faces 0 to 3 run eastward along the equator, with rows northward and columns eastward. Face 4 is
    around the south pole, with the first row of face 0 beyond its last row; face 5 is around the
    north pole, with the last row of face 0 before its first row. Columns of both run as in face 0.

    Parameters
    ----------
    nr_input_channels
        Number of input channels: variables at all input times, and constants.
    nr_output_channels
        Number of output channels.
    nr_initial_channels
        Base channel count, which doubles with each level.
    activation_fn
        Activation, by name (:func:`physicsnemo.nn.get_activation`).
    depth
        Number of downsamplings by 2.
    clamp_activation
        Lower and upper bound of activations, each a number or None for no bound.
    numerics
        ``paper``, or ``reference-1.2`` to ``reference-2.2`` to compute what those releases of
        nvidia-physicsnemo do, as their files imply. Here they all do the same: across the edges
        that polar faces share with face 2, the padding is from the face around the other pole.

    Raises
    ------
    KeyError
        If the activation is unknown.
    ValueError
        If a number is below 1, or ``clamp_activation`` or ``numerics`` has another value.

    References
    ----------
    Weyn et al. 2020, Improving data-driven global weather prediction using deep convolutional
    neural networks on a cubed sphere, arXiv:2003.11927; Weyn et al. 2021, Sub-seasonal forecasting
    with a large ensemble of deep-learning weather prediction models, doi:10.1029/2021MS002502.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.dlwp import DLWP
    >>> model = DLWP(nr_input_channels=4, nr_output_channels=2, nr_initial_channels=8)
    >>> model(torch.randn(1, 4, 6, 16, 16)).shape
    torch.Size([1, 2, 6, 16, 16])
    """

    _implied_args = implied("crossed_poles")
    _faces = range(FACES)  # those of the input

    def __init__(
        self,
        nr_input_channels: int,
        nr_output_channels: int,
        nr_initial_channels: int = 64,
        activation_fn: str = "leaky_relu",
        depth: int = 2,
        clamp_activation: Sequence[float | None] = (None, 10.0),
        numerics: str = PAPER,
    ) -> None:
        super().__init__(meta=MetaData())
        check_at_least(
            1,
            nr_input_channels=nr_input_channels,
            nr_output_channels=nr_output_channels,
            nr_initial_channels=nr_initial_channels,
            depth=depth,
        )
        if len(clamp_activation) != 2:
            raise ValueError(
                f"expected clamp_activation as a smallest and a largest value, as in "
                f"(None, 10.0), got {clamp_activation!r}"
            )
        check_numerics(numerics)
        self.nr_input_channels = nr_input_channels
        self.depth = depth
        self.clamp_activation = tuple(clamp_activation)
        self.around = around_cube if numerics == PAPER else around_cube_as_reference
        self.activation = get_activation(activation_fn)
        down, middle, up = _channels(nr_input_channels, nr_initial_channels, depth)
        last = up[-1][1], nr_output_channels
        # In this order, since optimizers identify parameters by their position.
        self.equatorial_downsample = _convolutions(down)
        self.polar_downsample = _convolutions(down)
        self.equatorial_mid_layers = _convolutions(middle)
        self.polar_mid_layers = _convolutions(middle)
        self.equatorial_upsample = _convolutions(up)
        self.polar_upsample = _convolutions(up)
        self.equatorial_last = nn.Conv2d(*last, kernel_size=1)
        self.polar_last = nn.Conv2d(*last, kernel_size=1)

    def forward(self, cubed_sphere_input: Tensor) -> Tensor:
        """Compute the fields at the next time.

        Parameters
        ----------
        cubed_sphere_input
            Fields of shape (batch, nr_input_channels, 6, size, size), where ``size`` is a multiple
            of ``2**depth``.

        Returns
        -------
        Fields of shape (batch, nr_output_channels, 6, size, size).

        Raises
        ------
        TypeError
            If the input is not floating-point.
        ValueError
            If its shape or device does not fit.
        """
        self._check(cubed_sphere_input)
        # Channels last: padding copies whole cells, and convolutions take such images unchanged.
        x = self._mirror_north(cubed_sphere_input.permute(0, 2, 3, 4, 1))
        skipped = []
        down = zip(self.equatorial_downsample, self.polar_downsample, strict=True)
        middle = zip(self.equatorial_mid_layers, self.polar_mid_layers, strict=True)
        up = zip(self.equatorial_upsample, self.polar_upsample, strict=True)
        for index, weights in enumerate(down):
            x = self._convolve(x, *weights)
            if index % 2:
                skipped.append(x)
                x = _on_images(lambda images: functional.avg_pool2d(images, 2), x)
        for weights in middle:
            x = self._convolve(x, *weights)
        for index, weights in enumerate(up):
            if index % 2 == 0:
                x = torch.cat((_upsampled(x), skipped.pop()), dim=-1)
            x = self._convolve(x, *weights)
        x = self._on_faces(self.equatorial_last, self.polar_last, x)
        return self._mirror_north(x).permute(0, 4, 1, 2, 3)

    def _convolve(self, x: Tensor, equatorial: nn.Module, polar: nn.Module) -> Tensor:
        padded = self._pad(x, _KERNEL // 2)
        x = self.activation(self._on_faces(equatorial, polar, padded))
        low, high = self.clamp_activation
        return x if low is None and high is None else torch.clamp(x, low, high)

    def _pad(self, x: Tensor, padding: int) -> Tensor:
        return pad_faces(x, padding, self.around)

    def _on_faces(self, equatorial: nn.Module, polar: nn.Module, x: Tensor) -> Tensor:
        """Apply one layer to the faces around the equator, and one to those around the poles."""
        belt, caps = self._split(x, EQUATORIAL)
        return torch.cat((_on_images(equatorial, belt), _on_images(polar, caps)), dim=1)

    def _mirror_north(self, x: Tensor) -> Tensor:
        others, north = self._split(x, FACES - 1)
        return torch.cat((others, north.flip(3)), dim=1)

    def _split(self, x: Tensor, face: int) -> tuple[Tensor, Tensor]:
        """Return the faces before one, and the others."""
        count = min(max(face - self._faces.start, 0), len(self._faces))
        before, others = x.split((count, len(self._faces) - count), dim=1)
        return before, others

    def _check(self, x: Tensor) -> None:
        layout = {
            "batch": None,
            "nr_input_channels": self.nr_input_channels,
            "faces": len(self._faces),
            "height": None,
            "width": None,
        }
        check_input(x, layout, self.equatorial_last.weight)
        height, width = x.shape[3:]
        if height != width or height % 2**self.depth:
            raise ValueError(
                f"expected square faces whose size is a multiple of {2**self.depth}, since "
                f"depth={self.depth}, got {height} x {width}"
            )


def _channels(inputs: int, initial: int, depth: int) -> list[list[tuple[int, int]]]:
    """Return the input and output channels of the convolutions: down, middle and up."""
    widths = [initial * 2**level for level in range(depth)]
    deepest = widths[-1]
    down, up = [], []
    for before, width in zip([inputs, *widths[:-1]], widths, strict=True):
        down += [(before, width), (width, width)]
    for after, width in zip([*widths[-2::-1], initial], reversed(widths), strict=True):
        up += [(2 * width, width), (width, after)]
    return [down, [(deepest, 2 * deepest), (2 * deepest, deepest)], up]


def _convolutions(channels: Iterable[tuple[int, int]]) -> nn.ModuleList:
    return nn.ModuleList(nn.Conv2d(*pair, _KERNEL) for pair in channels)


# Fields have the shape (batch, faces, height, width, channels), which are channels-last images.


def _on_images(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    images = x.flatten(0, 1).permute(0, 3, 1, 2)
    faces: Tensor = layer(images).permute(0, 2, 3, 1).unflatten(0, x.shape[:2])
    return faces


def _upsampled(x: Tensor) -> Tensor:
    """Nearest-neighbor upsampling by 2."""
    batch, faces, height, width, channels = x.shape
    # Not by interpolation, whose gradient PyTorch's compiler adds up atomically, in any order.
    cells = x[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2, -1)
    return cells.reshape(batch, faces, 2 * height, 2 * width, channels)
