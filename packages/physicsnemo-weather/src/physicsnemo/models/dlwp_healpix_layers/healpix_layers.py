# SPDX-License-Identifier: Apache-2.0
"""Layers of images on the HEALPix grid, whose faces are padded by their neighbors."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from physicsnemo.models.dlwp_healpix_layers._neighbors import FACES, around_healpix
from physicsnemo.models.face_layers import pad_faces
from physicsnemo.nn.checks import is_integer

__all__ = [
    "FACES",
    "GeometryLayer",
    "HEALPixFoldFaces",
    "HEALPixLayer",
    "HEALPixPadding",
    "HEALPixPaddingv2",
    "HEALPixUnfoldFaces",
]


GeometryLayer = Callable[..., nn.Module]
"""Class that applies a layer of images to faces, such as :class:`HEALPixLayer`."""


class HEALPixLayer(nn.Module):
    """Layer of images, applied to each of the twelve faces.

    Convolutions are preceded by a :class:`HEALPixPadding` that preserves the size of the faces.

    Parameters
    ----------
    layer
        Class of the layer.
    **kwargs
        Arguments of the layer, by name. Convolutions need an odd ``kernel_size``, and their
        ``padding`` is ignored. Besides:

        ``enable_nhwc``: whether weights of convolutions are in channels-last memory format, as the
        faces are after padding.

        ``enable_healpixpad``: ignored; there is one padding.

    Raises
    ------
    KeyError
        If a convolution lacks ``kernel_size``.
    ValueError
        If ``kernel_size`` is not an odd number.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.dlwp_healpix_layers import HEALPixLayer
    >>> layer = HEALPixLayer(torch.nn.Conv2d, in_channels=2, out_channels=5, kernel_size=3)
    >>> layer(torch.randn(12, 2, 8, 8)).shape
    torch.Size([12, 5, 8, 8])
    """

    def __init__(self, layer: type[nn.Module], **kwargs: Any) -> None:
        super().__init__()
        enable_nhwc = kwargs.pop("enable_nhwc", False)
        kwargs.pop("enable_healpixpad", None)
        layers: list[nn.Module] = []
        if issubclass(layer, nn.Conv2d):
            padding = _padding_of(**kwargs)
            if padding:
                layers.append(HEALPixPadding(padding))
            kwargs["padding"] = 0
        layers.append(layer(**kwargs))
        self.layers = nn.Sequential(*layers)
        if enable_nhwc:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to faces of shape (batch * 12, channels, height, width)."""
        return cast(Tensor, self.layers(x))


def _padding_of(**kwargs: Any) -> int:
    if "kernel_size" not in kwargs:
        raise KeyError("expected kernel_size among the arguments of a convolution of faces")
    size, dilation = kwargs["kernel_size"], kwargs.get("dilation", 1)
    if not is_integer(size) or size % 2 == 0:
        raise ValueError(f"expected kernel_size to be an odd number, as in 3, got {size!r}")
    return (int(size) - 1) // 2 * int(dilation)


class HEALPixPadding(nn.Module):
    """HEALPix padding: pad the twelve faces by cells of their neighbors.

    At the eight corners where three faces meet instead of four, equatorial faces get the mean of
    the two cells beside the corner, and polar faces one of them.

    Parameters
    ----------
    padding
        Width of the padding.
    enable_nhwc
        Ignored; faces are in channels-last memory format in any case.

    Raises
    ------
    ValueError
        If the padding is not a positive integer.

    References
    ----------
    Karlbauer et al. 2024, arXiv:2311.06253, figure 2.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.dlwp_healpix_layers import HEALPixPadding
    >>> HEALPixPadding(1)(torch.ones(12, 3, 4, 4)).shape
    torch.Size([12, 3, 6, 6])
    """

    _faces = FACES  # of a sample

    def __init__(self, padding: int, enable_nhwc: bool = False) -> None:
        super().__init__()
        if not is_integer(padding) or padding < 1:
            raise ValueError(f"expected padding by a whole number above zero, got {padding!r}")
        self.padding = int(padding)

    def forward(self, data: Tensor) -> Tensor:
        """Pad faces.

        Parameters
        ----------
        data
            Faces of shape (batch * 12, channels, size, size), with ``size`` at least ``padding``.

        Returns
        -------
        Faces of shape (batch * 12, channels, size + 2 padding, size + 2 padding).

        Raises
        ------
        ValueError
            If the shape does not fit.
        """
        count, _, height, width = _sizes(data, "batch * 12, channels, size, size")
        _check_faces(count, self._faces)
        if height != width or height < self.padding:
            raise ValueError(
                f"expected square faces of size {self.padding} or more, since they are padded by "
                f"{self.padding}, got {height} x {width}"
            )
        # Channels last, so that cells are rows; the result stays so in memory, for convolutions.
        faces = data.permute(0, 2, 3, 1).unflatten(0, (-1, self._faces))
        return self._pad(faces, self.padding).flatten(0, 1).permute(0, 3, 1, 2)

    def _pad(self, faces: Tensor, padding: int) -> Tensor:
        return pad_faces(faces, padding, around_healpix)

    def extra_repr(self) -> str:
        """Return the padding."""
        return str(self.padding)


HEALPixPaddingv2 = HEALPixPadding


class HEALPixFoldFaces(nn.Module):
    """Merge batch and faces into one batch of images.

    Parameters
    ----------
    enable_nhwc
        Ignored.
    """

    def __init__(self, enable_nhwc: bool = False) -> None:
        super().__init__()

    def forward(self, tensor: Tensor) -> Tensor:
        """Map (batch, 12, channels, height, width) to (batch * 12, channels, height, width).

        Raises
        ------
        ValueError
            If there are not five axes, or not twelve faces.
        """
        _, faces, _, _, _ = _sizes(tensor, "batch, 12, channels, height, width")
        if faces != FACES:
            raise ValueError(f"expected {FACES} faces in the second axis, got {faces}")
        return tensor.flatten(0, 1)


class HEALPixUnfoldFaces(nn.Module):
    """Reverse of :class:`HEALPixFoldFaces`.

    Parameters
    ----------
    num_faces
        Number of faces.
    enable_nhwc
        Ignored.
    """

    def __init__(self, num_faces: int = FACES, enable_nhwc: bool = False) -> None:
        super().__init__()
        self.num_faces = num_faces

    def forward(self, tensor: Tensor) -> Tensor:
        """Map (batch * 12, channels, height, width) to (batch, 12, channels, height, width).

        Raises
        ------
        ValueError
            If there are not four axes, or the number of faces does not divide the first.
        """
        count, *_ = _sizes(tensor, "batch * 12, channels, height, width")
        _check_faces(count, self.num_faces)
        faces: Tensor = tensor.unflatten(0, (-1, self.num_faces))
        return faces


def _sizes(tensor: Tensor, layout: str) -> torch.Size:
    if tensor.ndim != layout.count(",") + 1:
        raise ValueError(f"expected faces of shape ({layout}), got {tuple(tensor.shape)}")
    return tensor.shape


def _check_faces(count: int, faces: int = FACES) -> None:
    if count % faces:
        raise ValueError(
            f"expected the first axis to hold the {faces} faces of each sample, got {count} faces"
        )
