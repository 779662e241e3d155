# SPDX-License-Identifier: Apache-2.0
"""Graph cache: files that keep GraphCast's graphs, for those who ask for it."""

import hashlib
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from physicsnemo.utils import atomic_write

Arrays = dict[str, npt.NDArray[Any]]

# Format version of the files; files of another version are ignored.
_FORMAT = 2
# Errors of reading a file that is damaged or may not be read.
_UNREADABLE = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
)
_folder: ContextVar[Path | None] = ContextVar("graph_cache", default=None)


@contextmanager
def graph_cache(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Cache the graphs of models built within the ``with`` block in files.

    Graphs whose file exists are read instead of built, by any process. A file that is damaged,
    altered or unreadable is replaced, with a warning; if files cannot be written, graphs are built
    each time, with a warning too.

    Parameters
    ----------
    folder
        Folder of the files, one for each combination of mesh, grid and numerics; created if needed.
        ``~`` stands for the home folder.

    Raises
    ------
    FileExistsError
        On building a model, if the path of a file is something else, such as a folder.

    Examples
    --------
    >>> import tempfile
    >>> from physicsnemo.models.graphcast import GraphCastNet, graph_cache
    >>> with tempfile.TemporaryDirectory() as folder, graph_cache(folder):
    ...     model = GraphCastNet(mesh_level=1, input_res=(9, 18), hidden_dim=8, processor_layers=3)
    """
    token = _folder.set(Path(folder).expanduser().resolve())
    try:
        yield
    finally:
        _folder.reset(token)


def cache_folder() -> Path | None:
    """Return the folder of the enclosing :func:`graph_cache`, None outside of any."""
    return _folder.get()


def cached(make: Callable[[], Arrays], folder: Path, name: str) -> Arrays:
    """Read arrays from a file; if it is missing or damaged, make and write them."""
    path = folder / f"{name}-v{_FORMAT}.npz"
    if path.exists():
        if not path.is_file():  # a pipe would be waited for without end
            raise FileExistsError(
                f"expected a file of graphs at {path}, got something else; remove it, or keep "
                f"graphs in another folder"
            )
        try:
            return _read(path, name)
        except _UNREADABLE as error:
            warnings.warn(f"{path} is damaged and is made again: {error}", stacklevel=2)
    arrays = make()
    try:
        _write(path, arrays, name)
    except OSError as error:
        warnings.warn(f"{path} cannot be written, so graphs are not kept: {error}", stacklevel=2)
    return arrays


def _write(path: Path, arrays: Arrays, name: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        np.savez(file, digest=_digest(name, arrays), **arrays)  # type: ignore[arg-type]


def _read(path: Path, name: str) -> Arrays:
    # Opened here, as NumPy leaves a file open that turns out to be damaged.
    with path.open("rb") as file:
        with zipfile.ZipFile(file) as members:
            if any(member.compress_type != zipfile.ZIP_STORED for member in members.infolist()):
                raise ValueError("it is compressed, as no file is that was written here")
        with np.load(file, allow_pickle=False) as content:
            arrays = dict(content)
    digest = arrays.pop("digest", None)
    if digest is None or not np.array_equal(digest, _digest(name, arrays)):
        raise ValueError("its content is not what was written")
    return arrays


def _digest(name: str, arrays: Arrays) -> npt.NDArray[np.uint8]:
    """Return a SHA-256 digest of the name and the arrays."""
    total = hashlib.sha256(name.encode())
    for key, array in sorted(arrays.items()):
        total.update(f"{key} {array.dtype.str} {array.shape}".encode())
        total.update(np.ascontiguousarray(array).data)
    return np.frombuffer(total.digest(), np.uint8)
