# SPDX-License-Identifier: Apache-2.0
"""How nvidia-physicsnemo pads fields on levels."""

from collections.abc import Sequence

from physicsnemo.models.window_layers.padding import Pads, centred_pads


def reference_pads(img_size: Sequence[int], patch_size: Sequence[int]) -> Pads:
    """Return what it adds to levels, latitudes and longitudes.

    The number of latitudes to add follows from what is left over of a division by the levels of a
    patch. The convolution then ignores latitudes that fill no patch; they are cut off here.

    Parameters
    ----------
    img_size
        Number of levels, latitudes and longitudes.
    patch_size
        Those of a patch.

    Raises
    ------
    ValueError
        If that does not give the number of patches that fields at the surface have.
    """
    levels, height, _ = patch_size
    rows = img_size[1]
    over = rows % levels
    total = height - over if over else 0
    before = total // 2
    patches = -(-rows // height)
    if (rows + total) // height != patches:
        raise ValueError(
            f"nvidia-physicsnemo cannot compute a model of {rows} latitudes with patch_size="
            f"{list(patch_size)}, so there are no such numerics; take numerics='paper'"
        )
    pads = centred_pads(img_size, patch_size)
    return pads[0], (before, patches * height - rows - before), pads[2]
