# SPDX-License-Identifier: Apache-2.0
"""How an array can be drawn: which of its axes a picture shows, and what a slider chooses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Kind = Literal["line", "map", "cubed sphere", "HEALPix", "nodes", "histogram"]

_FACES: dict[int, Kind] = {6: "cubed sphere", 12: "HEALPix"}
_SPHERE = 5  # axes: sample, channel or time, faces, rows and columns
_GRID = 4  # axes: sample, channel, rows and columns
_VOLUME = 3  # axes of space in it


@dataclass(frozen=True)
class Layout:
    """A way to draw an array.

    Attributes
    ----------
    kind
        What the picture is.
    axes
        The axes that it shows, in its order: of faces first, of rows before columns.
    shape
        The array's shape.
    """

    kind: Kind
    axes: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def label(self) -> str:
        """What it is called where the user chooses."""
        if self.kind == "histogram":
            return "histogram of all values"
        if self.kind == "nodes":
            return "values on mesh nodes"
        if self.kind in _FACES.values():
            return f"faces, {self.kind}"
        if self.kind == "line":
            return f"line along {self.axis_names[0]}"
        return f"{'slice' if len(self.shape) > _GRID else 'map'} of {' and '.join(self.axis_names)}"

    @property
    def axis_names(self) -> list[str]:
        """What the axes are called that it shows."""
        return [axis_name(axis, self.shape) for axis in self.axes]

    @property
    def chosen(self) -> dict[int, str]:
        """The axes of which the user chooses an index, with their names."""
        if self.kind == "histogram":
            return {}
        others = (axis for axis in range(len(self.shape)) if axis not in self.axes)
        return {axis: axis_name(axis, self.shape) for axis in others if self.shape[axis] > 1}

    def middle(self, axis: int) -> int:
        """Return the index to begin with: of samples and channels the first, of space the middle.

        The middle of a volume shows more of it than its edge.
        """
        is_space = self.kind == "map" and axis >= len(self.shape) - _VOLUME and axis > 1
        return self.shape[axis] // 2 if is_space else 0

    def picture(self, array: Array, chosen: Mapping[int, int]) -> Array:
        """Return what is drawn, with the axes in the picture's order.

        Parameters
        ----------
        array
            An array of this shape.
        chosen
            Indices by axis; those that are not given are 0.
        """
        if self.kind == "histogram":
            return array.reshape(-1)
        index = tuple(
            slice(None) if axis in self.axes else chosen.get(axis, 0) for axis in range(array.ndim)
        )
        rising = sorted(self.axes)
        return array[index].transpose([rising.index(axis) for axis in self.axes])

    def limits(self, array: Array, chosen: Mapping[int, int]) -> tuple[float, float]:
        """Return the smallest and largest number of the sample and channel that are drawn.

        So colours mean the same while the user goes through times or levels.
        """
        fixed = [axis for axis in self.chosen if self.chosen[axis] in (_SAMPLE, _CHANNEL, _FEATURE)]
        index = tuple(
            chosen.get(axis, 0) if axis in fixed else slice(None) for axis in range(array.ndim)
        )
        numbers = array[index]
        finite = numbers[np.isfinite(numbers)]
        return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


_SAMPLE, _CHANNEL, _FEATURE, _TIME = "sample", "channel", "feature", "time"


def axis_name(axis: int, shape: tuple[int, ...]) -> str:
    """Return what an axis is called, by the order that models here have them in.

    That is (sample, feature), (sample, channel, ...), and (sample, face, time, channel, row,
    column) on the HEALPix grid.
    """
    if len(shape) == 1:
        return "index"
    if axis == 0:
        return _SAMPLE
    if len(shape) == 2:
        return _FEATURE
    on_healpix = len(shape) == 6 and shape[1] == 12
    names = {2: _TIME, 3: _CHANNEL} if on_healpix else {1: _CHANNEL}
    return names.get(axis, f"axis {axis}")


def layouts(shape: tuple[int, ...], nodes: int | None = None) -> list[Layout]:
    """Return the ways to draw an array, of which the first is most likely meant.

    Parameters
    ----------
    shape
        Its shape.
    nodes
        The number of mesh nodes, where their positions are known.
    """
    lines = _lines(shape)
    maps = _maps(shape)
    found = [*_on_nodes(shape, nodes)]
    faces = _on_faces(shape)
    found += faces if len(shape) >= _SPHERE else []
    found += [*maps, *lines] if len(shape) >= _GRID else [*lines, *maps]
    found += faces if len(shape) < _SPHERE else []
    return [*found, Layout("histogram", (), shape)]


def _lines(shape: tuple[int, ...]) -> list[Layout]:
    """Return lines along each axis that is no channel: the last, in a table the longest, first."""
    count = len(shape)
    if count == 2:
        axes = sorted((0, 1), key=lambda axis: -shape[axis])
    else:
        axes = [axis for axis in range(count)[::-1] if count == 1 or axis > 1]
    return [Layout("line", (axis,), shape) for axis in axes if shape[axis] > 1]


def _maps(shape: tuple[int, ...]) -> list[Layout]:
    """Return the map of the last two axes, and the other sections of a volume."""
    count = len(shape)
    pairs = [(count - 2, count - 1)] if count > 1 else []
    if count > _GRID:
        pairs += [(count - 3, count - 1), (count - 3, count - 2)]
    return [Layout("map", pair, shape) for pair in pairs if min(shape[it] for it in pair) > 1]


def _on_faces(shape: tuple[int, ...]) -> list[Layout]:
    """Return the sphere that the last two axes tile, with as many faces as another axis has."""
    count = len(shape)
    if count < 3 or shape[-1] != shape[-2] or shape[-1] == 1:
        return []
    found = []
    for size, kind in _FACES.items():
        # Where both are possible, the axis before rows and columns, as of the cubed sphere; on the
        # HEALPix grid channels stand there, and faces after samples.
        before = (1, 0, count - 3) if size == 12 else (count - 3, 1, 0)
        axis = next((it for it in before if it < count - 2 and shape[it] == size), None)
        if axis is not None:
            found.append(Layout(kind, (axis, count - 2, count - 1), shape))
    return found


def _on_nodes(shape: tuple[int, ...], nodes: int | None) -> list[Layout]:
    axes = [axis for axis in range(len(shape))[::-1] if shape[axis] == nodes]
    # Features come last.
    axes.sort(key=lambda axis: axis == len(shape) - 1 and len(shape) > 1)
    return [Layout("nodes", (axis,), shape) for axis in axes[:1]]
