# SPDX-License-Identifier: Apache-2.0
"""Examples of DLWP: the smallest grid that its depth allows, and others."""

from physicsnemo.testing import Case, noise

SMALL = {"nr_input_channels": 3, "nr_output_channels": 2, "nr_initial_channels": 4}

CASES = [
    Case("depth2", "DLWP", SMALL, noise(2, 3, 6, 4, 4)),
    Case(
        "shallow",
        "DLWP",
        SMALL | {"depth": 1, "activation_fn": "gelu", "clamp_activation": [None, None]},
        noise(1, 3, 6, 6, 6),
    ),
    Case(
        "reference",
        "DLWP",
        SMALL | {"clamp_activation": [-2.0, 2.0], "numerics": "reference-1.2"},
        noise(2, 3, 6, 8, 8),
    ),
]
