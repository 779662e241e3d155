# SPDX-License-Identifier: Apache-2.0
"""Pictures of arrays, drawn by Matplotlib without a screen."""

from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from physicsnemo.cli.page.layouts import Layout

Array = NDArray[Any]

_INCHES = 5.0  # so that texts can be read where a telephone shows all of it
_DOTS = 180  # an inch, as screens with small dots show them
_LONG = 4  # times as long as wide: such maps are stretched
_COLORS = "viridis"
_INK = "#1a6f4b"


def draw(array: Array, layout: Layout, chosen: dict[int, int], positions: Any = None) -> Figure:
    """Draw an array.

    Parameters
    ----------
    array
        Real numbers.
    layout
        How, one of :func:`~physicsnemo.cli.page.layouts.layouts`.
    chosen
        Indices of the axes that it does not show.
    positions
        Of mesh nodes, of shape (nodes, 2) or (nodes, 3), for a layout of them.
    """
    values = layout.picture(array, chosen)
    low, high = layout.limits(array, chosen)
    colors = {"vmin": low, "vmax": high, "cmap": _COLORS}
    figure = Figure(figsize=(_INCHES, 0.75 * _INCHES), layout="constrained")
    if layout.kind == "nodes":
        _draw_nodes(figure, values, np.asarray(positions), colors)
        return figure
    axes = figure.add_subplot()
    if layout.kind == "histogram":
        _draw_histogram(axes, values)
    elif layout.kind == "line":
        _draw_line(axes, values, layout, (low, high))
    elif layout.kind == "map":
        _draw_map(figure, axes, values, layout, colors)
    elif layout.kind == "cubed sphere":
        _draw_mosaic(figure, axes, cube_mosaic(values), colors)
    else:
        _draw_healpix(figure, axes, values, colors)
    return figure


def as_png(figure: Figure) -> bytes:
    """Return a picture as a file."""
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=_DOTS)
    return stream.getvalue()


def cube_mosaic(faces: Array) -> Array:
    """Return the faces of a cubed sphere, unfolded, with rows northward and NaN between them.

    Faces 0 to 3 run eastward along the equator; face 4, around the south pole, lies below face 0
    and face 5, around the north pole, above it, each with the edge beside it that it shares.
    """
    size = faces.shape[-1]
    mosaic = np.full((3 * size, 4 * size), np.nan)
    middle, first = slice(size, 2 * size), slice(0, size)
    for number in range(4):
        mosaic[middle, number * size : (number + 1) * size] = faces[number]
    mosaic[first, first] = faces[4]
    mosaic[2 * size :, first] = faces[5]
    return mosaic


def healpix_corners(face: int, size: int) -> tuple[Array, Array]:
    """Return where the corners of a face's cells lie in HEALPix's own projection.

    A face stands on a corner. Its rows run from the northern one to the southwest, its columns to
    the southeast.

    Returns
    -------
    East and north in quarters of the equator, each of shape (size + 1, size + 1).
    """
    ring, number = divmod(face, 4)
    east = number + (0.0 if ring == 1 else 0.5)
    north = 1.0 - 0.5 * ring
    row, column = np.mgrid[: size + 1, : size + 1] / (2 * size)
    return east + column - row, north - column - row


def _draw_histogram(axes: Axes, values: Array) -> None:
    finite = values[np.isfinite(values)]
    axes.hist(finite, bins=min(max(len(finite) // 8, 8), 60), color=_INK)
    axes.set(xlabel="value", ylabel="how many")


def _draw_line(axes: Axes, values: Array, layout: Layout, limits: tuple[float, float]) -> None:
    few = len(values) <= 64
    axes.plot(values, color=_INK, marker="o" if few else "", markersize=4)
    margin = 0.05 * (limits[1] - limits[0]) or 1.0
    axes.set(xlabel=layout.axis_names[0], ylabel="value")
    axes.set_ylim(limits[0] - margin, limits[1] + margin)
    axes.xaxis.set_major_locator(_indices())
    axes.grid(alpha=0.3)


def _indices() -> MaxNLocator:
    return MaxNLocator(6, steps=[1, 2, 5, 10], integer=True)


def _draw_map(
    figure: Figure, axes: Axes, values: Array, layout: Layout, colors: dict[str, Any]
) -> None:
    rows, columns = values.shape
    is_long = max(rows, columns) > _LONG * min(rows, columns)
    if not is_long:
        figure.set_figheight(_INCHES * np.clip(0.75 * rows / columns + 0.12, 0.4, 1.2))
    image = axes.imshow(
        values, aspect="auto" if is_long else "equal", interpolation="nearest", **colors
    )
    down, right = layout.axis_names
    axes.set(xlabel=right, ylabel=down)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(_indices())
    figure.colorbar(image, ax=axes, shrink=0.9)


def _draw_mosaic(figure: Figure, axes: Axes, values: Array, colors: dict[str, Any]) -> None:
    image = axes.imshow(values, origin="lower", interpolation="nearest", **colors)
    axes.set_axis_off()
    figure.set_figheight(_INCHES * 0.62)
    figure.colorbar(image, ax=axes, shrink=0.9)


def _draw_healpix(figure: Figure, axes: Axes, values: Array, colors: dict[str, Any]) -> None:
    for face, cells in enumerate(values):
        image = axes.pcolormesh(*healpix_corners(face, len(cells)), cells, **colors)
    axes.set_aspect("equal")
    axes.set_axis_off()
    figure.set_figheight(_INCHES * 0.45)
    figure.colorbar(image, ax=axes, shrink=0.9)


def _draw_nodes(figure: Figure, values: Array, positions: Array, colors: dict[str, Any]) -> None:
    size = float(np.clip(20_000 / len(values), 2, 60))
    is_flat = positions.shape[1] == 2
    axes: Any = figure.add_subplot(projection=None if is_flat else "3d")
    points = axes.scatter(*positions.T, c=values, s=size, **colors)
    axes.set(**{f"{name}label": name for name in "xyz"[: positions.shape[1]]})
    if is_flat:
        axes.set_aspect("equal")
    figure.colorbar(points, ax=axes, shrink=0.9)
