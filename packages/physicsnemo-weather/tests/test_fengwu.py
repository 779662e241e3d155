# SPDX-License-Identifier: Apache-2.0
"""FengWu against the same network written out over all pairs of points, and its symmetry."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from physicsnemo import Module
from physicsnemo.models.fengwu import Fengwu
from physicsnemo.models.window_layers import WindowBlock

TESTS = Path(__file__).parent
REFERENCE = SimpleNamespace(**runpy.run_path(str(TESTS / "reference_implementation.py")))
NUMERICS = ["paper", "reference-1.2", "reference-2.1"]
KINDS = ("surface", "z", "r", "u", "v", "t")

# 3 by 16 points: shifted windows of 8 cross the first longitude.
SMALL = {
    "img_size": [11, 64],
    "pressure_level": 2,
    "embed_dim": 4,
    "num_heads": [2, 4],
    "window_size": [2, 2, 8],
}


def randomized(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.double().eval()


def field(height=11, width=64):
    return torch.randn(1, 14, height, width, dtype=torch.float64)


def reference_implementation(model, x, numerics):
    weights, window, size = model.state_dict(), (2, 2, 8), x.shape[2:]
    amounts = [REFERENCE.pads(n, 4) for n in size]
    coarse, skips, outputs = [], [], []
    for kind, part in zip(KINDS, x.split([4, 2, 2, 2, 2, 2], dim=1), strict=True):
        name = f"encoder_{kind}"
        grid = REFERENCE.embed(weights, f"{name}.patchembed2d", part, amounts)
        grid = REFERENCE.earth_blocks(weights, f"{name}.blocks", grid, window[1:], numerics, False)
        skips.append(grid)
        grid = REFERENCE.downsample(weights, f"{name}.downsample", grid)
        grid = REFERENCE.earth_blocks(
            weights, f"{name}.blocks_middle", grid, window[1:], numerics, False
        )
        coarse.append(grid)
    fused = REFERENCE.earth_blocks(
        weights, "fuser.blocks", torch.stack(coarse, 1), window, numerics, False
    )
    for kind, grid, skip in zip(KINDS, fused.unbind(1), skips, strict=True):
        name = f"decoder_{kind}"
        grid = REFERENCE.earth_blocks(
            weights, f"{name}.blocks_middle", grid, window[1:], numerics, False
        )
        grid = REFERENCE.upsample(weights, f"{name}.upsample", grid, skip.shape[1:3])
        grid = REFERENCE.earth_blocks(weights, f"{name}.blocks", grid, window[1:], numerics, False)
        grid = torch.cat((grid, skip), -1)
        outputs.append(REFERENCE.recover(weights, f"{name}.patchrecovery2d", grid, size))
    return tuple(outputs)


@pytest.mark.parametrize("numerics", NUMERICS)
def test_network_equals_the_reference_implementation(numerics):
    model, x = randomized(Fengwu(**SMALL, numerics=numerics)), field()
    with torch.no_grad():
        torch.testing.assert_close(model(x), reference_implementation(model, x, numerics))


@pytest.mark.parametrize("numerics", NUMERICS)
def test_blocks_normalize_what_attention_takes(numerics):
    model = Fengwu(**SMALL, numerics=numerics)
    blocks = [part for part in model.modules() if isinstance(part, WindowBlock)]
    assert len(blocks) == 6 * 2 * (2 + 6) + 6
    assert not any(block.post_norm for block in blocks)


def test_numerics_differ():
    x, model = field(), randomized(Fengwu(**SMALL))
    outputs = []
    for numerics in NUMERICS:
        other = Fengwu(**SMALL, numerics=numerics).double().eval()
        other.load_state_dict(model.state_dict())
        with torch.no_grad():
            outputs.append(other(x))
    for kind in range(6):
        for first, second in ((0, 1), (0, 2), (1, 2)):
            assert not torch.allclose(outputs[first][kind], outputs[second][kind], atol=1e-4)


@pytest.mark.parametrize("numerics", NUMERICS)
def test_rolling_the_input_by_a_window_rolls_the_output(numerics):
    arguments = SMALL | {"img_size": [7, 64], "patch_size": [4, 2], "numerics": numerics}
    model, x = randomized(Fengwu(**arguments)), field(7, 64)
    step = 2 * 8 * 2  # a window at half the resolution
    with torch.no_grad():
        rolled = model(x.roll(step, -1))
        expected = [output.roll(step, -1) for output in model(x)]
    same = [torch.allclose(*pair) for pair in zip(rolled, expected, strict=True)]
    assert same == [numerics == "paper"] * 6


def test_prepare_input_and_order_of_outputs():
    parts = [torch.randn(1, channels, 11, 64) for channels in (4, 2, 2, 2, 2, 2)]
    model = Fengwu(**SMALL).eval()
    x = model.prepare_input(*parts)
    torch.testing.assert_close(x[:, 4:6], parts[1])
    with torch.no_grad():
        for kind in KINDS:
            getattr(model, f"decoder_{kind}").patchrecovery2d.conv.weight.zero_()
            getattr(model, f"decoder_{kind}").patchrecovery2d.conv.bias.fill_(KINDS.index(kind))
        outputs = model(x)
    for index, (output, part) in enumerate(zip(outputs, parts, strict=True)):
        assert output.shape == part.shape
        assert (output == index).all()


def test_rates_of_dropped_paths():
    model, rates = Fengwu(**SMALL), [k * 0.2 / 7 for k in range(8)]
    for part in (model.encoder_z, model.decoder_surface):
        blocks = [*part.blocks, *part.blocks_middle]
        assert [block.drop_path.drop_prob for block in blocks] == pytest.approx(rates)
    assert [block.drop_path.drop_prob for block in model.fuser.blocks] == [0.2] * 6


def test_names_of_the_state():
    names = set(Fengwu(**SMALL).state_dict())
    for name in (
        "encoder_z.patchembed2d.proj.weight",
        "encoder_r.blocks.1.attn_mask",
        "encoder_surface.blocks_middle.5.attn.earth_position_index",
        "encoder_u.downsample.linear.weight",
        "fuser.blocks.5.attn_mask",
        "fuser.blocks.0.attn.earth_position_bias_table",
        "decoder_v.upsample.linear2.weight",
        "decoder_t.patchrecovery2d.conv.bias",
    ):
        assert name in names
    masks = [name for name in names if name.endswith("attn_mask")]
    assert len(masks) == 12 * (1 + 3) + 3
    assert not any(int(name.split(".")[-2]) % 2 == 0 for name in masks)


def test_default_size():
    with torch.device("meta"):
        surface, *others = Fengwu().eval()(torch.empty(1, 189, 721, 1440))
    assert surface.shape == (1, 4, 721, 1440)
    assert {output.shape for output in others} == {(1, 37, 721, 1440)}


def test_file_of_the_reference_implementation_means_its_numerics():
    model = Module.from_checkpoint(TESTS / "reference" / "Fengwu__square" / "reference.mdlus")
    assert model.encoder_z.blocks[1].roll == (-3, -3)
    assert model.fuser.blocks[1].roll == (-1, -3, -3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"img_size": [11, 64, 1]}, r"img_size .*\(latitudes, longitudes\), got \[11, 64, 1\]"),
        ({"patch_size": [2, 4, 4]}, r"patch_size .* got \[2, 4, 4\]"),
        (
            {"window_size": [6, 12]},
            r"window_size .*\(kinds, latitudes, longitudes\), got \[6, 12\]",
        ),
        ({"num_heads": [2]}, r"num_heads\[:2\] .* got \[2\]"),
        ({"num_heads": [3, 4]}, "got num_heads of 3 for 4 channels"),
        ({"pressure_level": 0}, r"pressure_level .* got \[0\]"),
        ({"numerics": "1.2"}, "one of paper, reference-1.2, .*, reference-2.2, got '1.2'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Fengwu(**SMALL | arguments)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.ones(1, 14, 11, 63), ValueError, r"where img_size\[1\] is 63"),
        (torch.ones(1, 189, 11, 64), ValueError, r"4 \+ 5 \* pressure_level=14.* is 189"),
        (torch.ones(1, 14, 11, 64, dtype=torch.int32), TypeError, "got torch.int32"),
    ],
)
def test_bad_inputs(x, error, message):
    with pytest.raises(error, match=message):
        Fengwu(**SMALL)(x)
