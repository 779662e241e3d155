# SPDX-License-Identifier: Apache-2.0
"""SFNO that starts from the weights of one with other channels, truncation or grid."""

import pytest
import torch

from physicsnemo.models.sfno import SFNO
from physicsnemo.models.sfno._sht import InverseRealSHT, SphericalGrid
from physicsnemo.utils import adapt

SMALL = {"inp_chans": 3, "out_chans": 2, "embed_dim": 6, "num_layers": 2, "scale_factor": 1}
GRIDS = {"inp_shape": [17, 32], "out_shape": [17, 32]}
FINE = {"inp_shape": [33, 64], "out_shape": [33, 64]}


def sfno(**arguments):
    return SFNO(**(SMALL | GRIDS | {"max_modes": [6, 6]} | arguments)).double()


def draw(*shape):
    return torch.randn(shape, dtype=torch.float64)


def on_grid(coefficients, nlat, nlon):
    """Return the field of spherical harmonic coefficients."""
    _, degrees, orders, _ = coefficients.shape
    isht = InverseRealSHT(SphericalGrid(nlat, nlon, "equiangular"), degrees, orders).double()
    return isht(coefficients)[None]


@pytest.mark.parametrize("operator_type", ["dhconv", "diagonal"])
def test_added_fields_channels_and_modes_leave_the_function(operator_type):
    # On one grid all along, nothing but the filters is truncated.
    grid = {"model_grid_type": "legendre-gauss", "sht_grid_type": "legendre-gauss"}
    model = sfno(operator_type=operator_type, pos_embed="frequency", **grid)
    x, more = draw(2, 3, 17, 32), draw(2, 2, 17, 32)
    wider = adapt(model, inp_chans=5, out_chans=3, embed_dim=9, max_modes=[8, 8]).model
    found = wider(torch.cat((x, more), dim=1))
    torch.testing.assert_close(found[:, :2], model(x), rtol=0, atol=1e-10)
    back = adapt(wider, inp_chans=3, out_chans=2, embed_dim=6, max_modes=[6, 6]).model
    assert torch.equal(back(x), model(x))


@pytest.mark.parametrize("pos_embed", ["none", "frequency"])
def test_another_resolution_is_the_same_function(pos_embed):
    # With a linear activation all fields are band-limited, which both grids resolve exactly.
    model = sfno(activation_function="identity", pos_embed=pos_embed)
    coefficients = draw(3, 6, 6, 2)
    fine = adapt(model, **FINE)
    assert {it.how for it in fine.tensors} == {"copied"}
    coarse = model(on_grid(coefficients, 17, 32))
    found = fine.model(on_grid(coefficients, 33, 64))[..., ::2, ::2]
    torch.testing.assert_close(found, coarse, rtol=0, atol=1e-8)


def test_fields_of_positions_are_interpolated():
    model = sfno(pos_embed="direct")
    colatitude = torch.linspace(0, 1, 17, dtype=torch.float64)[:, None].expand(17, 32)
    longitude = torch.arange(32, dtype=torch.float64).expand(17, 32)
    with torch.no_grad():
        model.pos_embed.field[0], model.pos_embed.field[1] = colatitude, longitude
    adapted = adapt(model, **FINE)
    assert [it.name for it in adapted.tensors if it.how == "adapted"] == ["pos_embed.field"]
    found = adapted.model.pos_embed.field.detach()
    wanted = torch.linspace(0, 1, 33, dtype=torch.float64)[:, None].expand(33, 64)
    torch.testing.assert_close(found[0], wanted, rtol=0, atol=1e-12)
    places = torch.arange(64, dtype=torch.float64) / 2
    places[-1] = 15.5  # halfway between the last longitude and the first
    torch.testing.assert_close(found[1], places.expand(33, 64), rtol=0, atol=1e-12)
    assert torch.equal(found[:, ::2, ::2], model.pos_embed.field)


def test_gaussian_latitudes_interpolate_what_is_linear():
    grid = {"model_grid_type": "legendre-gauss", "pos_embed": "direct"}
    model = sfno(**grid)
    nodes = [SphericalGrid(n, 32, "legendre-gauss").nodes().arccos() for n in (17, 24)]
    with torch.no_grad():
        model.pos_embed.field[0] = nodes[0][:, None]
    found = adapt(model, inp_shape=[24, 32], out_shape=[24, 32]).model.pos_embed.field[0, :, 5]
    wanted = nodes[1].clamp(nodes[0].min(), nodes[0].max())  # beyond the last one it is constant
    torch.testing.assert_close(found.detach(), wanted, rtol=0, atol=1e-12)


def test_blocks_correspond_by_number():
    model = sfno()
    deeper = adapt(model, num_layers=3)
    assert all(it.name.startswith("blocks.2.") for it in deeper.tensors if it.how == "fresh")
    x = draw(1, 3, 17, 32)
    assert torch.equal(adapt(deeper.model, num_layers=2).model(x), model(x))
