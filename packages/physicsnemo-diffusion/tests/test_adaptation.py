# SPDX-License-Identifier: Apache-2.0
"""U-Nets that start from the weights of one with other channels, another resolution or depth."""

import pytest
import torch

from physicsnemo.models.diffusion import (
    DhariwalUNet,
    EDMPrecond,
    SongUNet,
    SongUNetPosEmbd,
    SongUNetPosLtEmbd,
)
from physicsnemo.utils import adapt

SMALL = {
    "img_resolution": [8, 12],
    "out_channels": 2,
    "model_channels": 16,
    "channel_mult": [1, 2],
    "num_blocks": 1,
}


def built(model_class, **arguments):
    if model_class is DhariwalUNet:
        # It names levels by the height alone, and has a head for each 64 channels.
        arguments |= {"img_resolution": 8, "model_channels": 64}
    model = model_class(**({**SMALL, "attn_resolutions": [4]} | arguments)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # many start at zero, and would hide what follows
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def draw(*shape):
    return torch.randn(shape, dtype=torch.float64)


NOISE = torch.tensor([0.3, 1.2], dtype=torch.float64)


@pytest.mark.parametrize("model_class", [SongUNet, DhariwalUNet])
def test_added_fields_are_not_read_at_first(model_class):
    model = built(model_class, in_channels=3)
    x, more = draw(2, 3, 8, 12), draw(2, 2, 8, 12)
    wider = adapt(model, in_channels=5, out_channels=3).model
    found = wider(torch.cat((x, more), dim=1), NOISE, None)
    torch.testing.assert_close(found[:, :2], model(x, NOISE, None), rtol=0, atol=1e-12)
    back = adapt(wider, in_channels=3, out_channels=2).model
    assert torch.equal(back(x, NOISE, None), model(x, NOISE, None))


@pytest.mark.parametrize("model_class", [SongUNet, DhariwalUNet])
def test_another_resolution_is_the_same_network(model_class):
    # Files name blocks by the height of their level, which is another one now.
    model = built(model_class, in_channels=3)
    resolution = 16 if model_class is DhariwalUNet else [16, 24]
    larger = adapt(model, img_resolution=resolution, attn_resolutions=[8])
    assert {it.how for it in larger.tensors} == {"copied", "computed"}
    assert "enc.16x16_conv.weight" in {it.name for it in larger.tensors}
    x = draw(2, 3, 16, 24)
    assert torch.equal(larger.model(x, NOISE, None), model(x, NOISE, None))


def test_attention_at_the_same_height_moves_a_level():
    model = built(SongUNet, in_channels=3)
    larger = adapt(model, img_resolution=[16, 24], attn_resolutions=[])
    left_out = {it.name for it in larger.tensors if it.how == "left out"}
    assert left_out
    assert all(".attn." in it for it in left_out)


def test_a_block_more():
    model = built(SongUNet, in_channels=3)
    found = {it.name: it.how for it in adapt(model, num_blocks=2).tensors}
    assert found["enc.8x8_block0.conv0.weight"] == "copied"
    assert found["enc.8x8_block1.conv0.weight"] == "fresh"


def test_hidden_channels_that_stand_side_by_side_are_fresh():
    found = {
        it.name: it.how for it in adapt(built(SongUNet, in_channels=3), model_channels=32).tensors
    }
    assert found["enc.8x8_conv.weight"] == found["enc.8x8_block0.conv0.weight"] == "adapted"
    assert found["dec.8x8_block0.conv0.weight"] == found["dec.4x4_in0.attn.qkv.weight"] == "fresh"


@pytest.mark.parametrize("model_class", [SongUNetPosEmbd, SongUNetPosLtEmbd])
def test_weights_of_the_grid_follow_those_of_fields(model_class):
    lead_times = model_class is SongUNetPosLtEmbd
    times = {"lead_time_channels": 2, "lead_time_steps": 3} if lead_times else {}
    embedded = 4 + 2 * lead_times
    model = built(model_class, in_channels=3 + embedded, gridtype="learnable", **times)
    given = {"lead_time_label": torch.tensor([0, 2])} if lead_times else {}
    x, more = draw(2, 3, 8, 12), draw(2, 2, 8, 12)
    wider = adapt(model, in_channels=5 + embedded).model
    found = wider(torch.cat((x, more), dim=1), NOISE, None, **given)
    torch.testing.assert_close(found, model(x, NOISE, None, **given), rtol=0, atol=1e-12)


def test_grids_are_interpolated_if_they_are_learned():
    for gridtype, how in (("learnable", "adapted"), ("sinusoidal", "fresh")):
        model = built(SongUNetPosEmbd, in_channels=7, gridtype=gridtype)
        if gridtype == "learnable":
            model.pos_embd.data[:] = torch.arange(4, dtype=torch.float64)[:, None, None]
        adapted = adapt(model, img_resolution=[16, 24], attn_resolutions=[8])
        assert {it.name: it.how for it in adapted.tensors}["pos_embd"] == how
        if gridtype == "learnable":
            wanted = torch.arange(4, dtype=torch.float64)[:, None, None].expand(4, 16, 24)
            torch.testing.assert_close(adapted.model.pos_embd.detach(), wanted)
        else:
            same = SongUNetPosEmbd(**SMALL | {"img_resolution": [16, 24]}, in_channels=7)
            torch.testing.assert_close(adapted.model.pos_embd, same.pos_embd.double())


def test_a_network_within_a_preconditioner():
    model = EDMPrecond([8, 12], 2, model_type="SongUNet", model_channels=8, num_blocks=1)
    model = model.double().eval()
    larger = adapt(model, img_resolution=[16, 24])
    assert {it.how for it in larger.tensors} <= {"copied", "computed", "fresh", "left out"}
    others = {it.name for it in larger.tensors if it.how in ("fresh", "left out")}
    assert all(".attn." in it for it in others)
