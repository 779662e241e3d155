# SPDX-License-Identifier: Apache-2.0
"""Configurations name layers, by any of their paths, and nothing else."""

import io
import json
import tarfile
import types
from collections import UserList

import numpy as np
import pytest
import torch
from torch import nn

from physicsnemo import Module
from physicsnemo.core.errors import CheckpointError
from physicsnemo.models import dlwp_healpix_layers
from physicsnemo.models.dlwp_healpix import HEALPixUNet
from physicsnemo.models.dlwp_healpix_layers import (
    AvgPool,
    BasicConvBlock,
    HEALPixFoldFaces,
    HEALPixLayer,
    MaxPool,
    Multi_SymmetricConvNeXtBlock,
    UNetDecoder,
    UNetEncoder,
)
from physicsnemo.models.dlwp_healpix_layers.configuration import (
    activation_of,
    build,
    serializable,
)
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
        ("physicsnemo.nn.HEALPixAvgPool", AvgPool),
        ("physicsnemo.nn.HEALPixMaxPool", MaxPool),
        ("physicsnemo.nn.HEALPixFoldFaces", HEALPixFoldFaces),
        (AvgPool, AvgPool),
        (CappedGELU, CappedGELU),
        (nn.GELU, nn.GELU),
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
        "builtins.eval",
        "physicsnemo.models.dlwp_healpix_layers.os.system",
        "torch.nn.Linear",
        "torch.load",
        "AvgPool",
        "elsewhere.dlwp_healpix_layers.AvgPool",
        "physicsnemo.models.dlwp_healpix_layersX.AvgPool",
        "physicsnemo.models.dlwp_healpix_layers.torch",
        nn.Linear,
        dict,
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
    capped = activation_of(configuration)
    assert capped.cap == 3
    assert activation_of(None) is None
    assert activation_of(capped) is capped
    assert isinstance(activation_of("silu"), nn.SiLU)


@pytest.mark.parametrize(
    "block",
    [
        "BasicConvBlock",
        "ConvNeXtBlock",
        "DoubleConvNeXtBlock",
        "SymmetricConvNeXtBlock",
        "Multi_SymmetricConvNeXtBlock",
    ],
)
def test_all_convolutions_of_a_block_share_one_activation(block):
    path = f"physicsnemo.models.dlwp_healpix_layers.{block}"
    layer = build({"_target_": path, "activation": {"_target_": "torch.nn.PReLU"}}, n_layers=2)
    assert sum(isinstance(part, nn.PReLU) for part in layer.modules()) == 1
    assert (
        sum(
            name.endswith(".weight") and weight.ndim == 1
            for name, weight in layer.state_dict().items()
        )
        > 1
    )  # under each of its places


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ({"n_channels": [2, 3], "n_layers": [1]}, r"\[2, 3\], \[1\] and \[1, 1\]"),
        ({"n_channels": [2, 3], "dilations": [1]}, r"\[2, 2, 1\] and \[1\]"),
        ({"n_channels": [], "n_layers": []}, "one grid or more"),
    ],
)
def test_numbers_of_grids(levels, message):
    with pytest.raises(ValueError, match=message):
        UNetEncoder(BLOCK, POOL, **levels)


def test_numbers_for_more_grids_than_there_are():
    encoder = UNetEncoder(BLOCK, POOL, n_channels=[2, 3], dilations=[1, 1, 1, 1])
    assert len(encoder.encoder) == 2


@pytest.mark.parametrize("block", [BasicConvBlock, Multi_SymmetricConvNeXtBlock])
def test_a_block_without_layers_returns_what_it_gets(block):
    layer, x = block(in_channels=2, out_channels=2, n_layers=0), torch.randn(12, 2, 4, 4)
    assert torch.equal(layer(x), x)
    assert layer.state_dict() == {}


def test_numbers_of_numpy():
    layer = HEALPixLayer(
        nn.Conv2d, in_channels=2, out_channels=np.int64(3), kernel_size=np.int64(3)
    )
    assert layer(torch.zeros(12, 2, 4, 4)).shape == (12, 3, 4, 4)


def test_classes_are_saved_as_their_paths(tmp_path):
    given = arguments()
    given["encoder"] |= {"_target_": UNetEncoder, "down_sampling_block": {"_target_": MaxPool}}
    given["decoder"] |= {"_target_": UNetDecoder}
    model = HEALPixUNet(**given)
    model.save(tmp_path / "model.mdlus")
    twin = Module.from_checkpoint(tmp_path / "model.mdlus")
    assert isinstance(twin.encoder.encoder[1][0], MaxPool)
    x = torch.randn(1, 12, 1, 1, 4, 4)
    assert torch.equal(twin([x]), model([x]))


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
    """Return mappings and lists that are no usual ones, as those of configuration libraries."""
    if isinstance(value, dict):
        return types.MappingProxyType({key: frozen(item) for key, item in value.items()})
    return UserList(map(frozen, value)) if isinstance(value, list) else value


@pytest.mark.parametrize("by_name", [True, False])
def test_mappings_of_other_kinds_are_saved_as_plain_ones(tmp_path, by_name):
    given = {name: frozen(value) for name, value in arguments().items()}
    model = HEALPixUNet(**given) if by_name else HEALPixUNet(*given.values())
    model.save(tmp_path / "model.mdlus")
    twin = Module.from_checkpoint(tmp_path / "model.mdlus")
    for recorded in (model._args["__args__"], twin._args["__args__"]):
        assert {name: recorded[name] for name in arguments()} == arguments()


def test_plain():
    nested = frozen({"a": [1, (frozen({"b": "c"}),)]})
    assert serializable(nested) == {"a": [1, [{"b": "c"}]]}
    assert type(serializable(nested)["a"]) is list


@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_files_that_name_something_else(tmp_path, half):
    model = HEALPixUNet(**arguments())
    model._args["__args__"][half] = {"_target_": "os.system", "command": "touch here"}
    model.save(tmp_path / "model.mdlus")
    with pytest.raises(CheckpointError, match="no layer is known as 'os.system'"):
        Module.from_checkpoint(tmp_path / "model.mdlus")


def test_files_of_the_newer_version(tmp_path):
    def newer(value):
        if isinstance(value, dict):
            return {name: newer(item) for name, item in value.items()}
        if isinstance(value, str):
            return value.replace("dlwp_healpix_layers", "dlwp_healpix.layers")
        return value

    model = HEALPixUNet(**newer(arguments()))
    path, changed = tmp_path / "model.mdlus", tmp_path / "newer.mdlus"
    model.save(path)
    with tarfile.open(path) as old, tarfile.open(changed, "w") as new:
        for member in old.getmembers():
            content = old.extractfile(member).read()
            if member.name == "metadata.json":
                content = json.dumps(json.loads(content) | {"mdlus_file_version": "0.2.0"}).encode()
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    with pytest.warns(UserWarning, match="version 0.2.0, in which nvidia-physicsnemo 2.2"):
        twin = Module.from_checkpoint(changed)
    assert twin.state_dict().keys() == model.state_dict().keys()


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
