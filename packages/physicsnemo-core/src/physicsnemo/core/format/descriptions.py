# SPDX-License-Identifier: Apache-2.0
"""Descriptions of tensors, as the pickle of ``torch.save`` gives them, before a number is read.

PyTorch pickles a tensor as a call of a function that rebuilds it from its storage. The functions
here take the same arguments and return a description, once they have seen that it makes sense.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from physicsnemo.core.format.storable import SPARSE_LAYOUTS, problem_of

_MAX_DIMENSIONS = 64
_MAX_REPEATED = 2**26  # bytes that tensors may claim more than once


@dataclass(frozen=True)
class Storage:
    """Bytes that tensors are views of.

    Attributes
    ----------
    key
        What the file calls them.
    count, itemsize
        How many numbers of how many bytes.
    """

    key: str
    count: int
    itemsize: int
    dtype: torch.dtype


@dataclass(frozen=True)
class Strided:
    """A tensor that is a view of a storage, as ``torch.as_strided`` takes it."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    is_conjugate: bool = False
    is_negative: bool = False

    @property
    def nbytes(self) -> int:
        """The size of its numbers."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def overlaps(self) -> bool:
        """Whether two of its elements may be one number in memory, as after ``expand``."""
        steps = sorted((s, n) for s, n in zip(self.stride, self.shape, strict=True) if n > 1)
        # A step within the reach of the smaller ones leads to where they have been.
        reach = 0
        for step, size in steps:
            if step <= reach:
                return True
            reach += step * (size - 1)
        return False


@dataclass(frozen=True)
class Sparse:
    """A tensor of which only some elements are stored, as indices and values."""

    layout: torch.layout
    parts: tuple[Strided, ...]
    shape: tuple[int, ...]
    is_coalesced: bool | None = None


Description = Strided | Sparse


def check_state(state: Any) -> None:
    """Check what a pickle holds by the rules that states are saved by.

    Raises
    ------
    ValueError
        If it is no state, or its tensors claim far more than the file has.
    """
    if not isinstance(state, Mapping):
        raise ValueError("it is not a dictionary of tensors and data")
    repeated = 0

    def weigh(tensor: Description) -> None:
        nonlocal repeated
        for part in tensor.parts if isinstance(tensor, Sparse) else (tensor,):
            repeated += part.nbytes if part.overlaps else 0
        return None

    if problem := problem_of(state, (Strided, Sparse), weigh):
        raise ValueError(f"it is not a dictionary of tensors and data: {problem}")
    if repeated > _MAX_REPEATED:
        raise ValueError(
            f"tensors whose elements overlap claim {repeated} bytes, at most {_MAX_REPEATED} are "
            "made of them"
        )


def storage_of(identifier: Any) -> Storage:
    """Return the storage that a persistent identifier describes.

    Raises
    ------
    ValueError, TypeError
        If it is none.
    """
    kind, dtype, key, _, count, *view = identifier
    if kind != "storage" or type(key) is not str or not _is_natural(count) or any(view):
        raise ValueError("a storage is described in a way that PyTorch does not use")
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"storage {key[:20]!r} has no type of numbers")
    return Storage(key, count, dtype.itemsize, dtype)


def _strided(
    storage: Any,
    offset: Any,
    shape: Any,
    stride: Any,
    requires_grad: Any = False,
    hooks: Any = None,
    metadata: Any = None,
) -> Strided:
    if not isinstance(storage, Storage):
        raise ValueError("a tensor without a storage")
    return _view(storage, storage.dtype, offset, shape, stride, metadata)


def _strided_of_bytes(
    storage: Any,
    offset: Any,
    shape: Any,
    stride: Any,
    requires_grad: Any,
    hooks: Any,
    dtype: Any,
    metadata: Any = None,
) -> Strided:
    if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype):
        raise ValueError("a tensor without a storage or a type")
    return _view(storage, dtype, offset, shape, stride, metadata)


def _view(
    storage: Storage, dtype: torch.dtype, offset: Any, shape: Any, stride: Any, metadata: Any
) -> Strided:
    if not (type(shape) is type(stride) is tuple and len(shape) == len(stride) <= _MAX_DIMENSIONS):
        raise ValueError("a tensor's shape and strides do not fit each other")
    if not all(map(_is_natural, (offset, *shape, *stride))):
        raise ValueError("a tensor has a negative size, stride or offset")
    # PyTorch would let the storage grow to what a view asks for, instead of refusing the view.
    last = sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    needed = offset + last + 1 if math.prod(shape) else 0
    if needed * dtype.itemsize > storage.count * storage.itemsize:
        raise ValueError(
            f"a tensor of shape {shape} reaches beyond its storage: it needs "
            f"{needed * dtype.itemsize} bytes of {storage.count * storage.itemsize}"
        )
    signs = metadata if type(metadata) is dict else {}
    return Strided(
        storage, dtype, offset, shape, stride, bool(signs.get("conj")), bool(signs.get("neg"))
    )


def _sparse(layout: Any, data: Any) -> Sparse:
    if layout not in SPARSE_LAYOUTS or type(data) is not tuple:
        raise ValueError("a sparse tensor of an unknown layout")
    count = 2 if layout is torch.sparse_coo else 3
    parts, (shape, *coalesced) = data[:count], data[count:]
    if not all(isinstance(part, Strided) for part in parts):
        raise ValueError("a sparse tensor without indices or values")
    return Sparse(layout, parts, _size(shape), coalesced[0] if coalesced else None)


def _parameter(tensor: Any, *rest: Any) -> Description:
    if not isinstance(tensor, Description):
        raise ValueError("a parameter without a tensor")
    return tensor


def _with_attributes(function: Any, kind: Any, arguments: Any, state: Any) -> Description:
    if function not in _REBUILDERS or type(arguments) is not tuple or kind not in _KINDS:
        raise ValueError("a tensor of an unknown class")
    return _parameter(function(*arguments))


def _empty() -> OrderedDict[str, Any]:
    return OrderedDict()


def _layout(name: Any) -> torch.layout:
    layouts = {str(layout): layout for layout in SPARSE_LAYOUTS}
    if type(name) is not str or name not in layouts:
        raise ValueError("an unknown layout")
    return layouts[name]


def _size(values: Any) -> tuple[int, ...]:
    if type(values) not in (tuple, list) or not all(map(_is_natural, values)):
        raise ValueError("a shape that is none")
    return tuple(values)


def _is_natural(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _storage_types() -> dict[str, torch.dtype]:
    types = {
        "Double": torch.float64,
        "Float": torch.float32,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
        "ComplexDouble": torch.complex128,
        "ComplexFloat": torch.complex64,
    }
    places = ("torch", "torch.cuda")
    named = {f"{place}.{name}Storage": dtype for place in places for name, dtype in types.items()}
    return {**named, "torch.storage.UntypedStorage": torch.uint8}


_KINDS = ("a plain tensor", "a parameter")
_REBUILDERS = (_strided, _strided_of_bytes, _sparse, _parameter)

# What the pickle of a state may name, and what that stands for here.
NAMES: dict[str, Any] = {
    "collections.OrderedDict": _empty,
    "torch.Size": _size,
    "torch.Tensor": _KINDS[0],
    "torch.nn.parameter.Parameter": _KINDS[1],
    "torch._utils._rebuild_tensor": _strided,
    "torch._utils._rebuild_tensor_v2": _strided,
    "torch._utils._rebuild_tensor_v3": _strided_of_bytes,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _with_attributes,
    "torch.serialization._get_layout": _layout,
    **_storage_types(),
    **{f"torch.{k}": value for k, value in vars(torch).items() if isinstance(value, torch.dtype)},
}
