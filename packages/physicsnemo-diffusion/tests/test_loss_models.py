# SPDX-License-Identifier: Apache-2.0
"""The losses with the preconditioners and networks of this package, on images and patches."""

import pytest
import torch

from physicsnemo.metrics.diffusion import EDMLoss, RegressionLoss, ResidualLoss, VELoss, VPLoss
from physicsnemo.models.diffusion import (
    EDMPrecond,
    EDMPrecondSuperResolution,
    UNet,
    VEPrecond,
    VPPrecond,
)
from physicsnemo.utils.patching import GridPatching2D, RandomPatching2D

SONG = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": []}
LEAD_TIMES = {"lead_time_channels": 2, "lead_time_steps": 3}
PATCHINGS = [None, GridPatching2D((16, 16), (8, 8), 2), RandomPatching2D((16, 16), (8, 8), 3)]

each_patching = pytest.mark.parametrize(
    "patching", PATCHINGS, ids=lambda it: type(it).__name__ if it else "whole"
)


def downscaling(model_type, patching, cls=EDMPrecondSuperResolution, extra=0, **options):
    """Return a net of images of 2 channels, given others of 3."""
    torch.manual_seed(0)
    channels = (3 if patching is None else 6) + extra  # patches also see all of the condition
    return cls(
        16, img_in_channels=channels, img_out_channels=2, model_type=model_type, **SONG, **options
    )


def trained(net):
    """Move the weights away from where they start, at which outputs hardly depend on inputs."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=0.1)
    return net


@pytest.mark.parametrize("loss", [VPLoss(), VELoss(), EDMLoss()], ids=lambda it: type(it).__name__)
@pytest.mark.parametrize("precond", [VPPrecond, VEPrecond, EDMPrecond], ids=lambda it: it.__name__)
def test_unconditional(precond, loss):
    torch.manual_seed(0)
    net = precond(16, 2, model_type="SongUNet", label_dim=3, **SONG)
    loss(net, torch.randn(2, 2, 16, 16), class_labels=torch.eye(3)[:2]).backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


def test_fresh_edm_network_has_unit_loss():
    net = EDMPrecond(16, 2, model_type="SongUNet", sigma_data=0.5, **SONG)
    torch.manual_seed(0)
    with torch.no_grad():
        losses = torch.stack([EDMLoss()(net, 0.5 * torch.randn(8, 2, 16, 16)) for _ in range(20)])
    assert abs(losses.mean() - 1) < 4 * losses.std() / 20**0.5


@each_patching
@pytest.mark.parametrize(
    ("model_type", "extra", "options"),
    [
        ("SongUNet", 0, {}),
        ("SongUNetPosEmbd", 4, {"N_grid_channels": 4}),
        ("SongUNetPosLtEmbd", 4 + 2, LEAD_TIMES),
    ],
)
def test_corrdiff(model_type, extra, options, patching):
    regression = downscaling(model_type, patching, UNet, extra, **options)
    denoiser = downscaling(model_type, patching, extra=extra, **options)
    images, condition = torch.randn(3, 2, 16, 16), torch.randn(3, 3, 16, 16)
    labels = {"lead_time_label": torch.tensor([2, 0, 1])} if "Lt" in model_type else {}
    options = {"patching": patching, **labels}
    RegressionLoss()(regression, images, condition, **options).backward()
    whole = downscaling(model_type, None, UNet, extra, **(LEAD_TIMES if labels else {})).eval()
    ResidualLoss(whole)(denoiser, images, condition, **options).backward()
    for net in (regression, denoiser):
        assert all(parameter.grad.isfinite().all() for parameter in net.parameters())
    assert all(parameter.grad is None for parameter in whole.parameters())


@each_patching
def test_each_patch_has_the_place_and_the_lead_time_of_its_own(patching):
    net = trained(downscaling("SongUNetPosLtEmbd", patching, extra=6, dropout=0, **LEAD_TIMES))
    images, condition = torch.randn(3, 2, 16, 16), torch.randn(3, 3, 16, 16)
    labels = {"lead_time_label": torch.tensor([2, 0, 1])}

    def by_index(x, img_lr, sigma, lead_time_label):
        index = None if patching is None else patching.global_index()
        return net(x, img_lr, sigma, lead_time_label=lead_time_label, global_index=index)

    def of(form, condition=condition, **labels):
        torch.manual_seed(0)
        return EDMLoss()(form, images, condition, patching=patching, **labels)

    torch.testing.assert_close(of(net, **labels), of(by_index, **labels))
    assert of(net, **labels) != of(net, lead_time_label=torch.tensor([0, 0, 1]))
    assert of(net, **labels) != of(net, condition.flip(0), **labels)


def test_autocast_of_a_network():
    net = trained(downscaling("SongUNet", None, dropout=0))
    images, condition = torch.randn(2, 2, 16, 16), torch.randn(2, 3, 16, 16)

    def of():
        torch.manual_seed(0)
        return EDMLoss()(net, images, condition)

    with torch.autocast("cpu", torch.bfloat16):
        half = of()
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, of(), rtol=0.05, atol=0)


def test_compiles_without_graph_breaks():
    patching = PATCHINGS[1]
    net = trained(downscaling("SongUNetPosEmbd", patching, extra=4, dropout=0))
    regression = trained(downscaling("SongUNet", None, UNet)).eval()
    loss = ResidualLoss(regression)
    images, condition = torch.randn(2, 2, 16, 16), torch.randn(2, 3, 16, 16)

    def step(images, condition):
        return loss(net, images, condition, patching=patching)

    torch.compiler.reset()
    compiled = torch.compile(step, fullgraph=True, backend="eager")
    torch.manual_seed(0)
    expected = step(images, condition)
    torch.manual_seed(0)
    torch.testing.assert_close(compiled(images, condition), expected)
