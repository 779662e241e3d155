# SPDX-License-Identifier: Apache-2.0
"""Examples of FengWu: odd latitudes, grids that windows do not fill, and any number of levels."""

from physicsnemo.testing import Case, noise

# 3 by 6 points and at half the resolution 2 by 3, of which windows cover 2 by 4.
ODD = {
    "img_size": [11, 24],
    "pressure_level": 2,
    "embed_dim": 4,
    "patch_size": [4, 4],
    "num_heads": [1, 2, 2, 1],
    "window_size": [2, 2, 2],
}

CASES = [
    Case("odd", "Fengwu", ODD, noise(2, 14, 11, 24)),
    Case("reference", "Fengwu", ODD | {"numerics": "reference-1.2"}, noise(1, 14, 11, 24)),
]
