# SPDX-License-Identifier: Apache-2.0
"""Examples of Pix2Pix and SRResNet, for tests and benchmarks: odd and non-square grids."""

from physicsnemo.testing import Case, noise

SMALL = {
    "in_channels": 2,
    "out_channels": 3,
    "conv_layer_size": 4,
    "n_downsampling": 1,
    "n_upsampling": 1,
    "n_blocks": 1,
}
SHARED = {"activation_fn": "prelu", "batch_norm": True}
COARSE = {"in_channels": 2, "out_channels": 3, "conv_layer_size": 4, "n_resid_blocks": 2}

CASES = [
    Case("2d", "Pix2Pix", SMALL | {"dimension": 2}, noise(2, 2, 6, 8)),
    Case(
        "2d_finer",
        "Pix2Pix",
        SMALL
        | SHARED
        | {"dimension": 2, "n_downsampling": 2, "n_upsampling": 3, "padding_type": "zero"},
        noise(2, 2, 7, 9),
    ),
    Case("1d", "Pix2Pix", SMALL | SHARED | {"dimension": 1, "n_blocks": 2}, noise(2, 2, 11)),
    Case(
        "1d_replicate",
        "Pix2Pix",
        SMALL | {"dimension": 1, "padding_type": "replicate", "activation_fn": "tanh"},
        noise(2, 2, 8),
    ),
    Case("3d", "Pix2Pix", SMALL | {"dimension": 3}, noise(2, 2, 4, 5, 4)),
    Case(
        "3d_replicate",
        "Pix2Pix",
        SMALL | SHARED | {"dimension": 3, "n_upsampling": 0, "padding_type": "replicate"},
        noise(1, 2, 4, 4, 5),
    ),
    Case("x2", "SRResNet", COARSE | {"scaling_factor": 2}, noise(2, 2, 3, 4, 2)),
    Case(
        "x4",
        "SRResNet",
        COARSE | {"scaling_factor": 4, "large_kernel_size": 5, "activation_fn": "silu"},
        noise(1, 2, 2, 1, 3),
    ),
    Case(
        "x8",
        "SRResNet",
        COARSE | {"n_resid_blocks": 1, "small_kernel_size": 1, "large_kernel_size": 3},
        noise(2, 2, 2, 1, 3),
    ),
]
