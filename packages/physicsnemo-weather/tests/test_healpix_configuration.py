# SPDX-License-Identifier: Apache-2.0
"""Configurations name layers, by any of their paths, and nothing else."""

import types

import pytest
import torch
from torch import nn

from physicsnemo import Module
from physicsnemo.models import dlwp_healpix_layers
from physicsnemo.models.dlwp_healpix import HEALPixUNet
from physicsnemo.models.dlwp_healpix_layers import AvgPool, ConvNeXtBlock, UNetEncoder
from physicsnemo.models.dlwp_healpix_layers._configuration import activation_of, build, plain
from physicsnemo.nn import CappedGELU

BLOCK = {"_target_": "physicsnemo.models.dlwp_healpix_layers.ConvNeXtBlock"}
POOL = {"_target_": "physicsnemo.models.dlwp_healpix_layers.AvgPool"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("physicsnemo.models.dlwp_healpix_layers.AvgPool", AvgPool),
        ("physicsnemo.models.dlwp_healpix_layers.healpix_blocks.AvgPool", AvgPool),
        ("physicsnemo.models.dlwp_healpix.layers.healpix_blocks.AvgPool", AvgPool),
        ("physicsnemo.nn.module.hpx.AvgPool", AvgPool),
        ("modulus.models.dlwp_healpix_layers.AvgPool", AvgPool),
        ("modulus.models.layers.activations.CappedGELU", CappedGELU),
        ("physicsnemo.models.layers.CappedGELU", CappedGELU),
        ("physicsnemo.nn.CappedGELU", CappedGELU),
        ("torch.nn.GELU", nn.GELU),
        ("torch.nn.modules.activation.GELU", nn.GELU),
    ],
)
def test_paths(path, expected):
    assert type(build({"_target_": path})) is expected


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "torch.nn.Linear",
        "torch.load",
        "AvgPool",
        "elsewhere.dlwp_healpix_layers.AvgPool",
        "physicsnemo.models.dlwp_healpix_layersX.AvgPool",
        "physicsnemo.models.dlwp_healpix_layers.torch",
    ],
)
def test_paths_of_anything_else(path):
    with pytest.raises(ValueError, match=r"no layer is known as .*there are .*AvgPool"):
        build({"_target_": path})


@pytest.mark.parametrize(
    ("configuration", "error", "message"),
    [
        ({"pooling": 2}, ValueError, "'_target_' to be the path"),
        ({"_target_": 3}, ValueError, "'_target_' to be the path"),
        ("AvgPool", TypeError, "a mapping with '_target_', got 'AvgPool'"),
        (POOL | {"size": 3}, TypeError, "unexpected keyword argument 'size'"),
        (POOL | {"_partial_": True}, TypeError, "unexpected keyword argument '_partial_'"),
    ],
)
def test_wrong_configurations(configuration, error, message):
    with pytest.raises(error, match=message):
        build(configuration)


def test_arguments_take_the_place_of_configured_ones():
    block = build(BLOCK | {"in_channels": 7, "_recursive_": True}, in_channels=2, out_channels=5)
    assert block(torch.zeros(12, 2, 2, 2)).shape == (12, 5, 2, 2)


def test_activations():
    configuration = {"_target_": "physicsnemo.nn.CappedGELU", "cap_value": 3}
    (capped,) = activation_of(configuration)
    assert capped.cap == 3
    assert activation_of(None) == []
    assert activation_of(capped) == [capped]
    assert isinstance(*activation_of("silu"), nn.SiLU)
    block = ConvNeXtBlock(activation=configuration)
    assert block.convblock[1] is block.convblock[3]


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ({"n_channels": [2, 3], "n_layers": [1]}, r"\[2, 3\], \[1\] and \[1, 1\]"),
        ({"n_channels": [2], "n_layers": [1], "dilations": [1, 2]}, r"\[1\] and \[1, 2\]"),
        ({"n_channels": [], "n_layers": []}, "one grid or more"),
    ],
)
def test_numbers_of_grids(levels, message):
    with pytest.raises(ValueError, match=message):
        UNetEncoder(BLOCK, POOL, **levels)


def arguments():
    """Return those of a small model."""
    levels = {"n_channels": [2, 3], "n_layers": [1, 1]}
    path = "physicsnemo.models.dlwp_healpix_layers."
    return {
        "encoder": {
            "_target_": path + "UNetEncoder",
            "conv_block": BLOCK,
            "down_sampling_block": POOL,
            **levels,
        },
        "decoder": {
            "_target_": path + "UNetDecoder",
            "conv_block": BLOCK,
            "up_sampling_block": {"_target_": path + "TransposedConvUpsample"},
            "output_layer": {"_target_": path + "BasicConvBlock"},
            "n_channels": [3, 2],
            "n_layers": [1, 1],
        },
        "input_channels": 1,
        "output_channels": 1,
        "n_constants": 0,
        "decoder_input_channels": 0,
        "input_time_dim": 1,
        "output_time_dim": 1,
    }


def frozen(value):
    """Return mappings that are no dictionaries, as those of configuration libraries."""
    if isinstance(value, dict):
        return types.MappingProxyType({key: frozen(item) for key, item in value.items()})
    return value


@pytest.mark.parametrize("by_name", [True, False])
def test_mappings_of_other_kinds_are_saved_as_plain_ones(tmp_path, by_name):
    given = {name: frozen(value) for name, value in arguments().items()}
    model = HEALPixUNet(**given) if by_name else HEALPixUNet(*given.values())
    model.save(tmp_path / "model.mdlus")
    twin = Module.from_checkpoint(tmp_path / "model.mdlus")
    assert twin._args == model._args
    assert twin._args["__args__"]["encoder"] == arguments()["encoder"]


def test_plain():
    assert plain({"a": frozen({"b": (1, [frozen({"c": "d"})])})}) == {"a": {"b": (1, [frozen({"c": "d"})])}}
    assert plain([frozen({"c": "d"})]) == [{"c": "d"}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder": arguments()["encoder"]}, "unexpected keyword argument 'output_channels'"),
        ({"encoder": POOL}, "unexpected keyword argument 'input_channels'"),
    ],
)
def test_halves_of_the_wrong_kind(changes, message):
    with pytest.raises(TypeError, match=message):
        HEALPixUNet(**arguments() | changes)


def test_halves_that_do_not_fit():
    decoder = arguments()["decoder"] | {"n_channels": [2, 3]}
    with pytest.raises(ValueError, match=r"\[2, 3\], in reverse order, got \[2, 3\]"):
        HEALPixUNet(**arguments() | {"decoder": decoder})


def test_every_public_layer_can_be_named():
    package = "physicsnemo.models.dlwp_healpix_layers."
    for name in dlwp_healpix_layers.__all__:
        with pytest.raises((TypeError, ValueError, KeyError)) as caught:
            build({"_target_": package + name, "no_such_argument": 1})
        assert "no layer is known" not in str(caught.value)
