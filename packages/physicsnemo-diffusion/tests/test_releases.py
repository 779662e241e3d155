# SPDX-License-Identifier: Apache-2.0
"""Files of every release of nvidia-physicsnemo give the numbers that they gave there."""

import io
import json
import math
import sys
import tarfile
import types
import zipfile
from pathlib import Path

import pytest
import torch

from physicsnemo import Module
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.format.container import write_checkpoint
from physicsnemo.models.diffusion import (
    DhariwalUNet,
    EDMPrecond,
    SongUNet,
    SongUNetPosEmbd,
    SongUNetPosLtEmbd,
    UNet,
    VPPrecond,
    iDDPMPrecond,
)
from physicsnemo.models.diffusion.preconditioning._edm import edm_scalings
from physicsnemo.testing import check_reference_case

FOLDERS = sorted((Path(__file__).parent / "reference_releases").iterdir())
RELEASES = ["1.2", "1.3", "2.0", "2.1", "2.2"]
SMALL = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": []}
GRID = {"img_resolution": [8, 12], "in_channels": 7, "out_channels": 3, **SMALL}
TIMES = {"lead_time_channels": 2, "lead_time_steps": 4}
SONG = {"img_resolution": 8, "img_channels": 2, "model_type": "SongUNet", **SMALL}


def before_scaling(argument, inputs):
    # Up to release 2.2, t-EDM multiplies the tensor of its caller by sqrt(nu / (nu - 2)). What is
    # stored beside its output is that product, with nu = 10, and not what the model was given.
    return inputs[argument["name"]] / math.sqrt(10 / (10 - 2))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_files(folder):
    check_reference_case(folder, {"scaled_in_place": before_scaling})


def written(model, release, path, without=(), **more):
    """Write a file as a release does, and return its path: arguments by name, and other keys."""
    state = {key: it for key, it in model.state_dict().items() if key not in without}
    if release >= "2.0":
        state = {key: it for key, it in state.items() if not key.endswith("device_buffer")}
    record = model._args
    arguments = {name: it for name, it in record["__args__"].items() if name != "numerics"}
    if release < "2.0":
        arguments.pop("bottleneck_attention", None)
    metadata = {"physicsnemo_version": f"{release}.0", "mdlus_file_version": "0.1.0"}
    version = type(model).__model_checkpoint_version__
    metadata["mdlus_file_version"] = version
    write_checkpoint(path, state | more, {**record, "__args__": arguments}, metadata)
    return path


def noisy(model, x, *rest):
    with torch.no_grad():
        return model.eval()(x, torch.ones(len(x)), *rest)


@pytest.mark.parametrize("release", RELEASES)
def test_heads(release, tmp_path):
    """Of several heads of attention, those of the first release alone split pixels."""
    arguments = {"img_resolution": 8, "in_channels": 2, "out_channels": 2, **SMALL}
    arguments |= {"model_channels": 64, "dropout": 0.0}
    model = DhariwalUNet(**arguments, numerics=f"reference-{release}")
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    freqs = {"map_noise.freqs": model.map_noise.freqs} if release >= "2.1" else {}
    same = Module.from_checkpoint(written(model, release, tmp_path / "model.mdlus", **freqs))
    x = torch.randn(2, 2, 8, 8)
    torch.testing.assert_close(noisy(same, x), noisy(model, x), rtol=0, atol=0)
    paper = DhariwalUNet(**arguments)
    paper.load_state_dict(model.state_dict())
    # In training mode the normalization is the paper's.
    agrees = torch.allclose(model.train()(x, torch.ones(2)), paper(x, torch.ones(2)), atol=1e-5)
    assert agrees == (release != "1.2")


@pytest.mark.parametrize("release", RELEASES)
def test_grid_of_four_sines(release, tmp_path):
    model = SongUNetPosEmbd(**GRID, numerics=f"reference-{release}")
    without = () if release == "1.2" else {"pos_embd"}
    path = written(model, release, tmp_path / "model.mdlus", without)
    grid = Module.from_checkpoint(path).pos_embd
    y, x = 2 * math.pi * 3 / 7, 2 * math.pi * 5 / 11
    expected = [math.sin(x), math.sin(y), math.cos(x), math.cos(y)]
    if release == "1.2":
        expected = [math.sin(y), math.sin(x), math.cos(y), math.cos(x)]
    assert grid[:, 3, 5].tolist() == pytest.approx(expected, abs=1e-6)


