# SPDX-License-Identifier: Apache-2.0
"""Pangu against the same network written out over all pairs of points, and its symmetry."""

import json
import runpy
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from physicsnemo import Module
from physicsnemo.models.pangu import Pangu

TESTS = Path(__file__).parent
REFERENCE = SimpleNamespace(**runpy.run_path(str(TESTS / "reference_implementation.py")))
NUMERICS = ["paper", "reference-1.2", "reference-2.1"]

# 3 by 16 points: shifted windows of 8 cross the first longitude.
SMALL = {
    "img_size": [11, 64],
    "embed_dim": 4,
    "num_heads": [1, 2, 4, 2],
    "window_size": [2, 2, 8],
}
# Within a block.
LINEAR = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")


def randomized(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.double()


def in_state_of(model, **arguments):
    """Return a model of the same weights and other numerics."""
    other = Pangu(**arguments).double()
    other.load_state_dict(model.state_dict())
    return other


def field(height=11, width=64):
    return torch.randn(1, 72, height, width, dtype=torch.float64)


def reference_implementation(model, x, numerics, window=(2, 2, 8)):
    weights, size = model.state_dict(), x.shape[2:]
    amounts = [REFERENCE.pads(n, patch) for n, patch in zip(size, (4, 4), strict=True)]
    surface = REFERENCE.embed(weights, "patchembed2d", x[:, :7], amounts)
    if numerics != "paper" and size[0] % 2:
        # 4 less the remainder of a division by 2; the convolution ignores what fills no patch.
        amounts[0] = (1, 2)
    upper = x[:, 7:].reshape(1, 5, 13, *size)
    upper = REFERENCE.embed(weights, "patchembed3d", upper, [(0, 1), *amounts])
    x = torch.cat((surface[:, None], upper), dim=1)
    skip = x = REFERENCE.earth_blocks(weights, "layer1.blocks", x, window, numerics)
    x = REFERENCE.downsample(weights, "downsample", x)
    x = REFERENCE.earth_blocks(weights, "layer2.blocks", x, window, numerics)
    x = REFERENCE.earth_blocks(weights, "layer3.blocks", x, window, numerics)
    x = REFERENCE.upsample(weights, "upsample", x, skip.shape[2:4])
    x = REFERENCE.earth_blocks(weights, "layer4.blocks", x, window, numerics)
    x = torch.cat((x, skip), -1)
    upper = REFERENCE.recover(weights, "patchrecovery3d", x[:, 1:], (13, *size))
    return REFERENCE.recover(weights, "patchrecovery2d", x[:, 0], size), upper


@pytest.mark.parametrize("numerics", NUMERICS)
def test_network_equals_the_reference_implementation(numerics):
    model, x = randomized(Pangu(**SMALL, numerics=numerics)), field()
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), reference_implementation(model, x, numerics))


def test_numerics_differ():
    x = field()
    model = randomized(Pangu(**SMALL))
    models = [in_state_of(model, **SMALL, numerics=numerics).eval() for numerics in NUMERICS]
    with torch.no_grad():
        outputs = [model(x) for model in models]
    for kind in range(2):
        for first, second in ((0, 1), (0, 2), (1, 2)):
            assert not torch.allclose(outputs[first][kind], outputs[second][kind], atol=1e-4)


@pytest.mark.parametrize("numerics", NUMERICS)
def test_rolling_the_input_by_a_window_rolls_the_output(numerics):
    arguments = SMALL | {"img_size": [7, 64], "patch_size": [2, 4, 2], "numerics": numerics}
    model, x = randomized(Pangu(**arguments)).eval(), field(7, 64)
    step = 2 * 8 * 2  # a window at half the resolution
    with torch.no_grad():
        rolled = model(x.roll(step, -1))
        expected = [output.roll(step, -1) for output in model(x)]
    same = [torch.allclose(*pair) for pair in zip(rolled, expected, strict=True)]
    assert same == [numerics == "paper"] * 2


