# SPDX-License-Identifier: Apache-2.0
"""Padding of faces that are divided over ranks, by cells that a rank fetches of others."""

import operator
from collections.abc import Callable
from functools import cache
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from physicsnemo.models.face_layers.padding import Sources, map_cells
from physicsnemo.nn.tracing import assume_constant_result

Cells = NDArray[np.int64]


def own_faces(faces: int, domain: Any) -> range:
    """Return which of all faces this rank has.

    Raises
    ------
    ValueError
        If there are fewer faces than ranks.
    """
    if faces < domain.size:
        raise ValueError(
            f"expected at least one face for each rank, got {faces} faces for {domain.size} ranks; "
            f"use fewer ranks"
        )
    first, stop, _ = domain.chunk(faces)
    return range(first, stop)


def padding_of_own(sources: Sources, faces: int, domain: Any) -> Callable[[Tensor, int], Tensor]:
    """Return what pads this rank's faces, as :func:`physicsnemo.models.face_layers.pad_faces`.

    Parameters
    ----------
    sources
        Source cells of the padded cells of all faces, by size and padding.
    faces
        Number of all faces.
    domain
        The ranks, each of which has some consecutive faces.
    """
    own = own_faces(faces, domain)
    spans = pairwise(accumulate(domain.chunks(faces), initial=0))
    owner = np.repeat(np.arange(domain.size), [stop - first for first, stop in spans])

    @cache
    def fetch(size: int, padding: int) -> Any:
        cells = sources(size, padding).reshape(faces, -1)
        return domain.fetch(
            torch.from_numpy(owner.repeat(cells.shape[1])),
            torch.from_numpy(cells.ravel()),
            torch.from_numpy(owner.repeat(size**2)),
        )

    @assume_constant_result
    def counts(size: int, padding: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return how many cells go to each rank, and come from it."""
        return fetch(size, padding).send_counts, fetch(size, padding).receive_counts

    def sent(size: int, padding: int) -> Cells:
        """Return the own cells, and those to send."""
        cells = np.arange(len(own) * size**2)
        return np.concatenate((cells, fetch(size, padding).send.numpy()))[:, None]

    def padded(size: int, padding: int) -> Cells:
        """Return the sources of the own faces' padded cells among own and fetched cells."""
        place = np.empty(faces * size**2, dtype=np.int64)
        cells = np.arange(own.start * size**2, own.stop * size**2)
        cells = np.concatenate((cells, fetch(size, padding).points.numpy()))
        place[cells] = np.arange(len(cells))
        needed = sources(size, padding)
        needed = needed.reshape(faces, -1, needed.shape[-1])[own.start : own.stop]
        return place[needed].reshape(-1, needed.shape[-1])

    def pad(x: Tensor, padding: int) -> Tensor:
        size, padding = operator.index(x.shape[2]), operator.index(padding)
        count = len(own) * size**2
        rows = map_cells(x.flatten(1, 3), size=size, padding=padding, sources=sent)
        cells, leaving = rows.split((count, rows.shape[1] - count), dim=1)
        fetched = domain.exchange_rows(leaving, 1, *counts(size, padding))
        rows = torch.cat((cells, fetched), dim=1)
        rows = map_cells(rows, size=size, padding=padding, sources=padded)
        around: Tensor = rows.unflatten(1, (len(own), size + 2 * padding, size + 2 * padding))
        return around

    return pad
