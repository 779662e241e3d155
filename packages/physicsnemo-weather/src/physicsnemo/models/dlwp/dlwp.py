# SPDX-License-Identifier: Apache-2.0
"""A convolutional network for fields on the cubed sphere."""

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
    """Deep-learning weather prediction: a U-Net of convolutions on the cubed sphere.

    Convolutions reach over the edges of the six faces to the cells that lie there on the sphere.
    The four faces around the equator share one set of weights, and the two around the poles
    another, which sees the northern one mirrored.

    Faces 0 to 3 follow each other eastwards, with rows northwards and columns eastwards. Face 4 is
    around the south pole, and beyond its last row lies the first of face 0; face 5 is around the
    north pole, and before its first row lies the last of face 0. Columns of both run as in face 0.

    Parameters
    ----------
    nr_input_channels
        Channels of the input: variables at all times that the model looks back, and constants.
    nr_output_channels
        Channels of the output.
    nr_initial_channels
        Channels of the first convolutions; each level further down has twice as many.
    activation_fn
        Name of an activation (:func:`physicsnemo.nn.get_activation`).
    depth
        How often the grid is coarsened by 2.
    clamp_activation
        Smallest and largest value that activations may have, each a number or None for no bound.
    numerics
        ``paper``, or ``reference-1.2`` to ``reference-2.2`` for what those releases of
        nvidia-physicsnemo compute, as files of theirs mean it. They do the same here: beyond the
        edges that the polar faces share with face 2, they see the face around the other pole.

    Raises
    ------
    KeyError
        If there is no activation of that name.
    ValueError
        If a number is below 1, or ``clamp_activation`` or ``numerics`` is none of the above.

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
        # In this order, by which optimizers number weights.
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
            If the input does not hold floating-point numbers.
        ValueError
            If it has another shape or device than expected.
        """
        self._check(cubed_sphere_input)
        x = _mirror_north(cubed_sphere_input.permute(0, 2, 3, 4, 1))
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
                x = torch.cat((_finer(x), skipped.pop()), dim=-1)
            x = self._convolve(x, *weights)
        x = _on_faces(self.equatorial_last, self.polar_last, x)
        return _mirror_north(x).permute(0, 4, 1, 2, 3)

    def _convolve(self, x: Tensor, equatorial: nn.Module, polar: nn.Module) -> Tensor:
        padded = pad_faces(x, _KERNEL // 2, self.around)
        x = self.activation(_on_faces(equatorial, polar, padded))
        low, high = self.clamp_activation
        return x if low is None and high is None else torch.clamp(x, low, high)

    def _check(self, x: Tensor) -> None:
        layout = {
            "batch": None,
            "nr_input_channels": self.nr_input_channels,
            "faces": FACES,
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
    """Return the numbers of input and output channels of the convolutions, down, middle and up."""
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


def _on_faces(equatorial: nn.Module, polar: nn.Module, x: Tensor) -> Tensor:
    """Apply one layer to the faces around the equator, and one to those around the poles."""
    belt, caps = x.split((EQUATORIAL, FACES - EQUATORIAL), dim=1)
    return torch.cat((_on_images(equatorial, belt), _on_images(polar, caps)), dim=1)


def _on_images(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    images = x.flatten(0, 1).permute(0, 3, 1, 2)
    faces: Tensor = layer(images).permute(0, 2, 3, 1).unflatten(0, (-1, x.shape[1]))
    return faces


def _finer(x: Tensor) -> Tensor:
    """Make four of each cell."""
    batch, faces, height, width, channels = x.shape
    # Not by interpolation, whose gradient PyTorch's compiler adds up in any order.
    cells = x[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2, -1)
    return cells.reshape(batch, faces, 2 * height, 2 * width, channels)


def _mirror_north(x: Tensor) -> Tensor:
    return torch.cat((x[:, :5], x[:, 5:].flip(3)), dim=1)
