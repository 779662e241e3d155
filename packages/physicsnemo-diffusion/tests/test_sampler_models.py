# SPDX-License-Identifier: Apache-2.0
"""The samplers with the preconditioners and networks of this package, on images and patches."""

import pytest
import torch

from physicsnemo.models.diffusion import (
    EDMPrecond,
    EDMPrecondSuperResolution,
    VEPrecond,
    VPPrecond,
    iDDPMPrecond,
    tEDMPrecondSuperRes,
)
from physicsnemo.utils.diffusion import (
    StackedRandomGenerator,
    deterministic_sampler,
    stochastic_sampler,
)
from physicsnemo.utils.patching import GridPatching2D

SONG = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": []}
DHARIWAL = SONG | {"model_channels": 64}
WITH_LEAD_TIMES = {"lead_time_channels": 2, "lead_time_steps": 3}

UNCONDITIONAL = {
    "VPPrecond": lambda: VPPrecond(16, 2, **SONG),
    "VEPrecond": lambda: VEPrecond(16, 2, **SONG),
    "iDDPMPrecond": lambda: iDDPMPrecond(16, 2, **DHARIWAL),
    "EDMPrecond": lambda: EDMPrecond(16, 2, model_type="SongUNet", **SONG),
}
PATCHING = GridPatching2D((16, 16), (8, 8))


def super_resolution(model_type, extra=0, precond=EDMPrecondSuperResolution, **options):
    return precond(
        16,
        # Noisy patches see the patch of the image, and all of it.
        img_in_channels=2 * 3 + extra,
        img_out_channels=2,
        model_type=model_type,
        **SONG,
        **options,
    )


PATCHED = {
    "SongUNet": lambda: super_resolution("SongUNet"),
    "heavy tails": lambda: super_resolution("SongUNet", precond=tEDMPrecondSuperRes),
    "positions": lambda: super_resolution("SongUNetPosEmbd", 4),
    "lead times": lambda: super_resolution("SongUNetPosLtEmbd", 4 + 2, **WITH_LEAD_TIMES),
    "labels": lambda: super_resolution("SongUNet", label_dim=3),
    "EDMPrecond": lambda: EDMPrecond(
        16, 2, 3, model_type="SongUNet", img_in_channels=2 + 6, img_out_channels=2, **SONG
    ),
}


def prepared(build):
    """Return a net whose output depends on all of its input, as that of a fresh one does not."""
    torch.manual_seed(0)
    net = build().double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=0.1)
    return net


def sample(sampler, net, seeds, **options):
    noise = StackedRandomGenerator("cpu", seeds)
    latents = noise.randn((len(seeds), 2, 16, 16), dtype=torch.float64)
    with torch.no_grad():
        return sampler(net, latents, num_steps=3, randn_like=noise.randn_like, **options)


@pytest.mark.parametrize("sampler", [deterministic_sampler, stochastic_sampler])
@pytest.mark.parametrize("build", UNCONDITIONAL.values(), ids=UNCONDITIONAL)
def test_every_preconditioner_is_sampled(sampler, build):
    net = prepared(build)
    samples = sample(sampler, net, [1, 2, 3], S_churn=1)
    assert samples.shape == (3, 2, 16, 16)
    assert samples.isfinite().all()
    torch.testing.assert_close(sample(sampler, net, [3], S_churn=1), samples[2:])


@pytest.mark.parametrize("name", PATCHED)
def test_samples_of_patches_do_not_depend_on_their_batch(name):
    net = prepared(PATCHED[name])
    images = StackedRandomGenerator("cpu", [0, 1]).randn((2, 3, 16, 16), dtype=torch.float64)

    def patched(chosen):
        labels = {
            "lead times": {"lead_time_label": torch.tensor([2, 0])[chosen]},
            "labels": {"class_labels": torch.eye(3)[chosen]},
            "EDMPrecond": {"class_labels": torch.eye(3)[chosen]},
        }
        options = {"patching": PATCHING, **labels.get(name, {})}
        seeds = [7 + int(i) for i in chosen]
        return sample(deterministic_sampler, net, seeds, img_lr=images[chosen], **options)

    together = patched([0, 1])
    assert together.isfinite().all()
    torch.testing.assert_close(together, torch.cat((patched([0]), patched([1]))))


def test_a_lead_time_matters():
    def build():
        return super_resolution("SongUNetPosLtEmbd", 4 + 2 - 3, **WITH_LEAD_TIMES)

    net, images = prepared(build), torch.zeros(2, 3, 16, 16, dtype=torch.float64)

    def with_lead_times(*steps):
        label = torch.tensor(steps)
        return sample(deterministic_sampler, net, [1, 2], img_lr=images, lead_time_label=label)

    first, second = with_lead_times(0, 1), with_lead_times(0, 2)
    torch.testing.assert_close(first[0], second[0])
    assert (first[1] - second[1]).abs().max() > 1e-3