def test_grid_of_the_paper_keeps_its_order():
    grid = SongUNetPosEmbd(**GRID).pos_embd
    other = SongUNetPosEmbd(**GRID, numerics="reference-1.2").pos_embd
    assert torch.equal(grid, other)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_octaves(count):
    channels = {"N_grid_channels": 4 * count, "in_channels": 3 + 4 * count}
    grid = SongUNetPosEmbd(**GRID | channels, gridtype="sinusoidal_octave").pos_embd
    y, x = 2 * math.pi * 3 / 7, 2 * math.pi * 5 / 11
    expected = []
    for frequency in (1, 2, 4)[:count]:
        fx, fy = frequency * x, frequency * y
        expected += [math.sin(fx), math.sin(fy), math.cos(fx), math.cos(fy)]
    assert grid[:, 3, 5].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("gridtype", ["sinusoidal", "sinusoidal_octave", "linear", "test"])
def test_no_grid(gridtype):
    model = SongUNetPosEmbd(**GRID | {"in_channels": 3}, gridtype=gridtype, N_grid_channels=0)
    assert model.pos_embd is None
    assert "pos_embd" not in model.state_dict()
    assert noisy(model, torch.randn(2, 3, 8, 12)).shape == (2, 3, 8, 12)


@pytest.mark.parametrize("numerics", ["paper", *(f"reference-{it}" for it in RELEASES)])
def test_lead_times_without_a_grid(numerics):
    seen = 3 if numerics == "reference-1.2" else 5
    model = SongUNetPosLtEmbd(
        **GRID | TIMES | {"in_channels": seen}, N_grid_channels=0, numerics=numerics
    )
    x, labels = torch.randn(2, 3, 8, 12), torch.tensor([1, 3])
    output = noisy(model, x, None, labels)
    fields = model.lt_embd[labels] if seen == 5 else torch.zeros(2, 0, 8, 12)
    plain = SongUNet(**GRID | {"in_channels": seen}, numerics=numerics)
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if k != "lt_embd"})
    torch.testing.assert_close(output, noisy(plain, torch.cat((x, fields), dim=1)))


@pytest.mark.parametrize("release", RELEASES)
def test_what_a_selector_is_given(release):
    model = SongUNetPosLtEmbd(**GRID | TIMES | {"in_channels": 9}, numerics=f"reference-{release}")
    seen = []

    def cut(fields):
        seen.append(fields)
        return fields.expand(2, -1, -1, -1)[..., :4, 2:8]

    labels = torch.tensor([3, 1])
    embedded = model.positional_embedding_selector(torch.zeros(2, 3, 4, 6), cut, labels)
    if release == "1.2":
        (joined,) = seen
        assert torch.equal(joined, torch.cat((model.pos_embd, model.lt_embd[3])))
        return
    grid, times = seen
    assert torch.equal(grid, model.pos_embd)
    assert torch.equal(times, model.lt_embd[labels])
    assert torch.equal(embedded[:, 4:], model.lt_embd[labels][..., :4, 2:8])


@pytest.mark.parametrize("release", RELEASES)
def test_variance_is_unbiased_in_evaluation(release):
    """No release mended it."""
    theirs, paper = (
        SongUNet(8, 2, 2, **SMALL, numerics=f"reference-{release}"),
        SongUNet(8, 2, 2, **SMALL),
    )
    theirs.load_state_dict(paper.state_dict())
    x = torch.randn(2, 2, 8, 8)
    first, second = (it.enc["8x8_block0"].norm0 for it in (theirs.eval(), paper.eval()))
    features = torch.randn(1, 8, 8, 8)
    assert not torch.allclose(first(features), second(features), rtol=1e-5, atol=1e-5)
    assert noisy(theirs, x).shape == x.shape


@pytest.mark.parametrize("model_class", [SongUNet, SongUNetPosEmbd, SongUNetPosLtEmbd])
@pytest.mark.parametrize("wanted", [True, False])
def test_attention_at_the_bottom(model_class, wanted, tmp_path):
    model = model_class(**GRID, bottleneck_attention=wanted)
    assert any("4x4_in0.attn" in key for key in model.state_dict()) == wanted
    with torch.no_grad():
        path = written(model, "2.2", tmp_path / "model.mdlus", {"pos_embd"})
    assert Module.from_checkpoint(path)._args["__args__"]["bottleneck_attention"] is wanted
    wrapped = UNet([8, 12], 4, 3, **SMALL, model_type="SongUNet", bottleneck_attention=wanted)
    assert any("in0.attn" in key for key in wrapped.state_dict()) == wanted


