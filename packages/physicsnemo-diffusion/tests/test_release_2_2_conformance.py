# SPDX-License-Identifier: Apache-2.0
"""Models of release 2.2's diffusion have whatever is expected of models."""

import torch

from physicsnemo.diffusion.release_2_2 import (
    ConcatConditionWrapper,
    EDMPreconditioner,
    MultiDiffusionModel2D,
    VPPreconditioner,
)
from physicsnemo.models.diffusion import SongUNet
from physicsnemo.testing import Case, conformance_test

SMALL = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": []}


def inputs():
    generator = torch.Generator().manual_seed(0)
    x, image = (torch.randn(2, channels, 8, 12, generator=generator) for channels in (2, 1))
    return x, 0.1 + 0.9 * torch.rand(2, generator=generator), image


def wrapped(channels):
    return ConcatConditionWrapper(SongUNet([8, 12], channels, 2, **SMALL))


test_conformance = conformance_test(
    [
        Case("one", EDMPreconditioner, {"model": wrapped(3), "sigma_data": [0.5, 2.0]}, inputs),
        Case(
            "of three",
            MultiDiffusionModel2D,
            {
                "model": VPPreconditioner(wrapped(7)),
                "global_spatial_shape": [8, 12],
                "positional_embedding": "learnable",
            },
            inputs,
        ),
    ]
)
