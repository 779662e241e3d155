# SPDX-License-Identifier: Apache-2.0
"""Weather models at a quarter of a degree, as published, whose costs the documentation tells."""

from typing import Any

from physicsnemo.models.afno import AFNO
from physicsnemo.models.dlwp import DLWP
from physicsnemo.models.dlwp_healpix import HEALPixUNet
from physicsnemo.models.fengwu import Fengwu
from physicsnemo.models.graphcast import GraphCastNet
from physicsnemo.models.pangu import Pangu
from physicsnemo.models.sfno import SFNO
from tools.bench.traffic import Case

GRID = (721, 1440)
FACE = 360  # cells along the side of a face of the cubed sphere
NSIDE = 256  # the same on the HEALPix grid
LAYERS = "physicsnemo.models.dlwp_healpix_layers."
BLOCK = {"_target_": LAYERS + "ConvNeXtBlock", "activation": "gelu"}
HEALPIX: dict[str, Any] = {
    "encoder": {
        "_target_": LAYERS + "UNetEncoder",
        "conv_block": BLOCK,
        "down_sampling_block": {"_target_": LAYERS + "AvgPool"},
        "n_channels": [136, 68, 34],
        "n_layers": [1, 1, 1],
        "dilations": [1, 2, 4],
    },
    "decoder": {
        "_target_": LAYERS + "UNetDecoder",
        "conv_block": BLOCK,
        "up_sampling_block": {"_target_": LAYERS + "TransposedConvUpsample"},
        "output_layer": {"_target_": LAYERS + "BasicConvBlock", "kernel_size": 1},
        "n_channels": [34, 68, 136],
        "n_layers": [1, 1, 1],
        "dilations": [4, 2, 1],
    },
    "input_channels": 7,
    "output_channels": 7,
    "n_constants": 2,
    "decoder_input_channels": 1,
    "input_time_dim": 2,
    "output_time_dim": 2,
}
STATE, FORCING = (1, 12, 2, 7, NSIDE, NSIDE), (1, 12, 2, 1, NSIDE, NSIDE)

CASES = [
    # Bi et al. 2023, arXiv:2211.02556: 69 variables and 3 masks.
    Case("Pangu", Pangu, [(1, 72, *GRID)]),
    # Chen et al. 2023, arXiv:2304.02948: 4 surface variables and 5 on 37 levels.
    Case("Fengwu", Fengwu, [(1, 189, *GRID)]),
    # Lam et al. 2023, arXiv:2212.12794.
    Case("GraphCastNet", GraphCastNet, [(1, 474, *GRID)]),
    # Bonev et al. 2023, arXiv:2306.03838: linear filters, 73 variables.
    Case(
        "SFNO",
        lambda: SFNO(GRID, GRID, 73, 73, embed_dim=384, num_layers=8, scale_factor=3),
        [(1, 73, *GRID)],
    ),
    # Pathak et al. 2022, arXiv:2202.11214: FourCastNet, without the last latitude.
    Case(
        "AFNO",
        lambda: AFNO((720, 1440), 20, 20, (8, 8), embed_dim=768, depth=12, num_blocks=8),
        [(1, 20, 720, 1440)],
    ),
    # Weyn et al. 2020, arXiv:2003.11927, of finer faces: 2 steps of 7 variables, and 4 constants.
    Case("DLWP", lambda: DLWP(18, 14, 64), [(1, 18, 6, FACE, FACE)]),
    # Karlbauer et al. 2024, arXiv:2311.06253, of finer faces and without recurrent blocks.
    Case(
        "HEALPixUNet",
        lambda: HEALPixUNet(**HEALPIX),
        [STATE, FORCING, (12, 2, NSIDE, NSIDE)],
        axes=(1, 1, 0),
        listed=True,
    ),
]