def test_arguments_that_older_releases_do_not_know_are_left_out(tmp_path):
    for wanted in (True, False):
        SongUNet(**GRID, bottleneck_attention=wanted).save(tmp_path / "model.mdlus")
        with tarfile.open(tmp_path / "model.mdlus") as file:
            arguments = json.load(file.extractfile("args.json"))["__args__"]
        assert ("bottleneck_attention" in arguments) == (not wanted)
        same = Module.from_checkpoint(tmp_path / "model.mdlus")
        assert any("in0.attn" in key for key in same.state_dict()) == wanted


KEYS = {
    "EDMPrecond": (EDMPrecond, {"sigma_data": 0.7}, {"sigma_data": 0.7}),
    "VPPrecond": (VPPrecond, {"beta_d": 19.1}, {"beta_d": 19.1, "beta_min": 0.1, "M": 1000}),
    "iDDPMPrecond": (iDDPMPrecond, {"M": 50}, {"C_1": 0.001, "C_2": 0.008, "M": 50}),
}


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", KEYS)
def test_constants_in_the_state(name, release, tmp_path):
    model_class, arguments, constants = KEYS[name]
    model = model_class(**SONG, **arguments, numerics=f"reference-{release}")
    kept = {key: torch.tensor(it) for key, it in constants.items()} if release >= "2.0" else {}
    if release >= "2.1":
        kept["model.map_noise.freqs"] = model.model.map_noise.freqs
    same = Module.from_checkpoint(written(model, release, tmp_path / "model.mdlus", **kept))
    x = torch.randn(2, 2, 8, 8)
    assert torch.equal(noisy(same, x), noisy(model, x))
    assert same.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    ("name", "key"),
    [(name, key) for name, (_, _, constants) in KEYS.items() for key in constants],
)
def test_constants_that_contradict_the_arguments(name, key, tmp_path):
    model_class, arguments, constants = KEYS[name]
    kept = {at: torch.tensor(it) for at, it in constants.items()}
    kept[key] = kept[key] + 1
    path = written(model_class(**SONG, **arguments), "2.2", tmp_path / "model.mdlus", **kept)
    with pytest.raises(CheckpointError, match=f"{key} in .* is .*, and the arguments"):
        Module.from_checkpoint(path)


def test_deviations_of_each_channel(tmp_path):
    model = EDMPrecond(**SONG, sigma_data=[0.2, 3.0], numerics="reference-2.2")
    kept = {"sigma_data": torch.tensor([0.2, 3.0])}
    same = Module.from_checkpoint(written(model, "2.2", tmp_path / "model.mdlus", **kept))
    assert same.sigma_data == [0.2, 3.0]
    x, sigma = torch.randn(2, 2, 8, 8), torch.tensor([0.5, 2.0])
    seen = []
    same.model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    denoised = same.eval()(x, sigma)
    level = sigma.view(-1, 1, 1, 1)
    for channel, deviation in enumerate((0.2, 3.0)):
        c = edm_scalings(level, deviation)
        torch.testing.assert_close(seen[0][:, channel : channel + 1], c.c_in * x[:, [channel]])
    alone = [edm_scalings(level, deviation) for deviation in (0.2, 3.0)]
    network = same.model(seen[0], alone[0].c_noise.flatten())
    expected = [c.c_skip * x[:, [i]] + c.c_out * network[:, [i]] for i, c in enumerate(alone)]
    torch.testing.assert_close(denoised, torch.cat(expected, dim=1))
    with pytest.raises(ValueError, match="one for each of 2 channels, got"):
        EDMPrecond(**SONG, sigma_data=[0.2, 3.0, 1.0])


ATTENTION = SMALL | {"img_resolution": 8, "in_channels": 2, "out_channels": 2}
ATTENTION |= {"attn_resolutions": [8], "numerics": "reference-1.2"}


def respelt(path, model, change):
    """Write a file of 1.2 with other keys."""
    state = {change(key): tensor for key, tensor in model.state_dict().items()}
    write_checkpoint(path, state, model._args, {"physicsnemo_version": "1.2.0"})


