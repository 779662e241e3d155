# SPDX-License-Identifier: Apache-2.0
"""Tensors as numbers to draw, as a line of text, and as a file to download."""

import re
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_POSITIONS = re.compile(r"(.*_)?(pos|positions?|coords?|coordinates|points|vertices|xyz?)")


def tensor_line(tensor: Tensor) -> str:
    """Return type, shape and range of a tensor in one line."""
    numbers = numbers_of(tensor)
    kind = str(tensor.dtype).removeprefix("torch.")
    finite = numbers[np.isfinite(numbers)]
    parts = [f"{kind} {tuple(tensor.shape)}"]
    if finite.size:
        parts.append(
            f"from {finite.min():.4g} to {finite.max():.4g}, mean {finite.mean(dtype='f8'):.4g}"
        )
    if finite.size < numbers.size:
        parts.append(f"{numbers.size - finite.size} numbers are not finite")
    if tensor.is_complex():
        parts.append("drawn by absolute value")
    return "; ".join(parts)


def numbers_of(tensor: Tensor) -> NDArray[Any]:
    """Return real numbers of a tensor that can be drawn: of complex ones the absolute value."""
    dense = tensor.detach().cpu().to_dense()
    real = dense.abs() if dense.is_complex() else dense
    exact = real.double() if real.is_floating_point() and real.itemsize > 4 else real.float()
    return exact.numpy()


def positions_in(tensors: Mapping[str, Tensor]) -> NDArray[Any] | None:
    """Return the positions of mesh nodes among inputs, by their name and shape."""
    for name, tensor in tensors.items():
        points = tensor[0] if tensor.ndim == 3 and len(tensor) == 1 else tensor
        is_named = _POSITIONS.fullmatch(name.lower()) is not None
        if is_named and points.ndim == 2 and points.shape[1] in (2, 3):
            return numbers_of(points)
    return None


def as_npy(tensor: Tensor) -> BytesIO:
    """Return a tensor as the content of a .npy file, in a type that NumPy has."""
    dense = tensor.detach().cpu().to_dense()
    stream = BytesIO()
    np.save(stream, (dense.float() if dense.dtype is torch.bfloat16 else dense).numpy())
    stream.seek(0)
    return stream
