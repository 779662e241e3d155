# SPDX-License-Identifier: Apache-2.0
"""Networks as functions: derivatives of both modes, vectors of inputs, no inputs at all."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from physicsnemo.models.diffusion import (
    DhariwalUNet,
    SongUNet,
    SongUNetPosEmbd,
    SongUNetPosLtEmbd,
    VEPrecond_dfsr_cond,
)
from physicsnemo.utils.diffusion import deterministic_sampler, stochastic_sampler
from physicsnemo.utils.patching import GridPatching2D

SMALL = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4]}
TIMES = {"lead_time_channels": 1, "lead_time_steps": 3, "prob_channels": [0, 1]}
NETWORKS = {
    "song": lambda **options: SongUNet(8, 2, 2, **SMALL, **options),
    "positions": lambda **options: SongUNetPosEmbd(8, 6, 2, **SMALL, **options),
    "heads": lambda **options: DhariwalUNet(
        8, 2, 2, **SMALL | {"model_channels": 32, "channel_mult": [1, 4]}, **options
    ),
}
each_network = pytest.mark.parametrize("name", NETWORKS)
NOISE = torch.tensor([0.3], dtype=torch.float64)


def awake(name, **options):
    """Return a network in float64 of which no layer is near zero, as a function of images."""
    torch.manual_seed(0)
    model = NETWORKS[name](**options).double().eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return lambda x: model(x, NOISE)


def draw(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@each_network
@pytest.mark.parametrize("numerics", ["paper", "reference-1.2"])
def test_forward_mode_agrees_with_reverse_mode(name, numerics):
    function, x, along = awake(name, numerics=numerics), draw(1, 2, 8, 8), draw(1, 2, 8, 8) / 8
    value, slope = torch.func.jvp(function, (x,), (along,))
    torch.testing.assert_close(value, function(x))
    weights = torch.cos(torch.arange(128.0).double()).view(1, 2, 8, 8)
    point = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((weights * function(point)).sum(), point)
    torch.testing.assert_close((weights * slope).sum(), (gradient * along).sum())


@each_network
def test_vmap(name):
    function, x = awake(name), draw(3, 1, 2, 8, 8)
    expected = torch.stack([function(image) for image in x])
    torch.testing.assert_close(torch.func.vmap(function)(x), expected)


@each_network
def test_second_derivatives_where_attention_has_them(name):
    """PyTorch's fused kernels have none; its own switch chooses those that do."""
    function, x, along = awake(name), draw(1, 2, 8, 8), draw(1, 2, 8, 8) / 8

    def slope(point):
        point = point.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(function(point).square().sum(), point, create_graph=True)
        return (gradient * along).sum(), point

    with sdpa_kernel(SDPBackend.MATH):
        value, point = slope(x)
        (second,) = torch.autograd.grad(value, point)
        step = 1e-5 * along
        difference = (slope(x + step)[0] - slope(x - step)[0]) / 2e-5
    torch.testing.assert_close((second * along).sum(), difference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("numerics", ["paper", "reference-1.2", "reference-2.2"])
def test_an_empty_batch_gives_an_empty_batch(numerics):
    empty = torch.zeros(0, 2, 8, 8)
    for make in NETWORKS.values():
        model = make(numerics=numerics)
        for mode in (True, False):
            assert model.train(mode)(empty, torch.zeros(0)).shape == empty.shape
    index = torch.zeros(3, 2, 4, 4, dtype=torch.long)
    timed = SongUNetPosLtEmbd(8, 7, 2, **SMALL, **TIMES, numerics=numerics)
    no_label = torch.zeros(0, dtype=torch.long)
    output = timed(torch.zeros(0, 2, 4, 4), torch.zeros(0), None, no_label, index)
    assert output.shape == (0, 2, 4, 4)
    flow = VEPrecond_dfsr_cond(8, 3, **SMALL, numerics=numerics)
    assert flow(torch.zeros(0, 3, 8, 8), 5.0).shape == (0, 3, 8, 8)


@pytest.mark.parametrize("sampler", [deterministic_sampler, stochastic_sampler])
@pytest.mark.parametrize("patching", [None, GridPatching2D((8, 8), (4, 4))])
def test_samples_of_an_empty_batch(sampler, patching):
    samples = sampler(
        lambda x, sigma: x / (1 + sigma), torch.zeros(0, 1, 8, 8), num_steps=2, patching=patching
    )
    assert samples.shape == (0, 1, 8, 8)
