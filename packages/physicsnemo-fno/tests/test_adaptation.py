# SPDX-License-Identifier: Apache-2.0
"""FNO and AFNO that start from the weights of one with other channels, modes, grid or depth."""

import pytest
import torch

from physicsnemo.models.afno import AFNO, ModAFNO
from physicsnemo.models.fno import FNO
from physicsnemo.models.fno._spectral import CORNERS
from physicsnemo.utils import adapt

FIELDS = {"in_channels": 3, "out_channels": 2}
SMALL = FIELDS | {"latent_channels": 8, "num_fno_layers": 2, "num_fno_modes": 4, "padding": 0}
PATCHES = FIELDS | {"inp_shape": [16, 24], "patch_size": [4, 4], "embed_dim": 12, "num_blocks": 3}


def fno(**arguments):
    return FNO(**(SMALL | arguments)).double()


def afno(**arguments):
    return AFNO(**(PATCHES | {"depth": 2} | arguments)).double()


def draw(*shape):
    return torch.randn(shape, dtype=torch.float64)


def wave(points, dimension):
    """Return three channels of a smooth periodic field, at as many points along each axis."""
    axes = [2 * torch.pi * torch.arange(points, dtype=torch.float64) / points] * dimension
    places = torch.meshgrid(*axes, indexing="ij")
    total = sum((axis + 1) * place for axis, place in enumerate(places))
    return torch.stack([total.sin(), total.cos(), places[0].cos()])[None]


@pytest.mark.parametrize("coord_features", [True, False])
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_added_fields_are_not_read_at_first(dimension, coord_features):
    model = fno(dimension=dimension, coord_features=coord_features)
    grid = [8] * dimension
    x, more = draw(2, 3, *grid), draw(2, 2, *grid)
    wider = adapt(model, in_channels=5, out_channels=4).model
    found = wider(torch.cat((x, more), dim=1))
    torch.testing.assert_close(found[:, :2], model(x), rtol=0, atol=1e-12)


def test_coordinates_may_be_added_and_left_out():
    model, x = fno(coord_features=False), draw(2, 3, 8, 8)
    with_them = adapt(model, coord_features=True).model
    torch.testing.assert_close(with_them(x), model(x), rtol=0, atol=1e-12)
    back = adapt(with_them, coord_features=False).model
    assert torch.equal(back(x), model(x))


def test_more_latent_channels_leave_the_function():
    model, x = fno(decoder_layers=2), draw(2, 3, 8, 8)
    wider = adapt(model, latent_channels=12, decoder_layer_size=40).model
    torch.testing.assert_close(wider(x), model(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_more_modes_leave_the_function_and_fewer_cut_it(dimension):
    model = fno(dimension=dimension, latent_channels=4)
    x = draw(1, 3, *[16] * dimension)
    more = adapt(model, num_fno_modes=6).model
    torch.testing.assert_close(more(x), model(x), rtol=0, atol=1e-12)
    back = adapt(more, num_fno_modes=4).model
    assert torch.equal(back(x), model(x))
    # The frequencies that are left are 0 and 1, and below zero -2 and -1, the last two.
    fewer = adapt(model, num_fno_modes=2).model
    with torch.no_grad():
        for layer in model.spec_encoder.spconv_layers:
            for signs, weight in zip(CORNERS[dimension], layer.parameters(), strict=True):
                for axis, sign in enumerate(f"{signs}+"):
                    dropped = slice(None, 2) if sign == "-" else slice(2, None)
                    weight.movedim(axis + 2, 0)[dropped] = 0
    torch.testing.assert_close(fewer(x), model(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dimension", [1, 2])
def test_another_resolution_is_the_same_function(dimension):
    # With a linear activation nothing is aliased, so that only the grid differs.
    model = fno(dimension=dimension, activation_fn="identity", coord_features=False)
    finer = adapt(model, out_channels=2).model
    coarse, fine = model(wave(16, dimension)), finer(wave(32, dimension))
    every_second = fine[(..., *[slice(None, None, 2)] * dimension)]
    torch.testing.assert_close(every_second, coarse, rtol=0, atol=1e-12)


def test_layers_correspond_by_number():
    model = fno()
    deeper = adapt(model, num_fno_layers=3)
    fresh = [it.name for it in deeper.tensors if it.how == "fresh"]
    assert fresh == [
        "spec_encoder.spconv_layers.2.weights1",
        "spec_encoder.spconv_layers.2.weights2",
        "spec_encoder.conv_layers.2.weight",
        "spec_encoder.conv_layers.2.bias",
    ]
    x = draw(1, 3, 8, 8)
    assert torch.equal(adapt(deeper.model, num_fno_layers=2).model(x), model(x))


@pytest.mark.parametrize("model_class", [AFNO, ModAFNO])
def test_fields_of_afno(model_class):
    model = model_class(**PATCHES, depth=2).double()
    others = () if model_class is AFNO else (draw(2, 1),)
    wider = adapt(model, in_channels=5, out_channels=4).model
    x, more = draw(2, 3, 16, 24), draw(2, 2, 16, 24)
    found = wider(torch.cat((x, more), dim=1), *others)
    torch.testing.assert_close(found[:, :2], model(x, *others), rtol=0, atol=1e-12)
    back = adapt(wider, in_channels=3, out_channels=2).model
    assert torch.equal(back(x, *others), model(x, *others))


def test_positions_of_afno_are_interpolated():
    model = afno()
    rows = (torch.arange(4, dtype=torch.float64) + 0.5) / 4
    columns = (torch.arange(6, dtype=torch.float64) + 0.5) / 6
    with torch.no_grad():
        model.pos_embed[..., 0] = rows.repeat_interleave(6)
        model.pos_embed[..., 1] = columns.repeat(4)
        model.pos_embed[..., 2] = 7
    finer = adapt(model, inp_shape=[32, 48]).model
    found = finer.pos_embed.detach().unflatten(1, (8, 12))[0]
    torch.testing.assert_close(found[..., 2], torch.full((8, 12), 7.0, dtype=torch.float64))
    inner = (torch.arange(8, dtype=torch.float64) + 0.5) / 8
    torch.testing.assert_close(found[3:5, 5, 0], inner[3:5], rtol=0, atol=1e-12)
    inner = (torch.arange(12, dtype=torch.float64) + 0.5) / 12
    torch.testing.assert_close(found[4, 3:9, 1], inner[3:9], rtol=0, atol=1e-12)
    assert {it.name for it in adapt(model, inp_shape=[32, 48]).tensors if it.how != "copied"} == {
        "pos_embed"
    }


def test_blocks_of_channels_are_carried_over_as_wholes():
    model = afno()
    same_size = adapt(model, embed_dim=16, num_blocks=4).model
    old, new = model.blocks[0].filter, same_size.blocks[0].filter
    assert torch.equal(new.w1[:, :3], old.w1)
    assert torch.equal(new.b2[:, :3], old.b2)
    larger = adapt(model, embed_dim=24, num_blocks=3)
    found = {it.name: it.how for it in larger.tensors}
    assert found["blocks.0.filter.w1"] == found["blocks.1.filter.b1"] == "fresh"
    assert found["blocks.0.mlp.fc1.weight"] == "adapted"


def test_patches_of_another_size_are_fresh():
    found = {it.name: it.how for it in adapt(afno(), patch_size=[8, 8]).tensors}
    fresh = {it for it, how in found.items() if how == "fresh"}
    assert fresh == {"patch_embed.proj.weight", "head.weight"}
    assert found["pos_embed"] == "adapted"
