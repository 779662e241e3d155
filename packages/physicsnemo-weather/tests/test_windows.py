# SPDX-License-Identifier: Apache-2.0
"""Windows, attention within them, patches and resolutions, against loops and plain operators."""

import copy
import pickle
import runpy
import subprocess
import sys
from itertools import product
from math import prod
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from physicsnemo.models.window_layers import (
    DownSample,
    EarthAttention,
    PatchEmbed,
    PatchRecovery,
    SwinTransformer,
    UpSample,
    Windows,
    attention,
    earth_blocks,
)
from physicsnemo.models.window_layers.attention import flex_with_bias, toeplitz
from physicsnemo.models.window_layers.earth import earth_position_index
from physicsnemo.models.window_layers.patches import join_patches, split_patches
from physicsnemo.models.window_layers.swin import SwinAttention
from physicsnemo.models.window_layers.windows import centered_pads, crop_grid, pad_grid
from physicsnemo.nn.tracing import assume_constant_result

REFERENCE = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).with_name("reference_implementation.py")))
)


def randomized(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.5)
    return module.double()


@pytest.mark.parametrize("shared", [0, 1, 2])
@pytest.mark.parametrize(
    ("grid", "window"), [((4, 6), (2, 3)), ((4, 6, 6), (2, 3, 2)), ((2, 3, 4), (2, 3, 4))]
)
def test_windows_split_and_join(grid, window, shared):
    windows = Windows(grid, window)
    x = torch.randn(2, *grid, 5)
    parts = windows.split(x, shared)
    *others, columns = (n // w for n, w in zip(grid, window, strict=True))
    together = [1, columns, columns * prod(others)][shared]
    apart = columns * prod(others) // together
    assert parts.shape == (2 * together, prod(window), apart, 5)
    assert parts.is_contiguous()
    torch.testing.assert_close(windows.join(parts, shared), x, atol=0, rtol=0)
    parts = parts.view(2, together, prod(window), apart, 5).transpose(2, 3).flatten(1, 2)
    for number, place in enumerate(product(range(columns), *map(range, others))):
        starts = zip((*place[1:], place[0]), window, strict=True)
        inside = tuple(slice(i * w, (i + 1) * w) for i, w in starts)
        expected = x[:, *inside].flatten(1, -2)
        torch.testing.assert_close(parts[:, number], expected, atol=0, rtol=0)


def test_index_of_biases_by_the_formula_of_the_paper():
    index = earth_position_index((2, 3, 4))
    assert index.shape == (24, 24)
    for query in range(24):
        for key in range(24):
            (z, h, w), (other_z, other_h, other_w) = (
                (place // 12, place // 4 % 3, place % 4) for place in (query, key)
            )
            expected = ((z + 2 * other_z) * 9 + h + 3 * other_h) * 7 + w - other_w + 3
            assert index[query, key] == expected


@pytest.mark.parametrize("size", [1, 2, 5])
def test_matrices_of_diagonals(size):
    diagonals = torch.randn(3, 2 * size - 1, dtype=torch.float64, requires_grad=True)
    expected = torch.stack(
        [torch.stack([row[i - k + size - 1] for i in range(size) for k in range(size)])
         for row in diagonals]
    ).view(3, size, size)  # fmt: skip
    matrices = toeplitz(diagonals)
    torch.testing.assert_close(matrices, expected, atol=0, rtol=0)
    direction = torch.randn_like(expected)
    ours, theirs = (
        torch.autograd.grad((x * direction).sum(), diagonals) for x in (matrices, expected)
    )
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("grid", "window"), [((4, 6), (2, 3)), ((4, 6, 10), (2, 3, 5))])
def test_biases_are_those_that_the_stored_index_names(grid, window):
    attention = EarthAttention(4, Windows(grid, window), 2)
    table, index = attention.earth_position_bias_table, attention.earth_position_index
    assert table.shape == (int(index.max()) + 1, attention.windows.types, 2)
    expected = table[index].permute(2, 3, 0, 1).unsqueeze(0)
    torch.testing.assert_close(attention._bias(), expected, atol=0, rtol=0)


def test_biases_begin_as_in_the_papers():
    windows = Windows((12, 24), (6, 12))
    for module, name in (
        (EarthAttention(4, windows, 2), "earth_position_bias_table"),
        (SwinAttention(16, windows, 16), "relative_position_bias_table"),
    ):
        table = getattr(module, name)
        assert table.std().item() == pytest.approx(0.02, rel=0.1)
        assert table.mean().item() == pytest.approx(0, abs=0.002)
        bound = module.qkv.in_features**-0.5
        assert 0.9 * bound < module.qkv.weight.abs().max() <= bound


def test_masks_are_made_once(monkeypatch):
    earth = earth_blocks(4, (4, 6), 2, (2, 3), [0.0, 0.0])
    swin = SwinTransformer(4, (4, 6), 2, 2, 2).layer.blocks
    for module in ("earth", "swin"):
        monkeypatch.delattr(f"physicsnemo.models.window_layers.{module}.window_mask")
    for blocks in (earth, swin):
        assert blocks[0].attn_mask is None
        mask = blocks[1].attn_mask
        blocks[1](blocks[0](torch.randn(1, 4, 6, 4))).sum().backward()
        assert blocks[1].attn_mask is mask


@pytest.fixture
def calls(monkeypatch):
    """Return shapes of the queries and biases of each call of attention, as they come."""
    calls, attention = [], functional.scaled_dot_product_attention

    def recorded(q, k, v, bias, **options):
        calls.append((tuple(q.shape), tuple(bias.shape)))
        return attention(q, k, v, bias, **options)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", recorded)
    return calls


def test_biases_are_not_repeated_for_samples_and_longitudes(calls):
    x = torch.randn(5, 4, 6, 4)
    for block in earth_blocks(4, (4, 6), 2, (2, 3), [0.0, 0.0]):
        block(x)
    assert calls == [((5 * 2, 2 * 2, 6, 2), (1, 2 * 2, 6, 6))] * 2
    calls.clear()
    for block in SwinTransformer(4, (4, 6), 2, 2, 2).layer.blocks:
        block(x)
    unshifted, shifted = calls
    assert unshifted == ((5 * 6, 2, 4, 2), (1, 2, 4, 4))
    assert shifted == ((5, 6 * 2, 4, 2), (1, 6 * 2, 4, 4))


def test_more_heads_than_one_launch_takes(calls, monkeypatch):
    module = EarthAttention(4, Windows((6, 9), (2, 3)), 2).double()
    x = torch.randn(1, 6, 9, 4, dtype=torch.float64)
    expected = module(x)
    monkeypatch.setattr("physicsnemo.models.window_layers.attention._MOST_HEADS", 4)
    torch.testing.assert_close(module(x), expected)
    assert [q[1] for q, _ in calls] == [6, 4, 2]


@pytest.mark.parametrize("kind", ["earth", "swin"])
def test_one_graph_under_autocast(kind):
    block = {
        "earth": lambda: earth_blocks(8, (3, 4, 6), 2, (2, 3, 2), [0.0, 0.0])[1],
        "swin": lambda: SwinTransformer(8, (4, 6), 2, 2, 2).layer.blocks[1],
    }[kind]()
    x = torch.randn(2, *{"earth": (3, 4, 6), "swin": (4, 6)}[kind], 8)
    gradients = []
    for function in (block, torch.compile(block, fullgraph=True, backend="aot_eager")):
        with torch.autocast("cpu", torch.bfloat16):
            output = function(x)
        gradients.append(torch.autograd.grad(output.square().sum(), [*block.parameters()]))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02 * theirs.abs().max().item())
    torch.compiler.reset()