def test_ends_of_the_longitude_are_neighbours():
    model, x = randomized(Pangu(**SMALL)).eval(), field().requires_grad_()
    surface, _ = model(x)
    (gradient,) = torch.autograd.grad(surface[..., 0].sum(), x)
    assert gradient[..., -1].any()


@pytest.mark.parametrize("height", [13, 12, 11])
def test_reference_pads_as_the_paper_but_for_three_rows_left_over(height):
    model = Pangu(**SMALL | {"img_size": [height, 64]}, numerics="reference-1.2")
    expected = (1, 0) if height == 11 else REFERENCE.pads(height, 4)
    assert model.patchembed3d.pads == ((0, 1), expected, (0, 0))
    assert model.patchembed3d.grid == (7, (height + 3) // 4, 16)


def test_prepare_input():
    surface, masks = torch.randn(2, 4, 3, 5), torch.randn(3, 3, 5)
    upper = torch.randn(2, 5, 13, 3, 5)
    model = Pangu([3, 5], [2, 1, 1], 2, [1, 1, 1, 1], [2, 2, 2])
    x = model.prepare_input(surface, masks, upper)
    assert x.shape == (2, 72, 3, 5)
    torch.testing.assert_close(x[:, :4], surface)
    torch.testing.assert_close(x[1, 4:7], masks)
    torch.testing.assert_close(x[:, 7 + 2 * 13 + 5], upper[:, 2, 5])


@pytest.mark.parametrize("img_size", [(181, 8), (722, 4), (5, 7)])
def test_odd_sizes(img_size):
    model = Pangu(img_size, (2, 4, 4), 2, (1, 1, 1, 1), (2, 6, 12)).eval()
    with torch.no_grad():
        surface, upper = model(torch.randn(1, 72, *img_size))
    assert surface.shape == (1, 4, *img_size)
    assert upper.shape == (1, 5, 13, *img_size)


def test_default_size():
    with torch.device("meta"):
        surface, upper = Pangu().eval()(torch.empty(1, 72, 721, 1440))
    assert surface.shape == (1, 4, 721, 1440)
    assert upper.shape == (1, 5, 13, 721, 1440)


def test_file_of_the_reference_implementation_means_its_numerics(tmp_path):
    model = Module.from_checkpoint(TESTS / "reference" / "Pangu__square" / "reference.mdlus")
    assert model.layer1.blocks[1].roll == (-1, -3, -3)
    model.save(tmp_path / "again.mdlus")
    with tarfile.open(tmp_path / "again.mdlus") as file:
        assert "numerics" not in json.load(file.extractfile("args.json"))["__args__"]


@pytest.mark.parametrize("numerics", NUMERICS)
def test_numerics_in_a_file(numerics, tmp_path):
    model = Pangu(**SMALL, numerics=numerics)
    model.save(tmp_path / "model.mdlus")
    same = Module.from_checkpoint(tmp_path / "model.mdlus")
    ours, theirs = (m.layer1.blocks[1] for m in (model, same))
    assert theirs.roll == ours.roll
    torch.testing.assert_close(theirs.attn_mask, ours.attn_mask, atol=0, rtol=0)


def test_a_state_brings_weights_and_no_mask():
    reference = Pangu(**SMALL, numerics="reference-2.1")
    state = reference.state_dict()
    model = Pangu(**SMALL)
    mask = model.layer1.blocks[1].attn_mask.clone()
    model.load_state_dict(state)
    torch.testing.assert_close(model.layer1.blocks[1].attn_mask, mask, atol=0, rtol=0)
    torch.testing.assert_close(model.downsample.linear.weight, reference.downsample.linear.weight)
    assert state["layer1.blocks.1.attn_mask"].shape == (2, 8, 32, 32)


def test_names_of_the_state():
    state = Pangu(**SMALL).state_dict()
    blocks = [f"layer{k}.blocks.{i}." for k, n in enumerate((2, 6, 6, 2), 1) for i in range(n)]
    inside = [f"{layer}.{part}" for layer in LINEAR for part in ("weight", "bias")]
    inside += ["attn.earth_position_bias_table", "attn.earth_position_index"]
    expected = {block + name for block in blocks for name in inside}
    expected |= {f"{block}attn_mask" for block in blocks[1::2]}
    outside = ("patchembed2d.proj", "patchembed3d.proj", "downsample.norm", "upsample.norm")
    outside += ("patchrecovery2d.conv", "patchrecovery3d.conv")
    expected |= {f"{layer}.{part}" for layer in outside for part in ("weight", "bias")}
    expected |= {f"{layer}.weight" for layer in ("downsample.linear", "upsample.linear1")}
    assert set(state) == expected | {"upsample.linear2.weight", "device_buffer"}
    assert state["layer1.blocks.0.attn.earth_position_bias_table"].shape == (4 * 4 * 15, 4 * 2, 1)
    assert state["layer2.blocks.0.attn.earth_position_bias_table"].shape == (4 * 4 * 15, 4 * 1, 2)


def test_rates_of_dropped_paths():
    model = Pangu(**SMALL)
    rates = [k * 0.2 / 7 for k in range(8)]
    for layer, expected in zip(
        (model.layer1, model.layer2, model.layer3, model.layer4),
        (rates[:2], rates[2:], rates[2:], rates[:2]),
        strict=True,
    ):
        assert [block.drop_path.drop_prob for block in layer.blocks] == pytest.approx(expected)


def test_masks_of_the_paper_do_not_grow_with_the_longitude():
    model = Pangu(**SMALL)
    assert model.layer1.blocks[1].attn_mask.shape == (1, 8, 32, 32)
    reference = Pangu(**SMALL, numerics="reference-1.2")
    assert reference.layer1.blocks[1].attn_mask.shape == (2, 8, 32, 32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"img_size": [11]}, r"img_size to be positive .*\(latitudes, longitudes\), got \[11\]"),
        ({"patch_size": [4, 4]}, r"patch_size .*\(levels, latitudes, longitudes\), got \[4, 4\]"),
        ({"patch_size": [2, 0, 4]}, r"patch_size to be positive .* got \[2, 0, 4\]"),
        ({"window_size": [2, 6]}, r"window_size .* got \[2, 6\]"),
        ({"window_size": 6}, r"window_size .* got \[6\]"),
        ({"window_size": [2, 6, 1.5]}, r"window_size .* whole numbers .* got \[2, 6, 1.5\]"),
        ({"num_heads": [1, 2]}, r"num_heads .* got \[1, 2\]"),
        ({"num_heads": [3, 2, 2, 1]}, "got num_heads of 3 for 4 channels"),
        ({"num_heads": [1, 3, 2, 1]}, "got num_heads of 3 for 8 channels"),
        ({"embed_dim": 0}, r"embed_dim to be positive .* got \[0\]"),
        ({"numerics": "peper"}, "one of paper, reference-1.2, .*, reference-2.2, got 'peper'"),
        (
            {"img_size": [10, 64], "numerics": "reference-1.2"},
            r"cannot compute a model of 10 latitudes .*take numerics='paper'",
        ),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Pangu(**SMALL | arguments)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.ones(1, 72, 64, 11), ValueError, r"where img_size\[0\] is 64"),
        (torch.ones(1, 69, 11, 64), ValueError, "channels=72.* where channels is 69"),
        (torch.ones(72, 11, 64), ValueError, "which has 3 dimensions"),
        (torch.ones(1, 72, 11, 64, dtype=torch.int32), TypeError, "got torch.int32"),
    ],
)
def test_bad_inputs(x, error, message):
    with pytest.raises(error, match=message):
        Pangu(**SMALL)(x)


def test_sizes_of_numpy():
    arguments = {
        name: [*np.array(value)] if isinstance(value, list) else np.int64(value)
        for name, value in SMALL.items()
    }
    model = Pangu(**arguments)
    assert model.img_size == tuple(SMALL["img_size"])
    assert all(type(size) is int for size in model.img_size)
