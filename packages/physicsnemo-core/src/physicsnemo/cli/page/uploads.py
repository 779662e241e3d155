# SPDX-License-Identifier: Apache-2.0
"""Arrays in files that a user gives: .npy, and netCDF 4, read as data and within bounds."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import PurePath
from typing import Any

import h5netcdf
import h5py
import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from physicsnemo.core.errors import shown

LARGEST = 256 * 2**20
"""Bytes that a file, and an array in it, may have."""

Array = NDArray[Any]

_NUMBERS = "biuf"  # kinds of NumPy's types: truth values, whole numbers, real ones
_COMPLEX = "c"
_NETCDF_3 = b"CDF"
_HDF5 = b"\x89HDF\r\n\x1a\n"


class UploadError(ValueError):
    """A file holds no array that can be read here; the text says what was given and expected."""


def list_arrays(name: str, content: bytes) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays in a file by name, the largest first.

    Parameters
    ----------
    name
        The file's name, whose suffix tells the format.
    content
        Its bytes.

    Raises
    ------
    UploadError
        If it is too large, damaged, of another format, or has no array of numbers.
    """
    if _is_netcdf(name, content):
        with _variables(name, content) as variables:
            shapes = {key: tuple(it.shape) for key, it in variables.items()}
        return dict(sorted(shapes.items(), key=lambda item: -math.prod(item[1])))
    shape, _, _ = _npy_header(name, BytesIO(content))
    return {PurePath(name).stem: shape}


def read_array(name: str, content: bytes, variable: str) -> Array:
    """Return an array of a file, with numbers in the byte order of this machine.

    Of a netCDF variable, ``scale_factor`` and ``add_offset`` are applied, and missing values are
    NaN, as the CF conventions say.

    Parameters
    ----------
    name, content
        As for :func:`list_arrays`.
    variable
        Its name there.

    Raises
    ------
    UploadError
        If it is too large, or cannot be read.
    """
    if _is_netcdf(name, content):
        with _variables(name, content) as variables:
            if variable not in variables:
                raise UploadError(f"{shown(name)} has no variable {shown(variable)!r}")
            _check_size(name, tuple(variables[variable].shape), variables[variable].dtype)
            array = _decoded(variables[variable])
    else:
        stream = BytesIO(content)
        shape, is_fortran, dtype = _npy_header(name, stream)
        numbers = np.frombuffer(content, dtype, math.prod(shape), stream.tell())
        array = numbers.reshape(shape, order="F" if is_fortran else "C")
    return np.array(array, array.dtype.newbyteorder("="), order="C")


def _is_netcdf(name: str, content: bytes) -> bool:
    """Check size and suffix, and tell whether a file is netCDF, else it is .npy."""
    if len(content) > LARGEST:
        raise UploadError(
            f"{shown(name)} has {_megabytes(len(content))}; expected at most {_megabytes(LARGEST)}"
        )
    suffix = PurePath(name).suffix.lower()
    if suffix not in (".npy", ".nc", ".nc4"):
        raise UploadError(f"expected a .npy or .nc file, got {shown(name)}")
    return suffix != ".npy"


def _npy_header(name: str, stream: BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read and check the header of a .npy file."""
    readers: dict[tuple[int, int], Callable[..., Any]] = {
        (1, 0): npy.read_array_header_1_0,
        (2, 0): npy.read_array_header_2_0,
    }
    try:
        version = npy.read_magic(stream)
        shape, is_fortran, dtype = readers[version](stream)
    except Exception as error:  # damage shows as many types
        raise UploadError(
            f"{shown(name)} is no .npy file as numpy.save writes one: {_line(error)}"
        ) from error
    if dtype.hasobject:
        raise UploadError(
            f"{shown(name)} holds Python objects, which could run code and are not read; expected "
            f"numbers"
        )
    _check_numbers(name, dtype)
    _check_size(name, shape, dtype)
    needed = math.prod(shape) * dtype.itemsize
    there = len(stream.getbuffer()) - stream.tell()
    if there != needed:
        raise UploadError(
            f"{shown(name)} is damaged: {there} bytes of numbers, expected {needed} for shape "
            f"{shape} of {dtype}"
        )
    return shape, is_fortran, dtype


@contextmanager
def _variables(name: str, content: bytes) -> Iterator[dict[str, Any]]:
    """Open a netCDF 4 file, and give its variables of numbers by name."""
    if content.startswith(_NETCDF_3):
        raise UploadError(
            f"{shown(name)} is netCDF 3; expected netCDF 4, which nccopy -k nc4 OLD NEW makes of it"
        )
    if not content.startswith(_HDF5):
        raise UploadError(f"{shown(name)} is no netCDF 4 file: it does not begin as one")
    try:
        with h5py.File(BytesIO(content)) as file:
            _check_self_contained(name, file)
            with h5netcdf.File(file, phony_dims="access") as data:
                found = {
                    key: it
                    for key, it in data.variables.items()
                    if getattr(it.dtype, "kind", "O") in _NUMBERS and math.prod(it.shape)
                }
                if not found:
                    raise UploadError(f"{shown(name)} has no variable of numbers outside of groups")
                yield found
    except UploadError:
        raise
    except Exception as error:  # damage shows as many types
        raise UploadError(f"{shown(name)} cannot be read: {_line(error)}") from error


def _check_self_contained(name: str, file: Any) -> None:
    """Raise an error if an item of an HDF5 file may lie in another one, of whatever content."""
    for key in file:
        if not isinstance(file.get(key, getlink=True), h5py.HardLink):
            raise UploadError(f"{shown(name)} leads elsewhere by its item {shown(key)!r}")
        item = file[key]
        if isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
            raise UploadError(f"{shown(name)} keeps its variable {shown(key)!r} in another file")


def _decoded(variable: Any) -> Array:
    """Return a variable's numbers by the CF conventions."""
    array: Array = np.asarray(variable[...])
    attributes = {key: np.ravel(value) for key, value in variable.attrs.items()}
    attributes = {key: it for key, it in attributes.items() if it.dtype.kind in _NUMBERS}
    missing = [it for key in ("_FillValue", "missing_value") for it in attributes.get(key, ())]
    scale, offset = (attributes.get(key) for key in ("scale_factor", "add_offset"))
    is_missing = np.isin(array, missing)
    if scale is None and offset is None and not is_missing.any():
        return array
    is_single = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    numbers: Array = array.astype("f4" if is_single else "f8")
    if scale is not None:
        numbers *= scale[0]
    if offset is not None:
        numbers += offset[0]
    numbers[is_missing] = np.nan
    return numbers


def _check_numbers(name: str, dtype: np.dtype[Any]) -> None:
    if dtype.kind not in _NUMBERS + _COMPLEX:
        raise UploadError(f"{shown(name)} holds {shown(str(dtype))}; expected numbers")


def _check_size(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    size = math.prod(shape) * dtype.itemsize
    if size > LARGEST:
        raise UploadError(
            f"{shown(name)} holds an array of shape {shape} and {_megabytes(size)}; expected at "
            f"most {_megabytes(LARGEST)}"
        )
    if size == 0:
        raise UploadError(f"{shown(name)} holds an empty array, of shape {shape}")


def _line(error: Exception) -> str:
    return shown(" ".join(str(error).split()))


def _megabytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MB"