@pytest.mark.parametrize("numerics", ["paper", "reference-1.2", "reference-2.1"])
@pytest.mark.parametrize(
    ("grid", "window"),
    [
        ((4, 16), (2, 8)),
        ((5, 13), (4, 7)),  # padded on both axes
        ((7, 7), (7, 8)),  # one window, padded
        ((3, 3, 9), (2, 2, 7)),
        ((8, 3, 6), (2, 2, 2)),  # shifted by more than a window
        ((1, 2, 3), (2, 2, 2)),  # shifted by more than the grid
        ((2, 4, 3), (1, 3, 1)),  # windows of odd sizes, and of one point
    ],
)
def test_blocks_are_attention_among_all_pairs_of_points(grid, window, numerics):
    blocks = randomized(earth_blocks(4, grid, 2, window, [0.0, 0.0], numerics))
    x = torch.randn(2, *grid, 4, dtype=torch.float64, requires_grad=True)
    y = blocks[1](blocks[0](x))
    weights = blocks.state_dict(prefix="blocks.", keep_vars=True)
    expected = x
    for index in range(2):
        expected = REFERENCE.earth_block(
            weights, f"blocks.{index}", expected, window, index == 1, numerics
        )
    torch.testing.assert_close(y, expected)
    direction = torch.randn_like(y)
    wanted = [x, *blocks.parameters()]
    ours, theirs = (torch.autograd.grad((z * direction).sum(), wanted) for z in (y, expected))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("numerics", ["paper", "reference-1.2", "reference-2.1"])
