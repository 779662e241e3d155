# SPDX-License-Identifier: Apache-2.0
"""Graphs in files, for those who ask for it."""

import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]

# Of what is in the files; another number makes them be made again.
_FORMAT = 1
_folder: ContextVar[Path | None] = ContextVar("graph_cache", default=None)


@contextmanager
def graph_cache(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Keep the graphs of models that are built within the ``with`` block in files.

    Where there is a file already, they are read instead of made, by any process.

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
    """Return the arrays of a file; make them, and the file, if there is none."""
    path = folder / f"{name}-v{_FORMAT}.npz"
    if path.exists():
        return _read(path)
    arrays = make()
    _write(path, arrays)
    return arrays


def _read(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} holds no graphs, or is damaged; delete it") from error


def _write(path: Path, arrays: Arrays) -> None:
    """Write a file that appears whole or not at all, whoever else writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False)  # noqa: SIM115
    try:
        with file:
            np.savez(file, **arrays)
        os.replace(file.name, path)
    except BaseException:
        os.unlink(file.name)
        raise
