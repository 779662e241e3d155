# SPDX-License-Identifier: Apache-2.0
"""Around each face of the HEALPix grid lie the cells that an independent library finds there."""

import numpy as np
import pytest
import torch
from astropy_healpix import healpix_to_xyz, neighbours

from physicsnemo.models.dlwp_healpix_layers import HEALPixPadding

SIZE = 8
SOUTH_WEST, WEST, NORTH_WEST, NORTH, NORTH_EAST, EAST, SOUTH_EAST, SOUTH = range(8)
MISSING = -1


def pixels(size=SIZE):
    """Return the nested index of each cell, (12, size, size), in the layout of the faces."""
    bits = np.array([int(f"{number:b}", 4) for number in range(size)])
    # From a face's southern corner, even bits count to the north-east, odd ones to the north-west.
    within = (bits[:, None] + 2 * bits)[::-1, ::-1]
    return np.arange(12)[:, None, None] * size**2 + within


def padded(values, padding):
    """Pad values of shape (12, size, size, channels)."""
    faces = torch.from_numpy(np.moveaxis(values, -1, 1).copy())
    return np.moveaxis(HEALPixPadding(padding)(faces).numpy(), 1, -1)


def places(cells):
    return np.stack(healpix_to_xyz(cells, SIZE, order="nested"), axis=-1)


def cells_beside(cells):
    """Return what the library finds in eight directions; it computes with NaN where is nothing."""
    with np.errstate(invalid="ignore"):
        return neighbours(cells, SIZE, order="nested")


def expected_around(cells):
    """Return the cells that the library finds around each face, and where there is none."""
    near = cells_beside(cells)
    found = np.empty((12, SIZE + 2, SIZE + 2), dtype=np.int64)
    found[:, 1:-1, 1:-1] = cells
    found[:, 0, 1:-1], found[:, -1, 1:-1] = near[NORTH_EAST][:, 0], near[SOUTH_WEST][:, -1]
    found[:, 1:-1, 0], found[:, 1:-1, -1] = near[NORTH_WEST][..., 0], near[SOUTH_EAST][..., -1]
    found[:, 0, 0], found[:, 0, -1] = near[NORTH][:, 0, 0], near[EAST][:, 0, -1]
    found[:, -1, 0], found[:, -1, -1] = near[WEST][:, -1, 0], near[SOUTH][:, -1, -1]
    return found


def test_a_smooth_function_has_its_values_at_the_true_places():
    cells = pixels()
    around = expected_around(cells)
    there = around != MISSING
    values = padded(places(cells), 1)
    assert np.array_equal(values[there], places(around[there]))
    assert (~there).sum() == 3 * 8  # at eight corners three faces meet


def test_corners_that_are_missing():
    around = expected_around(pixels())
    values = padded(pixels()[..., None].astype(float), 1)[..., 0]
    for face, row, column in np.argwhere(around == MISSING):
        inwards = [np.sign(1 - row), np.sign(1 - column)]
        beside = around[face, row, column + inwards[1]], around[face, row + inwards[0], column]
        mean = sum(beside) / 2
        assert values[face, row, column] in ((mean,) if 4 <= face < 8 else beside)


@pytest.mark.parametrize("padding", [1, 2, 3, SIZE])
def test_cells_side_by_side_in_the_rim_share_an_edge(padding):
    values = padded(pixels()[..., None].astype(float), padding)[..., 0].astype(int)
    ours = np.zeros(values.shape[1:], dtype=bool)  # not the corners, some of which are made up
    ours[padding:-padding] = ours[:, padding:-padding] = True
    near = cells_beside(values)[[SOUTH_WEST, NORTH_WEST, NORTH_EAST, SOUTH_EAST]]
    for axis in (1, 2):
        both = ours.take(range(1, len(ours)), axis - 1) & ours.take(range(len(ours) - 1), axis - 1)
        following = values.take(range(1, len(ours)), axis)
        touch = (near.take(range(len(ours) - 1), axis + 1) == following).any(axis=0)
        assert touch[:, both].all()


@pytest.mark.parametrize("padding", [2, 3])
def test_corners_where_four_faces_meet_go_on(padding):
    values = padded(pixels()[..., None].astype(float), padding)[..., 0].astype(int)
    first, last = np.s_[: padding + 1], np.s_[-padding - 1 :]
    for faces, rows, columns in (
        (values[:4], first, first),  # the north pole
        (values[8:], last, last),  # the south pole
        (values[4:8], last, first),  # west
        (values[4:8], first, last),  # east
    ):
        corner = faces[:, rows, columns]
        near = cells_beside(corner)
        assert (near[:, :, :-1] == corner[:, 1:]).any(axis=0).all()
        assert (near[..., :-1] == corner[..., 1:]).any(axis=0).all()


@pytest.mark.parametrize("padding", [1, 2, 3])
def test_made_up_corners_by_their_formula(padding):
    x = torch.randn(12, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rim = HEALPixPadding(padding)(x)[:, 0]
    for i in range(4):
        above, left = x[i, 0], x[(i - 1) % 4, 0]
        corner = rim[4 + i, :padding, :padding]
        for k in range(padding):  # cells away from the corner
            mean = (above[-1 - k, 0] + left[0, -1 - k]) / 2
            torch.testing.assert_close(corner[-1 - k, -1 - k], mean)
            assert torch.equal(corner[-1 - k, padding - k :], above[-1 - k, :k])
            assert torch.equal(corner[padding - k :, -1 - k], left[:k, -1 - k])
        below, right = x[8 + (i - 1) % 4, 0], x[8 + i, 0]
        corner = rim[4 + i, -padding:, -padding:]
        for k in range(padding):
            torch.testing.assert_close(corner[k, k], (below[k, -1] + right[-1, k]) / 2)
            assert torch.equal(corner[k, :k], below[k, 4 - k :])
            assert torch.equal(corner[:k, k], right[4 - k :, k])


def test_turning_the_globe_by_a_quarter():
    x = torch.randn(12, 2, 4, 4, generator=torch.Generator().manual_seed(0))

    def turned(faces):
        return faces.unflatten(0, (3, 4)).roll(1, dims=1).flatten(0, 1)

    pad = HEALPixPadding(2)
    assert torch.equal(pad(turned(x)), turned(pad(x)))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((11, 1, 4, 4), "12 faces of each sample, got 11"),
        ((12, 1, 4, 5), "square faces of size 2 or more.*got 4 x 5"),
        ((12, 1, 1, 1), "padded by 2, got 1 x 1"),
        ((12, 4, 4), r"shape \(batch \* 12, channels, size, size\)"),
    ],
)
def test_wrong_faces(shape, message):
    with pytest.raises(ValueError, match=message):
        HEALPixPadding(2)(torch.zeros(shape))


@pytest.mark.parametrize("padding", [0, -1, 1.5, "1"])
def test_wrong_padding(padding):
    with pytest.raises(ValueError, match="whole number above zero"):
        HEALPixPadding(padding)