def test_what_blocks_add_is_normalized_afterwards_in_the_paper(numerics, shifted):
    # Attention returns (1, 2, 3, 4) at each point, and the network (2, 0, 0, 0).
    block = earth_blocks(4, (2, 6, 12), 2, (2, 6, 12), [0.0, 0.0], numerics)[shifted].double()
    attention, network = (
        torch.tensor([1.0, 2, 3, 4]).double(),
        torch.tensor([2.0, 0, 0, 0]).double(),
    )
    with torch.no_grad():
        for layer, constant in ((block.attn.proj, attention), (block.mlp.fc2, network)):
            layer.weight.zero_()
            layer.bias.copy_(constant)
        y = block(torch.zeros(1, 2, 6, 12, 4, dtype=torch.float64))
    if numerics == "paper":
        attention, network = (functional.layer_norm(x, (4,)) for x in (attention, network))
    torch.testing.assert_close(y, (attention + network).expand_as(y))


@pytest.mark.parametrize(
    ("numerics", "shift"), [("paper", (1, 2, 5)), ("reference-2.1", (1, 3, 6))]
)
def test_the_paper_shifts_by_half_of_the_window(numerics, shift):
    block = earth_blocks(4, (4, 8, 20), 2, (2, 4, 10), [0.0, 0.0], numerics)[1]
    assert block.unroll == shift
    assert block.roll == tuple(-step for step in shift)


@pytest.mark.parametrize("grid", [(8, 12), (7, 9), (4, 9), (3, 2)])
def test_swin_stage_is_attention_among_all_pairs_of_points(grid):
    stage = randomized(SwinTransformer(4, grid, num_heads=2, window_size=4, depth=3))
    x = torch.randn(2, *grid, 4, dtype=torch.float64)
    expected = REFERENCE.swin_stage(stage.state_dict(prefix="stage."), "stage", x, (4, 4))
    torch.testing.assert_close(stage(x), expected)


def test_poles_do_not_attend_to_each_other():
    blocks = randomized(earth_blocks(4, (12, 12), 2, (6, 12), [0.0, 0.0]))
    x = torch.randn(1, 12, 12, 4, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(blocks[1](x)[:, 0].sum(), x)
    assert gradient[:, 2].abs().max() > 1e6 * gradient[:, 9:].abs().max()
    assert gradient[:, 3:9].abs().max() == 0  # in other windows


@pytest.mark.parametrize("heads", [0, 3])
def test_heads_that_do_not_divide_the_channels(heads):
    with pytest.raises(ValueError, match=f"got num_heads of {heads} for 4 channels; take another"):
        EarthAttention(4, Windows((4, 4), (2, 2)), heads)


@pytest.mark.parametrize(
    ("img_size", "patch_size"),
    [((8, 12), (4, 4)), ((181, 5), (4, 3)), ((721, 4), (4, 4)), ((13, 9, 10), (2, 4, 4))],
)
def test_patches_are_convolutions_of_padded_fields(img_size, patch_size):
    embed = randomized(PatchEmbed(img_size, patch_size, 3, 5))
    recover = randomized(PatchRecovery(img_size, patch_size, 5, 3))
    x = torch.randn(2, 3, *img_size, dtype=torch.float64)
    amounts = [REFERENCE.pads(n, p) for n, p in zip(img_size, patch_size, strict=True)]
    expected = REFERENCE.embed(embed.state_dict(prefix="embed."), "embed", x, amounts)
    vectors = embed(x)
    torch.testing.assert_close(vectors, expected)
    assert vectors.shape[1:-1] == embed.grid == recover.grid
    expected = REFERENCE.recover(
        recover.state_dict(prefix="recover."), "recover", vectors, img_size
    )
    torch.testing.assert_close(recover(vectors), expected)


@pytest.mark.parametrize("patch_size", [(2, 3), (1, 1), (2, 1, 3)])
def test_patches_split_and_join(patch_size):
    x = torch.randn(2, 5, *(2 * n for n in patch_size))
    torch.testing.assert_close(join_patches(split_patches(x, patch_size), patch_size), x)


@pytest.mark.parametrize(("size", "multiple", "expected"), [(181, 4, (1, 2)), (9, 5, (0, 1))])
def test_pads(size, multiple, expected):
    assert centered_pads([size], [multiple]) == (expected,)
    x = torch.randn(1, size, 2)
    padded = pad_grid(x, (expected,))
    assert padded.shape == (1, size + sum(expected), 2)
    assert padded.sum() == pytest.approx(float(x.sum()), abs=1e-4)
    torch.testing.assert_close(crop_grid(padded, (expected,)), x, atol=0, rtol=0)


@pytest.mark.parametrize("grid", [(4, 6), (5, 7), (2, 5, 6), (3, 4, 7)])
def test_resolutions(grid):
    down, up = randomized(DownSample(4, grid)), randomized(UpSample(4, grid))
    x = torch.randn(2, *grid, 4, dtype=torch.float64)
    coarse = down(x)
    expected = REFERENCE.downsample(down.state_dict(prefix="down."), "down", x)
    torch.testing.assert_close(coarse, expected)
    expected = REFERENCE.upsample(up.state_dict(prefix="up."), "up", coarse, grid[-2:])
    torch.testing.assert_close(up(coarse), expected)
    assert expected.shape == x.shape


def test_branches_are_dropped_in_training():
    blocks = randomized(earth_blocks(4, (4, 4), 2, (2, 2), [0.5]))
    x = torch.randn(1, 4, 4, 4, dtype=torch.float64).expand(64, -1, -1, -1)
    outputs = blocks[0](x)
    assert 2 <= len(outputs.round(decimals=8).unique(dim=0)) <= 4  # each branch or none of them
    same = blocks.eval()[0](x)
    torch.testing.assert_close(same, same[:1].expand_as(same))


def test_attention_under_autocast():
    module = EarthAttention(8, Windows((4, 6), (2, 3)), 2)
    x = torch.randn(1, 4, 6, 8)
    exact = module(x)
    with torch.autocast("cpu", torch.bfloat16):
        output = module(x)
    assert output.dtype == torch.bfloat16
    assert functional.mse_loss(output.float(), exact) < 1e-3 * exact.square().mean()
    output.float().sum().backward()
    assert module.earth_position_bias_table.grad.isfinite().all()


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_attention_as_compiled_for_a_gpu_is_that_of_others():
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 6, 9, 16, generator=generator)
    bias = torch.randn(1, 6, 9, 9, generator=generator)
    expected = functional.scaled_dot_product_attention(q, k, v, bias)
    torch.testing.assert_close(flex_with_bias(q, k, v, bias), expected)


