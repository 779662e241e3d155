# SPDX-License-Identifier: Apache-2.0
"""How the page of ``physicsnemo show`` draws an array."""

import numpy as np
import pytest

from physicsnemo.cli.page.layouts import layouts


def numbered(*shape):
    """Return an array whose numbers are their own places."""
    return np.arange(float(np.prod(shape))).reshape(shape)


def layout_of(label, shape, nodes=None):
    (found,) = [it for it in layouts(shape, nodes) if it.label == label]
    return found


@pytest.mark.parametrize(
    ("shape", "first", "chosen"),
    [
        ((), "histogram of all values", {}),
        ((1,), "histogram of all values", {}),
        ((50,), "line along index", {}),
        ((50, 3), "line along sample", {1: "feature"}),
        ((3, 50), "line along feature", {0: "sample"}),
        ((2, 3, 64), "line along axis 2", {0: "sample", 1: "channel"}),
        ((2, 3, 8, 9), "map of axis 2 and axis 3", {0: "sample", 1: "channel"}),
        ((1, 6, 8, 8), "map of axis 2 and axis 3", {1: "channel"}),
        ((2, 3, 1, 9), "line along axis 3", {0: "sample", 1: "channel"}),
        ((2, 3, 7, 8, 9), "slice of axis 3 and axis 4", {0: "sample", 1: "channel", 2: "axis 2"}),
        ((2, 3, 6, 8, 8), "faces, cubed sphere", {0: "sample", 1: "channel"}),
        ((2, 3, 12, 8, 8), "faces, HEALPix", {0: "sample", 1: "channel"}),
        ((2, 12, 4, 3, 8, 8), "faces, HEALPix", {0: "sample", 2: "time", 3: "channel"}),
        (
            (2, 3, 4, 7, 8, 9),
            "slice of axis 4 and axis 5",
            {0: "sample", 1: "channel", 2: "axis 2", 3: "axis 3"},
        ),
    ],
)
def test_what_is_most_likely_meant(shape, first, chosen):
    found = layouts(shape)
    assert found[0].label == first
    assert found[0].chosen == chosen
    assert found[-1].label == "histogram of all values"
    assert len({it.label for it in found}) == len(found)
    array = numbered(*shape)
    for layout in found:
        indices = {axis: layout.middle(axis) for axis in layout.chosen}
        picture = layout.picture(array, indices)
        assert picture.ndim == max(len(layout.axes), 1)
        low, high = layout.limits(array, indices)
        assert low <= picture.min() <= picture.max() <= high


def test_faces_of_few_axes_are_offered_last():
    labels = [it.label for it in layouts((12, 2, 8, 8))]
    assert labels[0] == "map of axis 2 and axis 3"
    assert "faces, HEALPix" in labels
    assert not any("faces" in it.label for it in layouts((12, 2, 8, 9)))


def test_pictures_are_parts_of_the_array():
    array = numbered(2, 3, 4, 5)
    shown = layouts(array.shape)[0].picture(array, {0: 1, 1: 2})
    assert np.array_equal(shown, array[1, 2])
    line = layout_of("line along axis 2", array.shape)
    assert line.chosen == {0: "sample", 1: "channel", 3: "axis 3"}
    assert np.array_equal(line.picture(array, {0: 1, 3: 4}), array[1, 0, :, 4])


def test_all_three_sections_of_a_volume():
    array = numbered(2, 3, 4, 5, 6)
    labels = [
        "slice of axis 3 and axis 4",
        "slice of axis 2 and axis 4",
        "slice of axis 2 and axis 3",
    ]
    expected = [array[1, 2, 3], array[1, 2, :, 3], array[1, 2, :, :, 3]]
    for label, axis, part in zip(labels, (2, 3, 4), expected, strict=True):
        layout = layout_of(label, array.shape)
        assert np.array_equal(layout.picture(array, {0: 1, 1: 2, axis: 3}), part)
        assert layout.middle(axis) == array.shape[axis] // 2
        assert layout.middle(0) == layout.middle(1) == 0


def test_faces_come_first_in_the_picture():
    array = numbered(2, 12, 4, 3, 8, 8)
    shown = layouts(array.shape)[0].picture(array, {0: 1, 2: 3, 3: 2})
    assert np.array_equal(shown, array[1, :, 3, 2])
    array = numbered(2, 3, 6, 8, 8)
    assert np.array_equal(layouts(array.shape)[0].picture(array, {1: 2}), array[0, 2])


@pytest.mark.parametrize(
    ("shape", "part", "chosen"),
    [
        ((7, 3), np.s_[:, 1], {1: 1}),
        ((2, 7, 3), np.s_[1, :, 2], {0: 1, 2: 2}),
        ((7,), np.s_[:], {}),
        ((7, 7), np.s_[:, 4], {1: 4}),
    ],
)
def test_values_on_nodes(shape, part, chosen):
    array = numbered(*shape)
    layout = layouts(shape, nodes=7)[0]
    assert layout.label == "values on mesh nodes"
    assert np.array_equal(layout.picture(array, chosen), array[part])
    assert all(it.kind != "nodes" for it in layouts(shape, nodes=8))


def test_colours_mean_the_same_at_all_levels_of_a_channel():
    array = numbered(2, 3, 4, 5, 6)
    array[1, 2, 0, 0, 0] = np.inf
    array[1, 2, 0, 0, 1] = np.nan
    layout = layouts(array.shape)[0]
    part = array[1, 2].reshape(-1)[2:]
    assert layout.limits(array, {0: 1, 1: 2, 2: 3}) == (part.min(), part.max())
    assert layout.limits(np.full(array.shape, np.nan), {}) == (0.0, 0.0)
