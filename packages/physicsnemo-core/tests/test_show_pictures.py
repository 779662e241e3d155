# SPDX-License-Identifier: Apache-2.0
"""Pictures of the page of ``physicsnemo show``."""

import io

import numpy as np
import pytest
from matplotlib.image import imread

from physicsnemo.cli.page.layouts import layouts
from physicsnemo.cli.page.pictures import as_png, cube_mosaic, draw, healpix_corners

SIZE = 4


def rng():
    return np.random.default_rng(0)


def drawn(shape, label, chosen, **options):
    array = rng().normal(size=shape)
    nodes = options and len(options["positions"])
    (layout,) = [it for it in layouts(shape, nodes or None) if it.label == label]
    return array, draw(array, layout, chosen, **options)


def test_a_line():
    array, figure = drawn((2, 3, 50), "line along axis 2", {0: 1, 1: 2})
    (axes,) = figure.axes
    (line,) = axes.lines
    assert np.array_equal(line.get_ydata(), array[1, 2])
    low, high = axes.get_ylim()
    assert low < array[1, 2].min() < array[1, 2].max() < high
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("axis 2", "value")


def test_a_map_with_its_colour_bar():
    array, figure = drawn((2, 3, 8, 9), "map of axis 2 and axis 3", {0: 1, 1: 2})
    axes, bar = figure.axes
    (image,) = axes.images
    assert np.array_equal(image.get_array(), array[1, 2])
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("axis 2", "axis 3")
    assert image.get_clim() == (array[1, 2].min(), array[1, 2].max())
    assert np.allclose(bar.get_ylim(), image.get_clim())
    assert axes.get_aspect() == 1
    assert drawn((1, 1, 4, 90), "map of axis 2 and axis 3", {})[1].axes[0].get_aspect() == "auto"


def test_slices_share_their_colours():
    label = "slice of axis 3 and axis 4"
    array, figure = drawn((1, 2, 7, 8, 9), label, {1: 1, 2: 5})
    (image,) = figure.axes[0].images
    assert np.array_equal(image.get_array(), array[0, 1, 5])
    assert image.get_clim() == (array[0, 1].min(), array[0, 1].max())


def test_a_histogram_counts_all_finite_values():
    array = rng().normal(size=(20, 30))
    array[0, :3] = [np.nan, np.inf, -np.inf]
    figure = draw(array, layouts(array.shape)[-1], {})
    assert sum(bar.get_height() for bar in figure.axes[0].patches) == 20 * 30 - 3


def test_edges_of_the_cube_that_lie_together_are_the_shared_ones():
    """Each cell holds its direction from the center of the sphere, so neighbors are close."""
    centers = (np.arange(SIZE) + 0.5) * 2 / SIZE - 1
    north, east = np.meshgrid(centers, centers, indexing="ij")  # rows northward, columns eastward
    one = np.ones_like(north)
    sides = [(one, east, north), (-east, one, north), (-one, -east, north), (east, -one, north)]
    poles = [(north, east, -one), (-north, east, one)]
    faces = np.array([np.stack(it) for it in (*sides, *poles)])
    faces /= np.linalg.norm(faces, axis=1, keepdims=True)
    mosaic = np.stack([cube_mosaic(faces[:, axis]) for axis in range(3)])
    assert np.isnan(mosaic).sum() == 3 * 6 * SIZE**2  # six of twelve places are empty
    for axis in (1, 2):
        steps = np.linalg.norm(np.diff(mosaic, axis=axis), axis=0)
        assert np.nanmax(steps) < 2 / SIZE


def test_faces_of_healpix_tile_the_projection():
    """Twelve faces of half a square quarter each; those that share corners have them in common."""
    corners = [healpix_corners(face, SIZE) for face in range(12)]
    for east, north in corners:
        cells = np.diff(east, axis=1)[:-1] ** 2 + np.diff(north, axis=1)[:-1] ** 2
        assert np.allclose(cells * SIZE**2, 0.5)
    at = [{(float(e), float(n)) for e, n in zip(*map(np.ravel, it), strict=True)} for it in corners]
    # The face to the southeast of northern face 0 is equatorial face 5, to the southwest face 4.
    assert len(at[0] & at[5]) == len(at[0] & at[4]) == SIZE + 1
    assert len(at[8] & at[4]) == len(at[8] & at[5]) == SIZE + 1
    assert len(at[0] & at[1]) == 1  # they touch on the equator's side, and meet at the pole
    # Rows run from the northern corner to the southwest, columns to the southeast.
    east, north = corners[4]
    assert (east[0, 0], north[0, 0]) == (0.0, 0.5)
    assert (east[-1, 0], north[-1, 0]) == (-0.5, 0.0)
    assert (east[0, -1], north[0, -1]) == (0.5, 0.0)


def test_healpix_centers_are_those_of_the_grid():
    """In the equatorial belt, north is 3/4 times the sine of the latitude, linear in the ring."""
    size = 8
    east, north = healpix_corners(4, size)
    center_east = (east[:-1, :-1] + east[1:, 1:]) / 2
    center_north = (north[:-1, :-1] + north[1:, 1:]) / 2
    row, column = np.mgrid[:size, :size]
    ring = size + 1 + row + column  # from the north pole: ring n ends the polar cap
    sine = 4 / 3 - 2 * ring / (3 * size)  # Gorski et al. 2005, doi:10.1086/427976, eq. 8
    assert np.allclose(center_north, 0.75 * sine)
    assert np.allclose(center_east, (column - row) / (2 * size))


def test_pictures_of_spheres():
    for shape, label, count in (
        ((1, 2, 6, 8, 8), "faces, cubed sphere", 1),
        ((1, 12, 2, 2, 8, 8), "faces, HEALPix", 12),
    ):
        array, figure = drawn(shape, label, {})
        axes, _ = figure.axes
        pictures = [*axes.images, *axes.collections]
        assert len(pictures) == count
        finite = np.concatenate([np.ma.compressed(it.get_array()) for it in pictures])
        part = array[0, 0] if count == 1 else array[0, :, 0, 0]
        assert np.array_equal(np.sort(finite), np.sort(part.reshape(-1)))


@pytest.mark.parametrize("dimension", [2, 3])
def test_nodes_lie_where_they_are(dimension):
    positions = rng().normal(size=(30, dimension))
    array, figure = drawn((30, 2), "values on mesh nodes", {1: 1}, positions=positions)
    (points,) = figure.axes[0].collections
    assert np.array_equal(points.get_array(), array[:, 1])
    if dimension == 2:
        assert np.array_equal(points.get_offsets(), positions)


@pytest.mark.parametrize(
    ("shape", "value"),
    [
        ((), 0.0),
        ((1,), np.nan),
        ((9, 2), 3.0),
        ((1, 1, 6, 8, 8), np.nan),
        ((1, 12, 1, 1, 4, 4), 0.0),
    ],
)
def test_every_layout_becomes_a_file(shape, value):
    for layout in layouts(shape):
        content = as_png(draw(np.full(shape, value), layout, {}))
        rows, columns, _ = imread(io.BytesIO(content)).shape
        assert min(rows, columns) > 300
