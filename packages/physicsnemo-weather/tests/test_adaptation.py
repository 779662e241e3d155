# SPDX-License-Identifier: Apache-2.0
"""Weather models that start from the weights of one with another grid or other channels."""

import pytest
import torch

from physicsnemo.models.fengwu import Fengwu
from physicsnemo.models.pangu import Pangu
from physicsnemo.utils import adapt

SMALL = {
    "img_size": [16, 24],
    "patch_size": [2, 2, 2],
    "embed_dim": 4,
    "num_heads": [1, 2, 2, 1],
    "window_size": [2, 2, 2],
}
COMPUTED = ("attn_mask", "earth_position_index")


def pangu(**arguments):
    return Pangu(**(SMALL | arguments)).double().eval()


def fields(*size, channels=72):
    return torch.randn(1, channels, *size, dtype=torch.float64)


def test_an_unchanged_model_is_a_copy():
    model, x = pangu(), fields(16, 24)
    for found, wanted in zip(adapt(model).model(x), model(x), strict=True):
        assert torch.equal(found, wanted)


def test_another_grid_interpolates_the_bias_in_latitude_alone():
    model = pangu()
    tables = {it: p for it, p in model.named_parameters() if it.endswith("bias_table")}
    with torch.no_grad():
        for table in tables.values():  # linear in latitude, and of the level
            _, types, _ = table.shape
            levels, rows = torch.arange(types // (types // 4)), torch.arange(types // 4)
            values = 10.0 * levels[:, None] + (rows + 0.5) / (types // 4)
            table[:] = values.flatten()[:, None]
    larger = adapt(model, img_size=[32, 48])
    adapted = {it.name for it in larger.tensors if it.how == "adapted"}
    assert adapted == set(tables)
    assert all(it.name.endswith(COMPUTED) for it in larger.tensors if it.how == "computed")
    found = larger.model.layer1.blocks[0].attn.earth_position_bias_table[0, :, 0].detach()
    rows = torch.arange(8, dtype=torch.float64)
    wanted = 10.0 * torch.arange(4)[:, None] + ((rows + 0.5) / 8).clamp(1 / 8, 7 / 8)
    torch.testing.assert_close(found, wanted.flatten(), rtol=0, atol=1e-12)


def test_a_bias_of_levels_alone_makes_one_function_of_any_grid():
    # Points that are equal but for their level count alike, also where the poles mask others.
    model = pangu()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias_table"):
                pairs = parameter.unflatten(0, (2, 2, 2, 2, 3))  # of levels, latitudes; longitudes
                pairs[:] = pairs[:, :, :1, :1, :1, :1].clone()
    state = torch.randn(1, 72, 1, 1, dtype=torch.float64)
    coarse = model(state.expand(1, 72, 16, 24))[0][..., 6:10, 6:10]
    larger = adapt(model, img_size=[32, 48]).model
    fine = larger(state.expand(1, 72, 32, 48))[0][..., 14:18, 6:10]
    torch.testing.assert_close(fine, coarse, rtol=0, atol=1e-10)


def test_more_channels_keep_whole_heads_and_parts():
    model = pangu(embed_dim=4, num_heads=[2, 4, 4, 2])
    wider = adapt(model, embed_dim=8, num_heads=[4, 8, 8, 4])
    assert not [it.name for it in wider.tensors if it.how == "fresh"]
    old, new = (it.layer2.blocks[0].attn for it in (model, wider.model))
    assert torch.equal(
        new.qkv.weight.unflatten(0, (3, 8, 2))[:, :4, :, :8], old.qkv.weight.unflatten(0, (3, 4, 2))
    )
    assert torch.equal(
        new.qkv.weight.unflatten(0, (3, 8, 2))[:, :4, :, 8:], torch.zeros(3, 4, 2, 8)
    )
    old, new = model.downsample, wider.model.downsample
    assert torch.equal(
        new.linear.weight.unflatten(1, (4, 8))[:8, :, :4], old.linear.weight.unflatten(1, (4, 4))
    )
    old, new = model.patchrecovery2d.conv, wider.model.patchrecovery2d.conv
    assert torch.equal(new.weight.unflatten(0, (2, 8))[:, :4], old.weight.unflatten(0, (2, 4)))
    assert torch.equal(new.bias, old.bias)
    x = fields(16, 24)
    back = adapt(wider.model, embed_dim=4, num_heads=[2, 4, 4, 2]).model
    for found, wanted in zip(back(x), model(x), strict=True):
        assert torch.equal(found, wanted)


def test_windows_of_another_size_have_a_fresh_bias():
    found = {it.name: it.how for it in adapt(pangu(), window_size=[2, 4, 2]).tensors}
    fresh = {it for it, how in found.items() if how == "fresh"}
    assert fresh
    assert all(it.endswith("bias_table") for it in fresh)


@pytest.mark.parametrize("img_size", [[16, 32], [32, 32]])
def test_fengwu_on_another_grid(img_size):
    arguments = {"img_size": [16, 16], "pressure_level": 2, "embed_dim": 4, "patch_size": [2, 2]}
    model = Fengwu(**arguments, num_heads=[1, 2, 2, 1], window_size=[2, 2, 2]).double().eval()
    larger = adapt(model, img_size=img_size)
    assert {it.how for it in larger.tensors} <= {"copied", "computed", "adapted"}
    adapted = [it.name for it in larger.tensors if it.how == "adapted"]
    assert all(it.endswith("bias_table") for it in adapted)
    assert bool(adapted) == (img_size[0] != 16)
