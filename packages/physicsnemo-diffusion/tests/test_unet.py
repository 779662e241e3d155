# SPDX-License-Identifier: Apache-2.0
"""The wrappers of networks for regression and forecasts."""

import pytest
import torch

from physicsnemo import Module
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.format.container import write_checkpoint
from physicsnemo.models.diffusion import DhariwalUNet, StormCastUNet, UNet
from physicsnemo.models.diffusion.unet import CorrDiffRegressionUNet

SMALL = {"model_channels": 8, "channel_mult": [1, 1], "num_blocks": 1, "attn_resolutions": []}
PLAIN = {"img_resolution": [8, 12], "model_type": "SongUNet", **SMALL}


def draw(*channels, batch=3):
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(batch, n, 8, 12, generator=generator) for n in channels]
    return drawn if len(drawn) > 1 else drawn[0]


def awake(model):
    """Return a model in evaluation mode whose last layer, which starts near zero, is not so."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def test_unet_is_its_network_at_no_noise():
    model = awake(UNet(img_in_channels=3, img_out_channels=2, **PLAIN))
    x, img_lr = draw(2, 3)
    expected = model.model(torch.cat((x, img_lr), dim=1), torch.zeros(3), None)
    torch.testing.assert_close(model(x, img_lr), expected)


def test_unet_without_conditioning_fields():
    model = awake(UNet(img_in_channels=0, img_out_channels=2, **PLAIN))
    expected = model.model(draw(2), torch.zeros(3), None)
    torch.testing.assert_close(model(draw(2), None), expected)


def test_stormcast_is_its_network_at_no_noise():
    model = awake(StormCastUNet(img_in_channels=5, img_out_channels=2, **PLAIN))
    torch.testing.assert_close(model(draw(5)), model.model(draw(5), torch.zeros(3), None))


@pytest.mark.parametrize("model_class", [UNet, StormCastUNet])
def test_shape_of_fields(model_class):
    model = model_class(img_in_channels=3, img_out_channels=2, **PLAIN)
    assert (model.img_shape_y, model.img_shape_x) == (8, 12)


def test_labels_and_others_reach_the_network():
    model = awake(UNet(img_in_channels=3, img_out_channels=2, label_dim=4, **PLAIN))
    x, img_lr = draw(2, 3)
    expected = model.model(torch.cat((x, img_lr), dim=1), torch.zeros(3), torch.ones(3, 4))
    torch.testing.assert_close(model(x, img_lr, class_labels=torch.ones(3, 4)), expected)


def test_lead_times_reach_the_network():
    model = awake(
        UNet(
            img_resolution=[8, 12],
            img_in_channels=3 + 4 + 2,
            img_out_channels=2,
            model_type="SongUNetPosLtEmbd",
            lead_time_channels=2,
            lead_time_steps=3,
            **SMALL,
        )
    )
    x, img_lr = draw(2, 3, batch=1)
    first, second = (model(x, img_lr, lead_time_label=torch.tensor([t])) for t in (0, 2))
    assert not torch.allclose(first, second)


def test_other_network():
    model = UNet(8, 3, 2, model_type="DhariwalUNet", **{**SMALL, "channel_mult": [1, 8]})
    assert isinstance(model.model, DhariwalUNet)
    assert model(*draw(2, 3)).shape == (3, 2, 8, 12)


def test_unknown_network():
    with pytest.raises(ValueError, match="SongUNetPosEmbd, .*, got 'UNet'"):
        UNet(8, 3, 2, model_type="UNet")


def test_only_the_sum_of_channels_counts():
    model = UNet(img_in_channels=3, img_out_channels=2, **PLAIN)
    fields = draw(5)
    expected = model(fields[:, :2], fields[:, 2:])
    for first in (1, 4):
        torch.testing.assert_close(model(fields[:, :first], fields[:, first:]), expected)
    with pytest.raises(ValueError, match="in_channels=5, .* is 6"):
        model(*draw(3, 3))


def test_conditioning_fields_of_another_shape():
    model = UNet(img_in_channels=3, img_out_channels=2, **PLAIN)
    with pytest.raises(ValueError, match=r"batch=3, channels, height=8, width=12\), got \(2, 3"):
        model(draw(2), draw(3, batch=2))


@pytest.mark.parametrize("model_class", [UNet, StormCastUNet])
def test_fields_without_channels(model_class):
    model = model_class(img_in_channels=3, img_out_channels=2, **PLAIN)
    with pytest.raises(ValueError, match="which has 2 dimensions"):
        model(torch.zeros(8, 12), *([None] if model_class is UNet else []))


def test_use_fp16_converts_the_weights():
    model = awake(UNet(img_in_channels=3, img_out_channels=2, **PLAIN))
    exact = model(*draw(2, 3))
    model.use_fp16 = True
    assert {p.dtype for p in model.parameters()} == {torch.float16}
    rounded = model(*draw(2, 3))
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.02)
    torch.testing.assert_close(model(*draw(2, 3), force_fp32=True), rounded)


@pytest.mark.parametrize("use_fp16", [2, "1", None])
def test_use_fp16_is_true_or_false(use_fp16):
    with pytest.raises(ValueError, match=f"use_fp16 to be True or False, got {use_fp16!r}"):
        UNet(img_in_channels=3, img_out_channels=2, use_fp16=use_fp16, **PLAIN)


def test_half_precision_survives_a_file(tmp_path):
    model = awake(UNet(img_in_channels=3, img_out_channels=2, use_fp16=1, **PLAIN))
    model.save(tmp_path / "model.mdlus")
    twin = UNet.from_checkpoint(tmp_path / "model.mdlus").eval()
    assert twin.use_fp16 is True
    torch.testing.assert_close(twin(*draw(2, 3)), model(*draw(2, 3)), rtol=0, atol=0)


def store(model, path, version, name="UNet", module=UNet.__module__, **arguments):
    """Save a model as if another release had written the file."""
    record = {"__name__": name, "__module__": module}
    record["__args__"] = model._args["__args__"] | arguments
    del record["__args__"]["numerics"]
    metadata = {"physicsnemo_version": "1.1.0", "mdlus_file_version": version}
    write_checkpoint(path, model.state_dict(), record, metadata)


def test_files_of_the_former_version(tmp_path):
    model = awake(UNet(img_in_channels=3, img_out_channels=2, numerics="reference-1.2", **PLAIN))
    former = {"img_channels": 2, "sigma_min": 0, "sigma_max": float("inf"), "sigma_data": 0.5}
    store(model, tmp_path / "old.mdlus", "0.1.0", **former)
    with pytest.warns(UserWarning, match=r"of version 0\.1\.0"):
        twin = Module.from_checkpoint(tmp_path / "old.mdlus").eval()
    assert twin._args == model._args
    torch.testing.assert_close(twin(*draw(2, 3)), model(*draw(2, 3)), rtol=0, atol=0)


def test_files_of_an_unknown_version(tmp_path):
    model = UNet(img_in_channels=3, img_out_channels=2, **PLAIN)
    store(model, tmp_path / "other.mdlus", "0.3.0")
    with pytest.raises(CheckpointError, match=r"which reads 0\.2\.0, 0\.1\.0"):
        UNet.from_checkpoint(tmp_path / "other.mdlus")


def test_the_name_in_later_releases(tmp_path):
    assert CorrDiffRegressionUNet is UNet
    model = UNet(img_in_channels=3, img_out_channels=2, **PLAIN)
    module, name = "physicsnemo.models.diffusion_unets.unet", "CorrDiffRegressionUNet"
    store(model, tmp_path / "later.mdlus", "0.2.0", name, module)
    assert type(Module.from_checkpoint(tmp_path / "later.mdlus")) is UNet


def test_flags_of_the_network():
    model = UNet(img_in_channels=3, img_out_channels=2, **PLAIN)
    model.amp_mode = model.profile_mode = True
    assert model.amp_mode is model.profile_mode is model.model.amp_mode is True
    with pytest.raises(TypeError, match="expected amp_mode to be True or False"):
        model.amp_mode = "yes"


@pytest.mark.parametrize("model_class", [UNet, StormCastUNet])
def test_override_args(model_class, tmp_path):
    model_class(img_in_channels=3, img_out_channels=2, act="silu", **PLAIN).save(
        tmp_path / "m.mdlus"
    )
    model = model_class.from_checkpoint(tmp_path / "m.mdlus", {"act": "relu"})
    assert model.model._args["__args__"]["act"] == "relu"
    with pytest.raises(ValueError, match="'dropout' cannot be overridden"):
        model_class.from_checkpoint(tmp_path / "m.mdlus", {"dropout": 0.5})
