# SPDX-License-Identifier: Apache-2.0
"""Sampling never asks the device for a number, nor hands it one that was made on the host.

Either would end the recording of a CUDA graph. On the meta device, where there are no numbers,
asking for one is an error; what comes from the host is looked for.
"""

import pytest
import torch

from physicsnemo.models.diffusion import (
    EDMPrecond,
    EDMPrecondSuperResolution,
    VEPrecond,
    VPPrecond,
)
from physicsnemo.utils.diffusion import deterministic_sampler, stochastic_sampler
from physicsnemo.utils.patching import GridPatching2D

SONG = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [8]}
LEAD_TIMES = {"lead_time_channels": 2, "lead_time_steps": 3}
SUPER = {"img_in_channels": 2 * 3 + 4, "img_out_channels": 2}
NETS = {
    "VPPrecond": lambda: VPPrecond(16, 2, **SONG),
    "VEPrecond": lambda: VEPrecond(16, 2, **SONG),
    "EDMPrecond": lambda: EDMPrecond(16, 2, model_type="SongUNet", **SONG),
}
PATCHED = {
    "positions": lambda: EDMPrecondSuperResolution(
        16, model_type="SongUNetPosEmbd", **SUPER, **SONG
    ),
    "lead times": lambda: EDMPrecondSuperResolution(
        16,
        model_type="SongUNetPosLtEmbd",
        **SUPER | {"img_in_channels": 2 * 3 + 4 + 2},
        **SONG,
        **LEAD_TIMES,
    ),
}
SAMPLERS = (deterministic_sampler, stochastic_sampler)


def sample(from_the_host, sampler, net, **options):
    net, latents = net.eval().to("meta"), torch.empty(2, 2, 16, 16, device="meta")
    with torch.no_grad(), from_the_host as watch:
        samples = sampler(net, latents, num_steps=3, S_churn=1, sigma_max=80, **options)
    assert samples.shape == latents.shape
    return watch.found


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", NETS)
def test_of_whole_images(from_the_host, sampler, name):
    assert sample(from_the_host, sampler, NETS[name]()) == []


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", PATCHED)
def test_of_patches(from_the_host, sampler, name):
    images = torch.empty(2, 3, 16, 16, device="meta")
    label = torch.zeros(2, dtype=torch.int64, device="meta")
    labels = {"lead_time_label": label} if name == "lead times" else {}
    patching = GridPatching2D((16, 16), (8, 8), overlap_pix=2, boundary_pix=1)
    options = {"img_lr": images, "patching": patching, **labels}
    assert sample(from_the_host, sampler, PATCHED[name](), **options) == []


def test_what_waits_is_found(from_the_host):
    def asks(x, sigma):
        return x * float(sigma)

    def hands_over(x, sigma):
        return x * torch.tensor(2.0, device=x.device) + torch.tensor([1.0]).to(x.device)

    class Net(torch.nn.Module):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def forward(self, x, sigma):
            return self.function(x, sigma)

    with pytest.raises(RuntimeError, match="meta tensors"):
        sample(from_the_host, deterministic_sampler, Net(asks))
    found = sample(from_the_host, deterministic_sampler, Net(hands_over))
    assert set(found) == {"tensor", "to"}
