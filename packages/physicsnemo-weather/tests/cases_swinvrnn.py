# SPDX-License-Identifier: Apache-2.0
"""Examples of SwinRNN: patches of several points, odd latitudes, one past state."""

from physicsnemo.testing import Case, noise

SMALL = {"in_chans": 2, "out_chans": 2, "embed_dim": 4, "num_groups": 2, "num_heads": 2}

CASES = [
    Case(
        "patches",
        "SwinRNN",
        SMALL | {"img_size": [2, 21, 34], "patch_size": [2, 2, 3], "window_size": 3},
        noise(2, 2, 2, 21, 34),
    ),
    Case(
        "points",
        "SwinRNN",
        SMALL | {"img_size": [1, 9, 16], "patch_size": [1, 1, 1], "window_size": 4},
        noise(1, 2, 1, 9, 16),
    ),
]
