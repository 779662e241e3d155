# SPDX-License-Identifier: Apache-2.0
"""Patches: what was cut fuses to what it was, whatever the sizes."""

import random

import pytest
import torch
from torch.nn.functional import fold, interpolate, pad, unfold

from physicsnemo.utils.patching import (
    BasePatching2D,
    GridPatching2D,
    RandomPatching2D,
    image_batching,
    image_fuse,
)

SHARED = [(0, 0), (1, 0), (3, 0), (0, 1), (1, 1), (2, 2)]  # overlap and boundary


def fuzzed(number):
    """Return sizes of image and patch, overlap and boundary; images may be one pixel wide."""
    chance = random.Random(0)
    found = []
    while len(found) < number:
        image = (chance.randint(1, 23), chance.randint(1, 23))
        patch = tuple(chance.randint(1, size) for size in image)
        overlap, boundary = chance.randint(0, 6), chance.randint(0, 4)
        if min(patch) > overlap + 2 * boundary:
            found.append((image, patch, overlap, boundary))
    return found


def by_loops(images, patch, overlap, boundary):
    """Cut patches one by one from images padded by numpy-like reflection."""
    height, width = images.shape[2:]
    stride = [size - overlap - boundary for size in patch]
    numbers = [-(-size // step) for size, step in zip((height, width), stride, strict=True)]

    def reflected(index, size):
        while not 0 <= index < size:
            index = -index if index < 0 else 2 * (size - 1) - index
            index = 0 if size == 1 else index
        return index

    patches = []
    for column in range(numbers[1]):
        for row in range(numbers[0]):
            y = [reflected(row * stride[0] - boundary + i, height) for i in range(patch[0])]
            x = [reflected(column * stride[1] - boundary + i, width) for i in range(patch[1])]
            patches.append(images[:, :, y][:, :, :, x])
    return torch.cat(patches)


@pytest.mark.parametrize("sizes", fuzzed(60), ids=str)
def test_patches_are_those_of_plain_loops_and_fuse_to_the_image(sizes):
    image, patch, overlap, boundary = sizes
    patching = GridPatching2D(*sizes)
    images = torch.randn(2, 3, *image, dtype=torch.float64)
    patches = patching.apply(images)
    assert torch.equal(patches, by_loops(images, patch, overlap, boundary))
    assert len(patches) == 2 * patching.patch_num
    torch.testing.assert_close(patching.fuse(patches, 2), images, rtol=1e-15, atol=0)
    assert torch.equal(image_batching(images, *patch, overlap, boundary), patches)
    assert torch.equal(image_fuse(patches, *image, 2, overlap, boundary), patching.fuse(patches, 2))


def geometry(image, patch, overlap, boundary):
    """Return stride, number and end of the patches along both axes."""
    stride = [size - overlap - boundary for size in patch]
    numbers = [-(-whole // step) for whole, step in zip(image, stride, strict=True)]
    ends = [step * (n - 1) + size for step, n, size in zip(stride, numbers, patch, strict=True)]
    return stride, numbers, ends


def counts_within(image, patch, overlap, boundary):
    counts = GridPatching2D.get_overlap_count(patch, image, overlap, boundary)
    return counts[..., boundary : boundary + image[0], boundary : boundary + image[1]]


@pytest.mark.parametrize("sizes", fuzzed(20), ids=str)
def test_counts_are_those_of_patches_of_ones(sizes):
    image, patch, overlap, boundary = sizes
    stride, numbers, (height, width) = geometry(*sizes)
    ones = torch.ones(1, patch[0] * patch[1], numbers[0] * numbers[1])
    counts = GridPatching2D.get_overlap_count(patch, image, overlap, boundary)
    assert counts.shape == (1, 1, height + boundary, width + boundary)
    expected = fold(ones, (height, width), patch, stride=stride)
    assert torch.equal(counts[..., :height, :width], expected)
    assert counts.sum() == ones.sum()
    patches = torch.randn(numbers[0] * numbers[1], 1, *patch)
    given = image_fuse(patches, *image, 1, overlap, boundary, counts)
    assert torch.equal(given, image_fuse(patches, *image, 1, overlap, boundary))


@pytest.mark.parametrize("sizes", fuzzed(20), ids=str)
def test_the_adjoint_of_fusing_cuts_the_image_over_its_counts(sizes):
    image, patch, _, boundary = sizes
    stride, numbers, ends = geometry(*sizes)
    patching = GridPatching2D(*sizes)
    patches = torch.randn(patching.patch_num * 2, 1, *patch).double().requires_grad_()
    images = torch.randn(2, 1, *image, dtype=torch.float64)
    (adjoint,) = torch.autograd.grad(patching.fuse(patches, 2), patches, images)
    below, right = (end - boundary - size for end, size in zip(ends, image, strict=True))
    over = pad(images / counts_within(*sizes), (boundary, right, boundary, below))
    columns = unfold(over, patch, stride=stride)  # with zeros, not reflected
    expected = columns.reshape(2, *patch, *numbers).permute(4, 3, 0, 1, 2).reshape(adjoint.shape)
    torch.testing.assert_close(adjoint, expected)


@pytest.mark.parametrize(("overlap", "boundary"), SHARED)
def test_gradients(overlap, boundary):
    patching = GridPatching2D((9, 8), (7, 8), overlap, boundary)
    images = torch.randn(2, 1, 9, 8, dtype=torch.float64, requires_grad=True)
    patches = patching.apply(images).detach().requires_grad_()
    assert torch.autograd.gradcheck(patching.apply, images)
    assert torch.autograd.gradcheck(lambda it: patching.fuse(it, 2), patches)
    drawn = RandomPatching2D((9, 8), (4, 5), 3)
    assert torch.autograd.gradcheck(drawn.apply, images)


def test_patches_come_patch_by_patch_of_all_images():
    images = torch.arange(3.0).reshape(3, 1, 1, 1) * 100 + torch.arange(24.0).reshape(1, 1, 4, 6)
    first = GridPatching2D((4, 6), (2, 3)).apply(images)[:, 0, 0, 0]
    # Down the first column of the grid, then down the second.
    assert first.tolist() == [
        corner + 100 * image for corner in (0, 12, 3, 15) for image in range(3)
    ]


@pytest.mark.parametrize(
    "patching",
    [GridPatching2D((9, 11), (5, 4), 1, 1), RandomPatching2D((9, 11), (5, 4), 6)],
    ids=["grid", "random"],
)
def test_global_index_tells_where_pixels_are(patching):
    images = torch.randn(2, 3, 9, 11)
    row, column = patching.global_index(batch_size=2).unbind(1)
    assert row.shape == (patching.patch_num, 5, 4)
    assert row.dtype == torch.long
    found = images[:, :, row, column].permute(2, 0, 1, 3, 4).flatten(0, 1)
    assert torch.equal(found, patching.apply(images))


def test_random_patches_lie_within_the_image_and_reach_its_ends():
    corners = torch.tensor(RandomPatching2D((5, 9), (4, 7), 200).patch_indices)
    assert corners.unique(dim=0).tolist() == [[y, x] for y in range(2) for x in range(3)]


def test_random_patches_come_from_python_or_from_a_generator():
    random.seed(3)
    expected = [(random.randint(0, 12), random.randint(0, 16)) for _ in range(5)]
    random.seed(3)
    patching = RandomPatching2D((16, 20), (4, 4), 5)
    assert patching.patch_indices == patching.get_patch_indices() == expected

    state = random.getstate()
    twins = [
        RandomPatching2D((16, 20), (4, 4), 5, generator=torch.Generator().manual_seed(1))
        for _ in range(2)
    ]
    first = twins[0].patch_indices
    assert first == twins[1].patch_indices != expected
    for twin in twins:
        twin.reset_patch_indices()
    assert twins[0].patch_indices == twins[1].patch_indices != first
    assert random.getstate() == state
    corners = torch.tensor(RandomPatching2D((5, 9), (4, 7), 200, twins[0].generator).patch_indices)
    assert corners.unique(dim=0).tolist() == [[y, x] for y in range(2) for x in range(3)]


def test_places_stay_until_they_are_drawn_again():
    patching = RandomPatching2D((32, 32), (4, 4), 6)
    images = torch.randn(1, 1, 32, 32)
    before = patching.apply(images)
    assert torch.equal(patching.apply(images), before)
    patching.reset_patch_indices()
    assert patching.patch_num == 6
    assert not torch.equal(patching.apply(images), before)
    patching.set_patch_num(2)
    assert len(patching.apply(images)) == patching.patch_num == len(patching.patch_indices) == 2


def test_random_patches_do_not_fuse():
    with pytest.raises(NotImplementedError, match="of RandomPatching2D need not cover the image"):
        RandomPatching2D((8, 8), (4, 4), 2).fuse(torch.zeros(2, 1, 4, 4), 1)


@pytest.mark.parametrize("make", [GridPatching2D, lambda *shapes: RandomPatching2D(*shapes, 3)])
@pytest.mark.parametrize("batch", [1, 2])
def test_additional_images_are_shown_to_every_patch(make, batch):
    patching = make((8, 12), (4, 6))
    images, more = torch.randn(2, 1, 8, 12), torch.randn(batch, 2, 5, 7)
    patches = patching.apply(images, additional_input=more)
    assert torch.equal(patches[:, :1], patching.apply(images))
    small = interpolate(more, (4, 6), mode="bilinear", align_corners=False)
    expected = small.expand(2, -1, -1, -1).repeat(patching.patch_num, 1, 1, 1)
    assert torch.equal(patches[:, 1:], expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types_are_kept(dtype):
    images = torch.randn(2, 1, 9, 7).to(dtype)
    patching = GridPatching2D((9, 7), (5, 5), 1, 1)
    patches = patching.apply(images)
    assert patches.dtype == patching.fuse(patches, 2).dtype == dtype
    assert RandomPatching2D((9, 7), (5, 5), 2).apply(images).dtype == dtype
    torch.testing.assert_close(patching.fuse(patches, 2), images)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint8])
def test_integers_are_cut_as_they_are_and_their_means_are_numbers(dtype):
    images = torch.randint(0, 200, (2, 1, 9, 7)).to(dtype)
    patching = GridPatching2D((9, 7), (5, 5), 1, 1)
    patches = patching.apply(images)
    assert patches.dtype == dtype
    assert torch.equal(patching.fuse(patches, 2), images.float())
    halves = patching.fuse(torch.randint(0, 2, patches.shape), 2)
    assert halves.dtype == torch.float32
    assert (halves % 1 != 0).any()


@pytest.mark.parametrize("make", [GridPatching2D, lambda *shapes: RandomPatching2D(*shapes, 3)])
def test_channels_stay_last(make):
    images = torch.randn(2, 3, 8, 12).contiguous(memory_format=torch.channels_last)
    patches = make((8, 12), (4, 6)).apply(images)
    assert patches.is_contiguous(memory_format=torch.channels_last)
    assert make((8, 12), (4, 6)).apply(images.contiguous()).is_contiguous()


def test_compiles_without_graph_breaks():
    grid = GridPatching2D((9, 11), (5, 4), 1, 1)
    drawn = RandomPatching2D((9, 11), (5, 4), 6)

    def both(images, more):
        patches = grid.apply(images, more)
        index = grid.global_index(2)
        return patches, grid.fuse(patches, images.shape[0]), index, drawn.apply(images, more)

    def agree(batch):
        images, more = torch.randn(batch, 2, 9, 11), torch.randn(batch, 1, 3, 3)
        torch.testing.assert_close(compiled(images, more), both(images, more))

    torch.compiler.reset()
    compiled = torch.compile(both, fullgraph=True, backend="aot_eager")
    agree(batch=2)
    agree(batch=3)  # from here on, for any size of the batch
    with torch.compiler.set_stance("fail_on_recompile"):
        agree(batch=5)
        drawn.reset_patch_indices()  # for other places too
        agree(batch=7)


def test_patches_larger_than_the_image_are_cut_to_it():
    with pytest.warns(UserWarning, match=r"\(64, 20\) are larger .* cut to \(32, 20\)"):
        patching = GridPatching2D((32, 32), (64, 20), overlap_pix=8)
    assert patching.patch_shape == (32, 20)
    assert patching.patch_num == len(patching.apply(torch.zeros(1, 1, 32, 32))) == 6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GridPatching2D((8,), (4, 4)), r"img_shape to be a height and a width .* \(8,\)"),
        (lambda: GridPatching2D((8, 8), (4, 4, 4)), "patch_shape to be a height and a width"),
        (lambda: GridPatching2D((8, 8), (0, 4)), "patch_shape .* of at least 1"),
        (lambda: GridPatching2D((8, 8), (4, 4), 4), r"more than .* = 4 pixels each way, got 4"),
        (lambda: GridPatching2D((8, 8), (4, 4), 0, 2), r"more than .* = 4 pixels each way, got 4"),
        (lambda: GridPatching2D((8, 8), (4, 4), -1), "of at least 0, got -1 and 0"),
        (lambda: RandomPatching2D((8, 8), (4, 4), 0), "patch_num of at least 1, got 0"),
        (lambda: image_batching(torch.zeros(8, 8), 4, 4, 0, 0), r"images of shape .* \(8, 8\)"),
    ],
)
def test_no_patches(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda it: it.apply(torch.zeros(1, 1, 8, 9)), r"\(8, 8\), got \(8, 9\)"),
        (lambda it: it.apply(torch.zeros(8, 8)), r"shape \(batch, channels, height, width\)"),
        (
            lambda it: it.apply(torch.zeros(3, 1, 8, 8), torch.zeros(2, 1, 8, 8)),
            r"shape \(3, channels, 4, 4\), got \(2, 1, 4, 4\); its batch may also be 1",
        ),
        (lambda it: it.apply(torch.zeros(3, 1, 8, 8), torch.zeros(8, 8)), "images of shape"),
        (
            lambda it: it.fuse(torch.zeros(7, 1, 4, 4), 2),
            "expected 4 patches for each of 2 images .* got 7 patches",
        ),
        (lambda it: it.fuse(torch.zeros(4, 1, 4, 5), 1), r"channels, 4, 4\), got \(4, 1, 4, 5\)"),
    ],
)
def test_images_and_patches_that_do_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call(GridPatching2D((8, 8), (4, 4)))


def test_interpolated_channels_need_the_shape_of_patches():
    with pytest.raises(ValueError, match=r"\(1, channels, 4, 4\), got \(1, 1, 8, 8\)"):
        image_batching(torch.zeros(1, 1, 8, 8), 4, 4, 0, 0, torch.zeros(1, 1, 8, 8))


def test_own_patching():
    class Corner(BasePatching2D):
        patch_num = 1

        def apply(self, input, additional_input=None):
            return input[..., : self.patch_shape[0], : self.patch_shape[1]]

    assert Corner((4, 4), (2, 2)).global_index().tolist() == [[[[0, 0], [1, 1]], [[0, 1], [0, 1]]]]
