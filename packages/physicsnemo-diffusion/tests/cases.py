# SPDX-License-Identifier: Apache-2.0
"""Examples of the networks, for tests and benchmarks: small images that are not square."""

import runpy
from dataclasses import replace
from pathlib import Path

import torch

from physicsnemo.testing import Case

SIZE = (8, 12)
SMALL = {
    "img_resolution": list(SIZE),
    "in_channels": 3,
    "out_channels": 2,
    "model_channels": 8,
    "channel_mult": [1, 2],
    "channel_mult_emb": 2,
    "num_blocks": 1,
    "attn_resolutions": [4],
}
NCSNPP = {
    "embedding_type": "fourier",
    "channel_mult_noise": 2,
    "encoder_type": "residual",
    "resample_filter": [1, 3, 3, 1],
}
PYRAMIDS = {"encoder_type": "skip", "decoder_type": "skip", "additive_pos_embed": True}
LABELS = {"label_dim": 3, "augment_dim": 2}
HEADS = SMALL | {"img_resolution": 8, "model_channels": 32, "channel_mult": [1, 4]}
LEAD_TIMES = {"lead_time_channels": 2, "lead_time_steps": 4, "prob_channels": [0, 1]}


def noisy(channels: int, *labels: int, size=SIZE):
    """Return a function that makes the same images, noise levels and labels each time."""

    def inputs():
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(2, channels, *size, generator=generator)
        features = [torch.rand(2, number, generator=generator) for number in labels]
        return x, torch.rand(2, generator=generator), *(features or [None])

    return inputs


def in_patches():
    """Return two patches of two images each, with the place of each patch."""
    x, noise_labels, _ = noisy(3, size=(4, 6))()
    rows, columns = torch.meshgrid(torch.arange(4), torch.arange(6), indexing="ij")
    first = torch.stack((rows, columns))
    index = torch.stack((first, first + torch.tensor([3, 5])[:, None, None]))
    lead_times = torch.tensor([2, 0])
    return x.repeat(2, 1, 1, 1), noise_labels.repeat(2), None, index, None, None, lead_times


def at_lead_times():
    """Return images at two lead times."""
    return *noisy(3)(), torch.tensor([3, 1])


# What networks take besides, by patterns of names.
CONVERTED = {
    "x:float64": "weights are cast to the type of the images",
    "noise_labels:[if]*": "noise is told by real numbers of any type",
}
LABELED = CONVERTED | {"[ca]*_labels:[bif]*": "labels are real numbers of any type, or truths"}

BLOCKS = ["enc.8x8_block0", "enc.4x4_down", "enc.4x4_block0", "dec.4x4_in0", "dec.4x4_in1"]
BLOCKS += ["dec.4x4_block0", "dec.4x4_block1", "dec.8x8_up", "dec.8x8_block0", "dec.8x8_block1"]
ZERO = {f"{block}.affine.weight": "the embedding is zero" for block in BLOCKS}

CASES = [
    Case("ddpmpp", "SongUNet", SMALL, noisy(3)),
    Case("ncsnpp", "SongUNet", SMALL | NCSNPP | LABELS, noisy(3, 3, 2)),
    Case(
        "pyramids",
        "SongUNet",
        SMALL | PYRAMIDS | {"checkpoint_level": 1},
        noisy(3),
    ),
    Case("zero", "SongUNet", SMALL | {"embedding_type": "zero", "act": "gelu"}, noisy(3), ZERO),
    Case("sinusoidal", "SongUNetPosEmbd", SMALL | {"in_channels": 7}, noisy(3)),
    Case(
        "patches",
        "SongUNetPosEmbd",
        SMALL
        | {"in_channels": 8, "gridtype": "learnable", "N_grid_channels": 3}
        | {"lead_time_mode": True, "lead_time_channels": 2, "lead_time_steps": 3},
        in_patches,
        batched=False,
    ),
    Case("lead_times", "SongUNetPosLtEmbd", SMALL | LEAD_TIMES | {"in_channels": 9}, at_lead_times),
    Case("heads", "DhariwalUNet", HEADS | LABELS, noisy(3, 3, 2)),
]
CASES = [
    replace(case, accepts=LABELED if "label_dim" in case.arguments else CONVERTED) for case in CASES
]
CASES += runpy.run_path(str(Path(__file__).with_name("cases_preconditioning.py")))["CASES"]
