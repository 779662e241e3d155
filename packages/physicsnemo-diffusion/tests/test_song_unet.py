# SPDX-License-Identifier: Apache-2.0
"""The U-Net of Song et al.: its levels, what its options change, and what it refuses."""

import io
import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from physicsnemo import Module
from physicsnemo.models.diffusion import DhariwalUNet, SongUNet

SMALL = {
    "img_resolution": [8, 12],
    "in_channels": 3,
    "out_channels": 2,
    "model_channels": 8,
    "channel_mult": [1, 2],
    "channel_mult_emb": 2,
    "num_blocks": 1,
    "attn_resolutions": [4],
}
X = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
NOISE = torch.tensor([0.3, -1.2])


def song(**options):
    torch.manual_seed(0)
    return SongUNet(**SMALL | options)


def lively(**options):
    """Return a model with weights that all count: many start close to zero."""
    model = song(**options)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def test_levels_and_attention():
    model = SongUNet(
        16, 3, 2, model_channels=4, channel_mult=[1, 2, 3], num_blocks=2, attn_resolutions=[16, 4]
    )
    with_attention = [
        f"{part}.{name}"
        for part in ("enc", "dec")
        for name, layer in getattr(model, part).items()
        if getattr(layer, "attn", None) is not None
    ]
    assert with_attention == [
        "enc.16x16_block0",
        "enc.16x16_block1",
        "enc.4x4_block0",
        "enc.4x4_block1",
        "dec.4x4_in0",
        "dec.4x4_block2",
        "dec.16x16_block2",
    ]
    widths = {name: layer.norm1.weight.numel() for name, layer in list(model.enc.items())[1:]}
    assert [widths[f"{size}_block0"] for size in ("16x16", "8x8", "4x4")] == [4, 8, 12]
    assert model.dec["16x16_up"].conv0.up
    assert [name for name in model.enc if name.endswith("_down")] == ["8x8_down", "4x4_down"]


def test_start_values():
    model = song(model_channels=64, label_dim=3)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            expected = "norm" in name or parameter.abs().max() == 0
            assert expected, name
    fans = 3 * 3 * (64 + 64)
    conv0 = model.enc["8x8_block0"].conv0.weight
    assert conv0.std().item() == pytest.approx(math.sqrt(2 / fans), rel=0.05)
    conv1 = model.enc["8x8_block0"].conv1.weight
    assert conv1.std().item() == pytest.approx(1e-5 * math.sqrt(2 / fans), rel=0.05)
    qkv = model.enc["4x4_block0"].attn.qkv.weight
    assert qkv.std().item() == pytest.approx(math.sqrt(0.2 * 2 / (128 + 3 * 128)), rel=0.05)


def test_other_sizes():
    model = song().eval()
    assert model(X[..., :6, :2], NOISE, None).shape == (2, 2, 6, 2)
    assert model(X.repeat(1, 1, 2, 1), NOISE, None).shape == (2, 2, 16, 12)


def test_one_noise_level_for_all():
    model = lively().eval()
    together, each = model(X, NOISE[:1], None), model(X, NOISE[:1].expand(2), None)
    torch.testing.assert_close(together, each, atol=1e-5, rtol=1e-5)


def test_noise_levels_and_labels_count():
    model = lively(label_dim=3, augment_dim=2).eval()
    labels, augment = torch.eye(3)[:2], torch.eye(2)
    output = model(X, NOISE, labels, augment)
    for other in (
        model(X, NOISE.flip(0), labels, augment),
        model(X, NOISE, labels.flip(0), augment),
        model(X, NOISE, labels, augment.flip(0)),
        model(X, NOISE, labels),
    ):
        assert (other - output).abs().amax((1, 2, 3)).min() > 1e-3


def test_labels_are_ignored_where_there_are_none():
    model = song().eval()
    expected = model(X, NOISE, None)
    output = model(X, NOISE, torch.zeros(1, 1, dtype=torch.int64), torch.ones(2, 5))
    torch.testing.assert_close(output, expected, atol=0, rtol=0)


