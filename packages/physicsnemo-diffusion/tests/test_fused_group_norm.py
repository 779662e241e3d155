# SPDX-License-Identifier: Apache-2.0
"""When group normalization is fused, with the formula in place of kernels, which need a GPU."""

from types import SimpleNamespace

import pytest
import torch
from torch.autograd import forward_ad

from physicsnemo.models.diffusion import DhariwalUNet, GroupNorm, SongUNet, UNetBlock, _domain
from physicsnemo.models.diffusion.layers import _fused_group_norm as fused
from physicsnemo.models.diffusion.layers import normalization

SMALL = {"model_channels": 32, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [8]}


class Formula:
    """Stands in for the kernels, and counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x, weight, bias, groups, eps, *, unbiased, silu, offset, modulation, domain):
        self.calls += 1
        signals = (offset, *(modulation or (None, None)))
        vectors = [None if it is None else it[..., 0, 0] for it in signals]
        return fused._formula(x, weight, bias, *vectors, groups, eps, float(unbiased), silu, domain)


@pytest.fixture
def formula(monkeypatch):
    """Let CPUs fuse, by the formula."""
    stand_in = Formula()
    monkeypatch.setattr(normalization, "_FUSED_ON", ("cpu",))
    monkeypatch.setattr(normalization, "_FEWEST_FUSED", 1)
    monkeypatch.setattr(fused, "is_usable", lambda device: True)
    monkeypatch.setattr(fused, "group_norm", stand_in)
    return stand_in


def varied(model):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model.to(memory_format=torch.channels_last)


def images(*shape):
    return (2 + torch.randn(shape)).to(memory_format=torch.channels_last)


def silu_norm(**options):
    return varied(GroupNorm(8, fused_act=True, act="silu", **options))


def test_channels_last_images_are_fused(formula):
    norm, x = silu_norm(), images(2, 8, 3, 5)
    fused_result = norm(x)
    assert formula.calls == 1
    torch.testing.assert_close(fused_result, norm(x.contiguous()))
    assert formula.calls == 1


@pytest.mark.parametrize(("fewest", "calls"), [(240, 1), (241, 0)])
def test_small_images_are_not_fused(fewest, calls, formula, monkeypatch):
    monkeypatch.setattr(normalization, "_FEWEST_FUSED", fewest)
    silu_norm()(images(2, 8, 3, 5))
    assert formula.calls == calls


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("act", ["silu", "relu", None])
def test_numerics_and_activations(training, act, formula):
    options = {"fused_act": act is not None, "act": act, "numerics": "reference-1.2", "eps": 0.1}
    norm, x = varied(GroupNorm(8, **options)).train(training), images(2, 8, 3, 5)
    torch.testing.assert_close(norm(x), norm(x.contiguous()))
    assert formula.calls == 1


@pytest.mark.parametrize("batch", [1, 2])
def test_what_modulates(batch, formula):
    norm, x = silu_norm(), images(2, 8, 3, 5)
    offset, *modulation = torch.randn(3, batch, 8, 1, 1)
    for options in ({"offset": offset}, {"modulation": modulation}):
        torch.testing.assert_close(norm(x, **options), norm(x.contiguous(), **options))
    assert formula.calls == 2


@pytest.mark.parametrize(
    "x",
    [
        images(2, 8, 3, 5).contiguous(),
        images(2, 8, 3, 5).double(),
        images(0, 8, 3, 5),
        images(2, 8, 1, 1),
        images(2, 8, 4, 4)[..., ::2],
        images(2, 8, 3, 5)[:, :, 0],
    ],
    ids=["contiguous", "float64", "empty", "one pixel", "strided", "a row"],
)
def test_other_images_are_not(x, formula):
    silu_norm().to(x.dtype)(x)
    assert formula.calls == 0


def test_nothing_is_without_kernels(formula, monkeypatch):
    monkeypatch.setattr(fused, "is_usable", lambda device: False)
    silu_norm()(images(2, 8, 3, 5))
    assert formula.calls == 0


def test_nothing_is_on_a_cpu(monkeypatch):
    monkeypatch.setattr(fused, "is_usable", lambda device: True)
    assert not silu_norm()._is_fusable([images(2, 8, 3, 5)])


def test_subclasses_are_not(formula):
    """DTensor, say, or the tensors without data that estimates of memory pass through models."""

    class Own(torch.Tensor):
        pass

    norm, x = silu_norm(), images(2, 8, 3, 5)
    norm(x.as_subclass(Own))
    norm.weight = torch.nn.Parameter(norm.weight.detach().as_subclass(Own))
    norm(x)
    assert formula.calls == 0


def test_errors_stay_those_of_pytorch(formula):
    norm, x = silu_norm(), images(2, 8, 3, 5)
    with pytest.raises(RuntimeError, match="12"):
        norm(images(2, 12, 3, 5))
    with pytest.raises(RuntimeError, match="must match"):
        norm(x, offset=torch.zeros(2, 8, 2, 5))
    with pytest.raises(RuntimeError, match="meta"):
        norm(x, offset=torch.zeros(2, 8, 1, 1, device="meta"))
    assert formula.calls == 0


def test_traces_and_transforms_are_not(formula):
    norm, x = silu_norm(), images(2, 8, 3, 5)
    torch.export.export(norm, (x,))
    torch.jit.trace(norm, (x,), check_trace=False)
    torch.func.vmap(norm)(x[None])
    torch.func.jvp(norm, (x.contiguous(),), (x.contiguous(),))
    with forward_ad.dual_level():
        norm(forward_ad.make_dual(x.contiguous(), x.contiguous()))
        norm(x)
    torch.compile(norm, fullgraph=True, backend="eager")(x)
    assert formula.calls == 0


@pytest.mark.parametrize("counts", [(3, 3), (3, 4)])
def test_ranks_that_share_an_image_do_if_they_have_as_many_rows(formula, counts):
    norm, x = silu_norm(), images(2, 8, 3, 5)
    domain = SimpleNamespace(
        normalize_groups=lambda x, *args, **options: torch.zeros_like(x), counts=lambda rows: counts
    )
    _domain.normalization(norm, domain)
    y = norm(x)
    even = counts[0] == counts[1]
    expected = torch.nn.functional.silu(norm.bias) if even else torch.zeros(8)
    torch.testing.assert_close(y, expected[:, None, None].expand_as(y))
    assert formula.calls == even


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
def test_block(adaptive, batch, formula):
    block = varied(UNetBlock(8, 12, 5, adaptive_scale=adaptive))
    x, emb = images(2, 8, 4, 6), torch.randn(batch, 5)
    found = block(x, emb)
    assert formula.calls == 2
    formula.calls = 0
    normalization._FUSED_ON = ()
    torch.testing.assert_close(found, block(x, emb), rtol=1e-4, atol=1e-5)
    assert formula.calls == 0


@pytest.mark.parametrize("network", [SongUNet, DhariwalUNet])
def test_network(network, formula, monkeypatch):
    model = network(16, in_channels=3, out_channels=2, **SMALL).to(
        memory_format=torch.channels_last
    )
    x, noise = images(2, 3, 16, 16), torch.rand(2)
    found = model(x, noise)
    # Both of each block, and the last; where attention has made images contiguous, neither.
    assert formula.calls >= 8
    monkeypatch.setattr(normalization, "_FUSED_ON", ())
    torch.testing.assert_close(found, model(x, noise), rtol=1e-4, atol=1e-5)


def test_gradients_by_the_formula():
    """Those that are themselves differentiated; of tensors too that depend on each other."""
    scale = torch.randn(2, 8, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 8, 3, 2) + scale[..., None, None]
    weight, bias = torch.randn(2, 8)
    tensors = [x, weight, bias, None, scale, 2 * scale]
    dy = torch.randn_like(x)
    needed = (True, False, False, False, True, True)
    found = fused._gradients(tensors, needed, dy, (2, 1e-3, 0.0, True, None))
    assert [it is None for it in found] == [not it for it in needed]
    leaves = [x.detach().requires_grad_(), weight, bias, None]
    signals = [it.detach().requires_grad_() for it in tensors[4:]]
    y = fused._formula(*leaves, *signals, 2, 1e-3, 0.0, True, None)
    expected = torch.autograd.grad(y, (leaves[0], *signals), dy)
    for got, right in zip((found[0], *found[4:]), expected, strict=True):
        torch.testing.assert_close(got, right)
        assert got.requires_grad
