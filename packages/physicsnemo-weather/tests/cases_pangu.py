# SPDX-License-Identifier: Apache-2.0
"""Examples of Pangu: odd latitudes, grids that windows do not fill, and each of the numerics."""

from physicsnemo.testing import Case, noise

SMALL = {"embed_dim": 4, "num_heads": [1, 2, 2, 1]}
# 8 levels, 3 by 6 points and at half the resolution 2 by 3, of which windows cover 2 by 4.
ODD = SMALL | {"img_size": [11, 24], "patch_size": [2, 4, 4], "window_size": [2, 2, 2]}

CASES = [
    Case("odd", "Pangu", ODD, noise(2, 72, 11, 24)),
    Case(
        "other_levels",
        "Pangu",
        SMALL | {"img_size": [5, 9], "patch_size": [5, 2, 3], "window_size": [3, 2, 1]},
        noise(1, 72, 5, 9),
    ),
    Case("reference", "Pangu", ODD | {"numerics": "reference-1.2"}, noise(2, 72, 11, 24)),
]
