# SPDX-License-Identifier: Apache-2.0
"""Examples of SFNO, for tests and benchmarks: every grid, operator and embedding, odd sizes."""

from physicsnemo.testing import Case, noise

SMALL = {"inp_chans": 3, "out_chans": 2, "embed_dim": 6, "num_layers": 2, "scale_factor": 2}

CASES = [
    Case(
        "small", "SFNO", SMALL | {"inp_shape": [17, 32], "out_shape": [17, 32]}, noise(2, 3, 17, 32)
    ),
    Case(
        "diagonal",
        "SFNO",
        SMALL
        | {
            "inp_shape": [12, 21],  # an odd number of longitudes
            "out_shape": [12, 21],
            "scale_factor": 1,
            "num_layers": 3,
            "model_grid_type": "lobatto",
            "sht_grid_type": "lobatto",
            "operator_type": "diagonal",
            "normalization_layer": "layer_norm",
            "pos_embed": "frequency",
            "path_drop_rate": 0.5,
        },
        noise(2, 3, 12, 21),
    ),
    Case(
        "other_grid",
        "SFNO",
        SMALL
        | {
            "inp_shape": [19, 36],
            "out_shape": [9, 16],
            "num_layers": 1,
            "out_grid_type": "legendre-gauss",
            "max_modes": [9, 5],
            "encoder_layers": 2,
            "activation_function": "prelu",
            "normalization_layer": "none",
            "pos_embed": "direct",
            "pos_drop_rate": 0.1,
            "mlp_drop_rate": 0.1,
        },
        noise(2, 3, 19, 36),
    ),
    Case(
        "without_skip",
        "SFNO",
        SMALL
        | {
            "inp_shape": [9, 16],
            "out_shape": [17, 32],
            "sht_grid_type": "equiangular",
            "big_skip": False,
        },
        noise(2, 3, 9, 16),
    ),
]