def test_dropout_in_training_only():
    model = lively(dropout=0.5)
    assert (model(X, NOISE, None) - model(X, NOISE, None)).abs().max() > 1e-2
    model.eval()
    torch.testing.assert_close(model(X, NOISE, None), lively(dropout=0).eval()(X, NOISE, None))


def test_dropped_labels_are_zero():
    model = lively(label_dim=3, label_dropout=0.5, dropout=0)
    x, noise, labels = X[:1].repeat(40, 1, 1, 1), NOISE[:1], torch.ones(1, 3)
    output = model(x, noise, labels)
    kept, dropped = (model.eval()(x[:1], noise, factor * labels) for factor in (1, 0))
    distances = torch.stack([(output - it).abs().amax((1, 2, 3)) for it in (kept, dropped)])
    assert distances.min(dim=0).values.max() < 1e-4
    assert 8 < (distances[0] < 1e-4).sum() < 32


@pytest.mark.parametrize("level", [1, 2])
def test_recomputation_changes_no_gradient(level, monkeypatch):
    from physicsnemo.nn import checkpointing

    calls = []
    real = checkpointing.checkpoint
    monkeypatch.setattr(
        checkpointing, "checkpoint", lambda *args, **kw: calls.append(args[0]) or real(*args, **kw)
    )
    gradients = []
    for model in (lively(), lively(checkpoint_level=level)):
        torch.manual_seed(1)  # of dropout
        model(X, NOISE, None).square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    torch.testing.assert_close(gradients[1], gradients[0])
    names = {name for part in (model.enc, model.dec) for name, it in part.items() if it in calls}
    high = {"8x8_block0", "8x8_block1", "4x4_down", "8x8_up"}
    assert names == (
        high if level == 1 else high | {"4x4_block0", "4x4_block1", "4x4_in0", "4x4_in1"}
    )


def test_unbiased_variance_in_evaluation_of_the_reference():
    ours, theirs = lively(), lively(numerics="reference-1.2")
    x = X[..., :6, :2]
    for model in (ours, theirs):
        for module in model.modules():
            if hasattr(module, "dropout"):
                module.dropout = 0.0
    torch.testing.assert_close(theirs(x, NOISE, None), ours(x, NOISE, None))
    expected = ours(x, NOISE, None)
    torch.testing.assert_close(ours.eval()(x, NOISE, None), expected)
    assert (theirs.eval()(x, NOISE, None) - expected).abs().max() > 1e-3


def test_files_mean_the_numerics_of_the_release_that_wrote_them(tmp_path):
    for numerics in ("paper", "reference-1.2", "reference-2.1"):
        song(numerics=numerics).save(tmp_path / "model.mdlus")
        loaded = Module.from_checkpoint(tmp_path / "model.mdlus")
        assert loaded.enc["8x8_block0"].norm0.unbiased_in_eval == (numerics != "paper")


def test_overriding_the_activation(tmp_path):
    lively().save(tmp_path / "model.mdlus")
    other = Module.from_checkpoint(tmp_path / "model.mdlus", {"act": "relu"}).eval()
    assert (other(X, NOISE, None) - lively().eval()(X, NOISE, None)).abs().max() > 1e-2


def test_former_names_of_attention(tmp_path):
    model = lively()
    renamed = {"attn.norm.": "norm2.", "attn.qkv.": "qkv.", "attn.proj.": "proj."}
    state = {}
    for key, value in model.state_dict().items():
        for current, former in renamed.items():
            key = key.replace(current, former)
        state[key] = value
    assert any(".norm2." in key for key in state)
    other = song()
    other.load_state_dict(state)
    torch.testing.assert_close(dict(other.named_parameters()), dict(model.named_parameters()))


@pytest.mark.parametrize("flag", ["amp_mode", "profile_mode"])
def test_flags_reach_all_layers(flag):
    model = song(**{flag: True})
    layers = [layer for layer in model.modules() if flag in vars(layer)]
    assert len(layers) >= 10
    assert getattr(model, flag) is True
    assert all(getattr(layer, flag) for layer in layers)
    setattr(model, flag, False)
    assert not any(getattr(layer, flag) for layer in layers)
    with pytest.raises(TypeError, match=f"expected {flag} to be True or False, got 1"):
        setattr(model, flag, 1)


