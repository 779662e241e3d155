# SPDX-License-Identifier: Apache-2.0
"""Graphs in files, for those who ask for it."""

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

from physicsnemo.core.files import replacing

Arrays = dict[str, npt.NDArray[Any]]

# Of what is in the files; another number makes them be made again.
_FORMAT = 2
_folder: ContextVar[Path | None] = ContextVar("graph_cache", default=None)


@contextmanager
def graph_cache(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Keep the graphs of models that are built within the ``with`` block in files.

    Where there is a file already, they are read instead of made, by any process. A damaged one is
    replaced, with a warning.

    Parameters
    ----------
    folder
        Where the files are, one for each combination of mesh, grid and numerics; it is made if
        needed. ``~`` stands for the user's folder.

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
    """Return the folder of the surrounding :func:`graph_cache`, None outside of any."""
    return _folder.get()


def stored(make: Callable[[], Arrays], folder: Path, name: str) -> Arrays:
    """Return the arrays of a file; make them, and the file, if there is none or a damaged one."""
    path = folder / f"{name}-v{_FORMAT}.npz"
    if path.exists():
        try:
            return _read(path)
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            message = f"{path} is damaged and is made again: {error}"
            warnings.warn(message, stacklevel=2)
    arrays = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    return arrays


def _read(path: Path) -> Arrays:
    # Opened here, as NumPy leaves a file open that turns out to be damaged.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)
