# SPDX-License-Identifier: Apache-2.0
"""Examples of FNO, AFNO and ModAFNO, for tests and benchmarks: odd and non-square grids."""

import torch

from physicsnemo.testing import Case, noise


def modulated(fields, *shape: int):
    """Return a function that draws the same input and modulation, from 0 to 1, each time."""
    return lambda: (*fields(), torch.rand(shape, generator=torch.Generator().manual_seed(1)))


SMALL = {
    "in_channels": 2,
    "out_channels": 3,
    "decoder_layer_size": 8,
    "latent_channels": 8,
    "num_fno_layers": 2,
    "num_fno_modes": 3,
    "padding": 2,
}
CIRCULAR = {"padding_type": "circular"}
PERIODIC = {"padding": 0, "coord_features": False}

SQUARE = {"inp_shape": [16, 16], "patch_size": [4, 4]}
OBLONG = {"inp_shape": [14, 27], "patch_size": [2, 3], "hard_thresholding_fraction": 0.7}
TOKENS = {"in_channels": 2, "out_channels": 3, "embed_dim": 12, "depth": 2, "num_blocks": 3}
MODULATED = TOKENS | {"mod_dim": 8}
IN_SQUARE, IN_OBLONG = noise(2, 2, 16, 16), noise(2, 2, 14, 27)

CASES = [
    Case("1d", "FNO", SMALL | {"dimension": 1}, noise(2, 2, 15)),
    Case("1d_circular", "FNO", SMALL | CIRCULAR | {"dimension": 1}, noise(2, 2, 8)),
    Case("2d", "FNO", SMALL | {"dimension": 2}, noise(2, 2, 8, 13)),
    Case("2d_periodic", "FNO", SMALL | PERIODIC | {"dimension": 2}, noise(2, 2, 9, 8)),
    Case(
        "2d_reflect_prelu",
        "FNO",
        SMALL
        | {
            "dimension": 2,
            "num_fno_modes": [6, 2],  # more than half of the first axis: corners overlap
            "padding": [3, 0],
            "padding_type": "reflect",
            "activation_fn": "prelu",
            "decoder_layers": 2,
            "decoder_activation_fn": "tanh",
        },
        noise(2, 2, 7, 5),
    ),
    Case("3d", "FNO", SMALL | {"dimension": 3}, noise(2, 2, 5, 6, 4)),
    Case(
        "3d_replicate",
        "FNO",
        SMALL
        | {
            "dimension": 3,
            "num_fno_modes": [2, 1, 3],
            "padding": [1, 2],
            "padding_type": "replicate",
            "activation_fn": "tanh",
        },
        noise(1, 2, 3, 4, 5),
    ),
    Case("4d", "FNO", SMALL | {"dimension": 4, "num_fno_modes": 2}, noise(2, 2, 3, 4, 3, 5)),
    Case(
        "4d_periodic",
        "FNO",
        SMALL | PERIODIC | {"dimension": 4, "num_fno_modes": [1, 2, 2, 1]},
        noise(1, 2, 3, 4, 4, 3),
    ),
    Case("square", "AFNO", TOKENS | SQUARE, IN_SQUARE),
    Case("oblong", "AFNO", TOKENS | OBLONG | {"drop_rate": 0.1}, IN_OBLONG),
    Case("reference", "AFNO", TOKENS | OBLONG | {"numerics": "reference-1.2"}, IN_OBLONG),
    Case("complex", "ModAFNO", MODULATED | SQUARE, modulated(IN_SQUARE, 2)),
    Case(
        "real_onehot",
        "ModAFNO",
        MODULATED
        | OBLONG
        | {
            "scale_shift_mode": "real",
            "embed_model": {"method": "onehot", "dim": 8, "depth": 2, "activation_fn": "silu"},
            "drop_rate": 0.1,
        },
        modulated(IN_OBLONG, 2, 1),
    ),
    Case(
        "reference",
        "ModAFNO",
        MODULATED | OBLONG | {"modulate_mlp": False, "numerics": "reference-2.1"},
        modulated(IN_OBLONG, 2, 1),
    ),
    Case(
        "mlp_only",
        "ModAFNO",
        MODULATED | OBLONG | {"modulate_filter": False},
        modulated(IN_OBLONG, 2),
    ),
    Case(
        "features",
        "ModAFNO",
        MODULATED | SQUARE | {"modulate_filter": False, "modulate_mlp": False},
        modulated(IN_SQUARE, 2, 8),
    ),
]