def test_profile():
    model = song(profile_mode=True).eval()
    with torch.profiler.profile() as profile:
        model(X, NOISE, None)
    names = [event.name for event in profile.events()]
    assert names.count("SongUNet") == 1
    assert names.count("UNetBlock") == 10


class FlopsByType(TorchDispatchMode):
    """Counts the operations of convolutions and products by the type of their factors."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            dtype = next(arg.dtype for arg in args if isinstance(arg, torch.Tensor))
            self.counts[dtype] += count(*args, **(kwargs or {}), out_val=out)
        return out


@pytest.mark.parametrize("amp_mode", [False, True])
def test_autocast_computes_nearly_everything_in_half_precision(amp_mode):
    model = lively(amp_mode=amp_mode, encoder_type="residual", decoder_type="skip")
    with FlopsByType() as flops:
        with torch.autocast("cpu", torch.bfloat16):
            output = model(X, NOISE, None)
        output.float().square().sum().backward()
    assert flops.counts[torch.bfloat16] > 1e6
    assert flops.counts[torch.bfloat16] > 0.99 * flops.counts.total()
    assert all(p.grad.dtype == torch.float32 for p in model.parameters() if p.grad is not None)


def test_memory_format_is_kept():
    model = lively().to(memory_format=torch.channels_last).eval()
    x = X.to(memory_format=torch.channels_last)
    output = model(x, NOISE, None)
    assert output.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(output, model(X, NOISE, None), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"encoder_type": "residual", "embedding_type": "fourier", "resample_filter": [1, 3, 3, 1]},
        {"encoder_type": "skip", "decoder_type": "skip", "checkpoint_level": 1},
    ],
)
def test_compiles_without_graph_breaks(options):
    model = lively(**options, dropout=0, profile_mode=True)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    outputs = [it(X, NOISE, None) for it in (model, compiled)]
    torch.testing.assert_close(outputs[1], outputs[0])
    gradients = [torch.autograd.grad(it.square().sum(), list(model.parameters())) for it in outputs]
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-3)


def test_trace():
    model = lively(label_dim=3).eval()
    labels = torch.eye(3)[:2]
    traced = torch.jit.trace(model, (X, NOISE, labels))
    stored = io.BytesIO()
    torch.jit.save(traced, stored)
    stored.seek(0)
    inputs = (X.flip(0), NOISE.flip(0), labels)
    torch.testing.assert_close(torch.jit.load(stored)(*inputs), model(*inputs))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding_type": "none"}, "embedding_type to be one of positional, .*, got 'none'"),
        ({"encoder_type": "deep"}, "encoder_type to be one of standard, .*, got 'deep'"),
        ({"decoder_type": "residual"}, "decoder_type to be one of standard, skip, got 'residual'"),
        ({"channel_mult": [1] * 6}, "6 levels halve the resolution 5 times, .* a height of 8"),
        ({"channel_mult": []}, "positive number of channels for each level"),
        ({"img_resolution": "88"}, "one number, or height and width, got '88'"),
        ({"num_blocks": -1}, "num_blocks of at least 0, got -1"),
        ({"attn_resolutions": [[4, 4]]}, r"heights of levels, got \[\[4, 4\]\]"),
        ({"img_resolution": [8, 8, 8]}, r"one number, or height and width, got \[8, 8, 8\]"),
        ({"checkpoint_level": -1}, "checkpoint_level of at least 0, got -1"),
        ({"act": "tan"}, "act to be one of silu, .*, got 'tan'"),
        ({"numerics": "exact"}, "numerics to be one of paper, .*, got 'exact'"),
        ({"model_channels": 10}, "channels that 3 groups divide, got 10; change model_channels"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        song(**options)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ((X[:, :2], NOISE, None), ValueError, r"\(batch, in_channels=3, height, width\), got"),
        ((X[0], NOISE, None), ValueError, "which has 3 dimensions"),
        ((X.long(), NOISE, None), TypeError, "floating-point numbers, got torch.int64"),
        ((X[..., :7, :], NOISE, None), ValueError, "multiples of 2, .* got 7 by 12; pad"),
        ((X[..., :5], NOISE, None), ValueError, "multiples of 2, .* got 8 by 5; pad"),
        ((X, NOISE[[0, 1, 1]], None), ValueError, r"shape \(batch=2,\) or \(1,\), got \(3,\)"),
        ((X, NOISE[:, None], None), ValueError, r"noise_labels of shape .*, got \(2, 1\)"),
    ],
)
def test_bad_inputs(inputs, error, message):
    with pytest.raises(error, match=message):
        song()(*inputs)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (None, TypeError, r"class_labels of shape \(batch=2, 3\), got None"),
        (torch.ones(2, 4), ValueError, r"\(batch=2, 3\) or \(1, 3\), got \(2, 4\)"),
        (torch.ones(3, 3), ValueError, r"got \(3, 3\)"),
        (torch.ones(3), ValueError, r"got \(3,\)"),
    ],
)
def test_bad_labels(labels, error, message):
    with pytest.raises(error, match=message):
        song(label_dim=3)(X, NOISE, labels)


def test_bad_augment_labels():
    with pytest.raises(ValueError, match=r"augment_labels of shape \(batch=2, 2\)"):
        song(augment_dim=2)(X, NOISE, None, torch.ones(2, 3))


def test_a_learned_field_fixes_the_size():
    with pytest.raises(ValueError, match="height=8, width=12.* where width is 10"):
        song(additive_pos_embed=True)(X[..., :10], NOISE, None)


def test_no_block_but_those_that_resample():
    model = SongUNet(**SMALL | {"num_blocks": 0, "channel_mult": [1, 1]})
    assert [name for name in model.enc if "block" in name] == []
    assert model(X, NOISE, None).shape[2:] == X.shape[2:]


def test_five_levels_at_a_resolution_of_eight():
    """As nvidia-physicsnemo builds it, for images that are larger than the resolution says."""
    options = SMALL | {"channel_mult": [1] * 5, "attn_resolutions": []}
    model = SongUNet(**options | {"img_resolution": 8}).eval()
    assert "0x0_down" in model.enc
    larger = SongUNet(**options | {"img_resolution": 16}).eval()
    larger.load_state_dict(dict(zip(larger.state_dict(), model.state_dict().values(), strict=True)))
    x = torch.randn(2, X.shape[1], 16, 32)
    torch.testing.assert_close(model(x, NOISE), larger(x, NOISE), rtol=0, atol=0)
    with pytest.raises(ValueError, match="multiples of 16, .* got 8 by 8"):
        model(x[..., :8, :8], NOISE)


@pytest.mark.parametrize("taps", [[1, 2, 1], [1], [1, 4, 6, 4, 1]])
def test_filters_of_odd_length_resample_odd_sizes(taps):
    model = SongUNet(**SMALL | {"resample_filter": taps, "channel_mult": [1, 1, 1]})
    x = torch.randn(2, X.shape[1], 9, 13)
    assert model(x, NOISE).shape[2:] == (9, 13)
    with pytest.raises(ValueError, match="multiples of 4 and one more, .* got 8 by 12"):
        model(x[..., :8, :12], NOISE)


def test_numpy_numbers_as_arguments():
    numbers = {"img_resolution": [*np.array([8, 12])], "num_blocks": np.int64(1)}
    numbers |= {"channel_mult": [*np.array([1, 2])], "attn_resolutions": [*np.array([4])]}
    expected = SongUNet(**SMALL | {"img_resolution": [8, 12], "num_blocks": 1})
    model = SongUNet(**SMALL | {"channel_mult": [1, 2], "attn_resolutions": [4]} | numbers)
    assert model.img_shape == expected.img_shape
    assert DhariwalUNet(np.int64(8), 2, 2, model_channels=np.int32(64), num_blocks=1).levels
