# SPDX-License-Identifier: Apache-2.0
"""Examples of DLWP: the smallest grid that its depth allows, and others."""

import torch

from physicsnemo.testing import Case


def faces(*shape: int):
    """Return a function that draws the same input each time."""
    return lambda: (torch.randn(shape, generator=torch.Generator().manual_seed(0)),)


SMALL = {"nr_input_channels": 3, "nr_output_channels": 2, "nr_initial_channels": 4}

CASES = [
    Case("depth2", "DLWP", SMALL, faces(2, 3, 6, 4, 4)),
    Case(
        "shallow",
        "DLWP",
        SMALL | {"depth": 1, "activation_fn": "gelu", "clamp_activation": [None, None]},
        faces(1, 3, 6, 6, 6),
    ),
    Case(
        "reference",
        "DLWP",
        SMALL | {"clamp_activation": [-2.0, 2.0], "numerics": "reference-1.2"},
        faces(2, 3, 6, 8, 8),
    ),
]
