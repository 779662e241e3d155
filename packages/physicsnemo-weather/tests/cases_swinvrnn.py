# SPDX-License-Identifier: Apache-2.0
"""Examples of SwinRNN: patches of several points, odd latitudes, one past state."""

import torch

from physicsnemo.testing import Case


def field(*shape: int):
    """Return a function that draws the same input each time."""
    return lambda: (torch.randn(shape, generator=torch.Generator().manual_seed(0)),)


SMALL = {"in_chans": 2, "out_chans": 2, "embed_dim": 4, "num_groups": 2, "num_heads": 2}

CASES = [
    Case(
        "patches",
        "SwinRNN",
        SMALL | {"img_size": [2, 21, 34], "patch_size": [2, 2, 3], "window_size": 3},
        field(2, 2, 2, 21, 34),
    ),
    Case(
        "points",
        "SwinRNN",
        SMALL | {"img_size": [1, 9, 16], "patch_size": [1, 1, 1], "window_size": 4},
        field(1, 2, 1, 9, 16),
    ),
]