def as_before_attention_was_a_layer(key):
    for ours, theirs in {
        "attn.norm.": "norm2.",
        "attn.qkv.": "qkv.",
        "attn.proj.": "proj.",
    }.items():
        key = key.replace(ours, theirs)
    return key


def test_former_keys_of_attention_in_a_file(tmp_path):
    model, path = SongUNet(**ATTENTION), tmp_path / "model.mdlus"
    respelt(path, model, as_before_attention_was_a_layer)
    x = torch.randn(2, 2, 8, 8)
    assert torch.equal(noisy(Module.from_checkpoint(path), x), noisy(model, x))
    state = model.state_dict()
    both = {as_before_attention_was_a_layer(key): tensor for key, tensor in state.items()}
    write_checkpoint(path, state | both, model._args, {"physicsnemo_version": "1.2.0"})
    with pytest.raises(CheckpointError, match=r"attn\.norm\.weight by another name too, .*norm2"):
        Module.from_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"by another name too"):
        model.load_state_dict(state | both)


class StandIn(torch.nn.GroupNorm):
    """A module with the interface of Apex's, whose kernels need a GPU."""


@pytest.mark.parametrize("release", RELEASES)
def test_files_of_networks_with_apex(release, tmp_path, monkeypatch):
    module = types.ModuleType("apex.contrib.group_norm")
    module.GroupNorm = StandIn
    monkeypatch.setitem(sys.modules, "apex.contrib.group_norm", module)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    arguments = ATTENTION | {"numerics": f"reference-{release}"}
    model, path = SongUNet(**arguments, use_apex_gn=True), tmp_path / "model.mdlus"
    for norm in (it for it in model.modules() if isinstance(it, StandIn)):
        norm.weight.data += torch.rand_like(norm.weight)
    model.save(path, for_release=release)
    with zipfile.ZipFile(path) if release >= "2.0" else tarfile.open(path) as file:
        opened = file.open if release >= "2.0" else file.extractfile
        keys = torch.load(io.BytesIO(opened("model.pt").read()), weights_only=True)
    assert "enc.8x8_block0.norm0.weight" in keys
    assert any(".gn." in key for key in keys) == (release < "2.0")
    same = Module.from_checkpoint(path)
    plain = Module.from_checkpoint(path, {"use_apex_gn": False})
    assert not any(".gn." in key for key in plain.state_dict())
    for loaded in (same, plain):
        for key, tensor in loaded.state_dict().items():
            assert torch.equal(tensor, model.state_dict()[key])
    same.load_state_dict(plain.state_dict())
    plain.load_state_dict(same.state_dict())


def test_constants_in_half_precision(tmp_path):
    """Files of converted models keep them so."""
    for model_class, arguments, _ in KEYS.values():
        for dtype in (torch.float16, torch.bfloat16):
            model = model_class(**SONG, **arguments, numerics="reference-2.2").to(dtype)
            model.save(tmp_path / "model.mdlus", for_release="2.2")
            same = Module.from_checkpoint(tmp_path / "model.mdlus")
            assert next(same.parameters()).dtype == dtype


@pytest.mark.parametrize("other", [{"C_1": 0.002}, {"C_2": 0.012}, {"M": 51}])
def test_levels_that_contradict_the_arguments(other, tmp_path):
    model, path = iDDPMPrecond(**SONG, M=50, numerics="reference-1.2"), tmp_path / "model.mdlus"
    state = model.state_dict() | {"u": iDDPMPrecond(**SONG | {"M": 50} | other).u}
    write_checkpoint(path, state, model._args, {"physicsnemo_version": "1.2.0"})
    with pytest.raises(CheckpointError, match=r"\bu\b"):
        Module.from_checkpoint(path)


def test_a_grid_that_contradicts_the_arguments(tmp_path):
    """One of 1.2 is not read into a model whose numerics have another order of channels."""
    SongUNetPosEmbd(**GRID, numerics="reference-1.2").save(tmp_path / "model.mdlus")
    SongUNetPosEmbd(**GRID).load(tmp_path / "model.mdlus")
    with pytest.raises(
        CheckpointError, match=r"pos_embd in .* another, that differs by up to [12]"
    ):
        SongUNetPosEmbd(**GRID, numerics="reference-2.0").load(tmp_path / "model.mdlus")
