# SPDX-License-Identifier: Apache-2.0
"""Diffusion models have whatever is expected of models, with a network of either kind in them."""

import torch

from physicsnemo.diffusion import EDM, IDDPM, VP, Diffusion
from physicsnemo.models.diffusion import SongUNet
from physicsnemo.testing import Case, conformance_test

SMALL = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": []}


def inputs():
    generator = torch.Generator().manual_seed(0)
    x, image = (torch.randn(2, channels, 8, 12, generator=generator) for channels in (2, 1))
    return x, 0.1 + 0.9 * torch.rand(2, generator=generator), image


def case(name, **options):
    network = SongUNet([8, 12], in_channels=3, out_channels=2, **SMALL)
    return Case(name, Diffusion, {"network": network, **options}, inputs)


test_conformance = conformance_test(
    [
        case("scaled", schedule=EDM(nu=5.0).record(), sigma_data=[0.5, 2.0]),
        case("discrete", schedule=IDDPM(M=50).record(), scaling="iddpm"),
        case("bare", schedule=VP().record(), scaling=None, predicts="epsilon"),
    ]
)