@pytest.mark.parametrize("strict", [False, True])
def test_exported_attention_is_no_kernel_made_to_measure(strict, monkeypatch):
    seen = []
    monkeypatch.setattr(attention, "is_exporting", _seeing(attention.is_exporting, seen))
    module, x = EarthAttention(8, Windows((4, 6), (2, 3)), 2), torch.randn(1, 4, 6, 8)
    torch.export.export(module, (x,), strict=strict)
    exported, seen[:] = set(seen), []
    torch.compile(module, backend="eager", fullgraph=True)(x)
    assert (exported, set(seen)) == ({True}, {False})
    torch.compiler.reset()


def _seeing(function, seen):
    def watched():
        seen.append(function())
        return seen[-1]

    return assume_constant_result(watched)


@pytest.mark.parametrize("kind", ["earth", "swin"])
def test_masks_are_back_from_the_meta_device(kind):
    build = {
        "earth": lambda: earth_blocks(8, (3, 4, 6), 2, (2, 3, 2), [0.0, 0.0])[1],
        "swin": lambda: SwinTransformer(8, (4, 6), 2, 2, 2).layer.blocks[1],
    }[kind]
    block = build()
    with torch.device("meta"):
        other = build()
    with torch.device("meta"):  # whatever the default device is
        other.to_empty(device="cpu")
    other.load_state_dict(block.state_dict())
    assert torch.equal(other.attn_mask, block.attn_mask)
    assert torch.equal(copy.deepcopy(other).attn_mask, block.attn_mask)
    assert torch.equal(pickle.loads(pickle.dumps(other)).attn_mask, block.attn_mask)
    x = torch.randn(2, *{"earth": (3, 4, 6), "swin": (4, 6)}[kind], 8)
    assert torch.equal(other(x), block(x))


def test_import_needs_no_compiler():
    names = "window_layers", "dlwp", "dlwp_healpix", "pangu", "fengwu", "swinvrnn"
    imports = "; ".join(f"import physicsnemo.models.{name}" for name in names)
    code = (
        f"import sys; {imports}; print({{'torch._dynamo', 'torch._inductor'}} & {{*sys.modules}})"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"
