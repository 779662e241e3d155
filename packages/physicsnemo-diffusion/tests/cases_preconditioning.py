# SPDX-License-Identifier: Apache-2.0
"""Examples of the wrappers around networks: all of them, on small images that are not square."""

import inspect
from dataclasses import replace

import torch

from physicsnemo.testing import Case

SIZE = (8, 12)
SMALL = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4]}
ADM = SMALL | {"model_type": "DhariwalUNet", "model_channels": 32, "channel_mult": [1, 4]}
FIELDS = {"img_resolution": list(SIZE), "img_channels": 2}
PAIRS = {"img_resolution": list(SIZE), "img_in_channels": 3 + 4, "img_out_channels": 2}


def noisy(*channels: int, labels: int = 0, batch: int = 2):
    """Return a function that makes the same images each time, then noise levels, then labels."""

    def inputs():
        generator = torch.Generator().manual_seed(0)
        images = [torch.randn(batch, n, *SIZE, generator=generator) for n in channels]
        sigma = torch.rand(batch, generator=generator) * 4 + 0.5
        return (*images, sigma, *([torch.eye(labels)[:batch]] if labels else []))

    return inputs


def images(*channels: int):
    """Return a function that makes the same images each time."""
    return lambda: noisy(*channels)()[:-1]


# What wrappers take besides, by argument and patterns of names: they convert it.
TAKEN = {
    "x": ("x:[if]*", "fields of whole numbers, and of any type"),
    "img_lr": ("img_lr:[bif]*", "conditions of any numbers, and masks"),
    "sigma": ("sigma:[ifsm]*", "noise levels of any type, and in any shape"),
}


def tried(case: Case) -> Case:
    """Return a case with what its model takes besides."""
    names = inspect.signature(case.model_class.forward).parameters
    accepts = dict(taken for name, taken in TAKEN.items() if name in names)
    if "label_dim" in case.arguments:
        accepts["class_labels:[bifm]*"] = "labels of any type, one for all, and truths"
    return replace(case, accepts=accepts)


CASES = [
    Case("positions", "UNet", PAIRS | SMALL, images(2, 3)),
    Case(
        "plain",
        "UNet",
        PAIRS | SMALL | {"model_type": "SongUNet", "img_in_channels": 3},
        images(2, 3),
    ),
    Case(
        "next_state",
        "StormCastUNet",
        {"img_resolution": list(SIZE), "img_in_channels": 5, "img_out_channels": 2} | SMALL,
        images(5),
    ),
    Case("labels", "VPPrecond", FIELDS | SMALL | {"label_dim": 3}, noisy(2, labels=3)),
    Case(
        "residual",
        "VEPrecond",
        FIELDS | SMALL | {"embedding_type": "fourier", "encoder_type": "residual"},
        noisy(2),
    ),
    Case("steps", "iDDPMPrecond", FIELDS | ADM | {"img_resolution": 8, "M": 50}, noisy(2)),
    Case("adm", "EDMPrecond", FIELDS | ADM | {"img_resolution": 8}, noisy(2)),
    Case("positions", "EDMPrecondSuperResolution", PAIRS | SMALL, noisy(2, 3)),
    Case("scaled", "EDMPrecondSR", PAIRS | SMALL | {"img_channels": 2}, noisy(2, 3)),
    Case("heavy_tails", "tEDMPrecondSuperRes", PAIRS | SMALL | {"nu": 5}, noisy(2, 3)),
    Case("times", "VEPrecond_dfsr", FIELDS | SMALL | {"img_channels": 3}, noisy(3)),
    Case(
        "times",
        "VEPrecond_dfsr_cond",
        FIELDS | SMALL | {"img_channels": 3},
        noisy(3),
        exceptions={"double_backward": "the residual's gradient, by the method, is a constant"},
    ),
]
CASES = [*map(tried, CASES)]
