# SPDX-License-Identifier: Apache-2.0
"""Around each face of the cubed sphere lie the cells that are there on the sphere."""

import numpy as np
import pytest
import torch

from physicsnemo.models.dlwp._cubed_sphere import around_cube, around_cube_as_reference
from physicsnemo.models.face_layers import pad_faces


def positions(size):
    """Return unit vectors to the cells, (6, size, size, 3), by the angles that faces divide."""
    angle = (2 * np.arange(size) + 1 - size) / size * np.pi / 4
    b, a = np.tan(np.meshgrid(angle, angle, indexing="ij"))
    one = np.ones_like(a)
    belt = [(one, a, b), (-a, one, b), (-one, -a, b), (a, -one, b)]  # a quarter turn each
    caps = [(b, a, -one), (-b, a, one)]
    xyz = np.stack([np.stack(face, axis=-1) for face in belt + caps])
    return xyz / np.linalg.norm(xyz, axis=-1, keepdims=True)


def padded(xyz, padding, sources=around_cube):
    """Return the padded faces, all with columns in the direction that the model documents."""
    stored = np.concatenate((xyz[:5], xyz[5:, :, ::-1]))
    faces = pad_faces(torch.from_numpy(stored.copy())[None], padding, sources)[0].numpy()
    return np.concatenate((faces[:5], faces[5:, :, ::-1]))


def nearest_elsewhere(xyz, face, points):
    """Return the cells of other faces that lie nearest to points."""
    others = np.delete(xyz, face, axis=0).reshape(-1, 3)
    return others[(points @ others.T).argmax(axis=-1)]


@pytest.mark.parametrize("face", range(6))
def test_true_neighbours(face):
    xyz = positions(6)
    found, cells = padded(xyz, 1)[face], xyz[face]
    assert np.array_equal(found[1:-1, 1:-1], cells)
    for turns in range(4):  # each edge in its turn is the first row
        rim, rows = np.rot90(found, turns)[0, 1:-1], np.rot90(cells, turns)
        beyond = 2 * rows[0] - rows[1]
        assert np.array_equal(rim, nearest_elsewhere(xyz, face, beyond))


@pytest.mark.parametrize("face", range(6))
def test_corners_repeat_a_cell_beside_them(face):
    found = padded(positions(6), 1)[face]
    for turns in range(4):
        rim = np.rot90(found, turns)
        beside = rim[0, 1], rim[1, 0]
        assert any(np.array_equal(rim[0, 0], cell) for cell in beside)


def test_wide_padding_goes_on_in_rows():
    xyz = positions(6)
    once, thrice = padded(xyz, 1), padded(xyz, 3)
    beside = np.zeros(thrice.shape[1:3], dtype=bool)
    beside[3:-3] = beside[:, 3:-3] = True  # all but the corners
    for face in thrice:
        assert len(np.unique(face[beside], axis=0)) == beside.sum()  # no cell twice
    assert np.array_equal(thrice[:, 3:-3, 3:-3], xyz)
    assert np.array_equal(thrice[:, 2:-2, 3:-3], once[:, :, 1:-1])
    spacing = np.linalg.norm(np.diff(thrice[:, :, 3:-3], axis=1), axis=-1)
    assert spacing.max() < 1.6 * spacing.min()  # no jumps
    spacing = np.linalg.norm(np.diff(thrice[:, 3:-3], axis=2), axis=-1)
    assert spacing.max() < 1.6 * spacing.min()


def test_reference_sees_the_other_pole_beyond_two_edges():
    xyz = positions(6)
    ours, theirs = padded(xyz, 1), padded(xyz, 1, around_cube_as_reference)
    differ = (ours != theirs).any(axis=-1)
    differ[4, 0, 1:-1] = differ[5, -1, 1:-1] = False
    assert not differ[:, 1:-1, 1:-1].any()
    assert not differ[:, :, 1:-1].any()
    assert np.array_equal(theirs[4, 0, 1:-1], xyz[5, -1])
    assert np.array_equal(theirs[5, -1, 1:-1], xyz[4, 0])


@pytest.mark.parametrize("padding", [1, 2, 3])
def test_reference_by_its_formulas(padding):
    p, x = padding, torch.randn(6, 4, 4, generator=torch.Generator().manual_seed(0))

    def block(before, rows, after):
        """Put rims before and after rows, with their ends repeated on either side."""
        first, last = (torch.cat((rim[:, :p], rim, rim[:, -p:]), 1) for rim in (before, after))
        return torch.cat((first[-p:], rows, last[:p]))

    def belt(face, left, right, turns):
        rows = torch.cat((x[left][:, -p:], x[face], x[right][:, :p]), 1)
        south, north = torch.rot90(x[4], turns, (-1, -2)), torch.rot90(x[5], turns, (-2, -1))
        return block(south, rows, north)

    def cap(face, before, after, dims):
        left, right = torch.rot90(x[3], dims=dims), torch.rot90(x[1], dims=dims[::-1])
        columns = torch.cat((x[before][-p:], x[face], x[after][:p]))
        return block(left.T, columns.T, right.T).T

    expected = [belt(0, 3, 1, 0), belt(1, 0, 2, 1), belt(2, 1, 3, 2), belt(3, 2, 0, 3)]
    expected += [cap(4, 5, 0, (-1, -2)), cap(5, 0, 4, (-2, -1))]
    found = padded(x[..., None].numpy(), p, around_cube_as_reference)[..., 0]
    assert np.array_equal(found, torch.stack(expected).numpy())
