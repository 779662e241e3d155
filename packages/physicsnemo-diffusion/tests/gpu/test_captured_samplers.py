# SPDX-License-Identifier: Apache-2.0
"""A whole sampler replayed as one CUDA graph gives the samples of the same loop in eager mode."""

import pytest
import torch

from physicsnemo.models.diffusion import EDMPrecond, EDMPrecondSuperResolution, iDDPMPrecond
from physicsnemo.utils import StaticCaptureEvaluateNoGrad
from physicsnemo.utils.diffusion import (
    StackedRandomGenerator,
    deterministic_sampler,
    stochastic_sampler,
)
from physicsnemo.utils.patching import GridPatching2D

pytestmark = pytest.mark.gpu

SONG = {"model_channels": 16, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [8]}
SAMPLERS = {"deterministic": deterministic_sampler, "stochastic": stochastic_sampler}
OPTIONS = {"num_steps": 4, "sigma_max": 80, "S_churn": 2}
NETS = {
    "EDMPrecond": lambda: EDMPrecond(16, 2, model_type="SongUNet", **SONG),
    "iDDPMPrecond": lambda: iDDPMPrecond(16, 2, **SONG | {"model_channels": 64}),
}
CALLS, WARMUP = 8, 2


@pytest.fixture(autouse=True)
def _deterministic_convolutions(monkeypatch):
    """Else two eager runs differ as well."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


def prepared(build, device):
    """Return a net whose output depends on all of its input, as that of a fresh one does not."""
    torch.manual_seed(0)
    net = build().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=0.1)
    return net.to(device)


def capture(net):
    return StaticCaptureEvaluateNoGrad(net, use_amp=False, cuda_graph_warmup=WARMUP)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_with_a_generator_for_each_sample(gpu, sampler, name):
    """The batches are drawn with new generators each, which end where eager ones end."""
    net = prepared(NETS[name], gpu)

    def sample(latents, noise):
        return sampler(net, latents, randn_like=noise.randn_like, **OPTIONS)

    captured = capture(net)(sample)
    for batch in range(CALLS):
        mine, other = (StackedRandomGenerator(gpu, [batch, batch + 9]) for _ in range(2))
        latents = mine.randn((2, 2, 16, 16))
        assert torch.equal(latents, other.randn((2, 2, 16, 16)))
        with torch.no_grad():
            expected = sample(latents, other)
        torch.testing.assert_close(captured(latents, mine), expected, rtol=1e-4, atol=1e-4)
        for one, two in zip(mine.generators, other.generators, strict=True):
            assert torch.equal(one.get_state(), two.get_state())
    # iDDPMPrecond keeps a copy of its levels from the first call on, which begins anew.
    assert captured.replays() >= CALLS - WARMUP - 1


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_with_the_generator_of_the_device(gpu, sampler):
    net = prepared(NETS["EDMPrecond"], gpu)
    latents = torch.randn(2, 2, 16, 16, device=gpu)

    def sample(latents):
        return sampler(net, latents, **OPTIONS)

    captured = capture(net)(sample)
    for seed in range(CALLS):
        torch.manual_seed(seed)
        with torch.no_grad():
            expected, after = sample(latents), torch.cuda.get_rng_state()
        torch.manual_seed(seed)
        torch.testing.assert_close(captured(latents), expected, rtol=1e-4, atol=1e-4)
        assert torch.equal(torch.cuda.get_rng_state(), after)
    assert captured.replays() == CALLS - WARMUP


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("lead_times", [False, True], ids=["positions", "lead times"])
def test_by_patches(gpu, sampler, lead_times):
    options = {"lead_time_channels": 2, "lead_time_steps": 3} if lead_times else {}
    net = prepared(
        lambda: EDMPrecondSuperResolution(
            32,
            model_type="SongUNetPosLtEmbd" if lead_times else "SongUNetPosEmbd",
            img_in_channels=2 * 3 + 4 + 2 * lead_times,
            img_out_channels=2,
            **SONG,
            **options,
        ),
        gpu,
    )
    patching = GridPatching2D((32, 32), (16, 16), overlap_pix=2, boundary_pix=1)

    def sample(latents, images, noise, label):
        given = {"img_lr": images, "patching": patching, "randn_like": noise.randn_like}
        label = {"lead_time_label": label} if lead_times else {}
        return sampler(net, latents, **given, **label, **OPTIONS)

    captured = capture(net)(sample)
    for batch in range(CALLS):
        mine, other = (StackedRandomGenerator(gpu, [batch, 5]) for _ in range(2))
        images = torch.randn(2, 3, 32, 32, device=gpu)
        label = torch.tensor([batch % 3, 1], device=gpu)
        latents = mine.randn((2, 2, 32, 32))
        other.randn((2, 2, 32, 32))
        with torch.no_grad():
            expected = sample(latents, images, other, label)
        got = captured(latents, images, mine, label)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert captured.replays() == CALLS - WARMUP
