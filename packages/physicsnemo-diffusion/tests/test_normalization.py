# SPDX-License-Identifier: Apache-2.0
"""Group normalization, in the numerics of the paper and of the reference, and by Apex."""

import sys
import types

import pytest
import torch
from torch import nn
from torch.nn import functional

from physicsnemo.models.diffusion import GroupNorm


def image(*shape, seed=0):
    return 2 + torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def varied(norm):
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    return norm


def by_definition(norm, x, correction):
    groups = x.reshape(len(x), norm.num_groups, -1)
    var, mean = torch.var_mean(groups, dim=2, correction=correction, keepdim=True)
    normalized = ((groups - mean) / (var + norm.eps).sqrt()).reshape(x.shape)
    return normalized * norm.weight[:, None, None] + norm.bias[:, None, None]


@pytest.mark.parametrize(("channels", "groups"), [(4, 1), (5, 1), (8, 2), (64, 16), (256, 32)])
def test_number_of_groups(channels, groups):
    if channels == 5:
        with pytest.raises(ValueError, match="channels that 2 groups divide, got 5"):
            GroupNorm(channels)
        return
    assert GroupNorm(channels).num_groups == groups


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("numerics", "unbiased"), [("paper", False), ("reference-1.2", True), ("reference-2.1", True)]
)
def test_variance(training, numerics, unbiased):
    norm = varied(GroupNorm(8, eps=0.1, numerics=numerics)).train(training).double()
    x = image(2, 8, 3, 5).double()
    correction = 1 if unbiased and not training else 0
    torch.testing.assert_close(norm(x), by_definition(norm, x, correction))


def test_no_such_numerics():
    with pytest.raises(ValueError, match="numerics to be one of paper, .*, got 'exact'"):
        GroupNorm(8, numerics="exact")


@pytest.mark.parametrize(
    ("act", "function"),
    [
        ("silu", functional.silu),
        ("relu", functional.relu),
        ("leaky_relu", lambda x: functional.leaky_relu(x, 0.01)),
        ("sigmoid", torch.sigmoid),
        ("tanh", torch.tanh),
        ("gelu", functional.gelu),
        ("elu", functional.elu),
    ],
)
def test_activation(act, function):
    x = image(2, 8, 3, 5)
    plain, fused = GroupNorm(8, act=act), GroupNorm(8, fused_act=True, act=act)
    torch.testing.assert_close(fused(x), function(plain(x)))


@pytest.mark.parametrize("act", [None, "swish"])
def test_no_such_activation(act):
    with pytest.raises(ValueError, match=f"act to be one of silu, .*, got {act!r}"):
        GroupNorm(8, fused_act=True, act=act)


@pytest.mark.parametrize("amp_mode", [False, True])
def test_half_precision(amp_mode):
    norm = varied(GroupNorm(8, fused_act=True, act="silu", amp_mode=amp_mode))
    x = 100 + image(2, 8, 3, 5)
    exact = norm(x.bfloat16().float())
    assert norm(x.bfloat16()).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = norm(x.bfloat16())
        assert norm(x).dtype == torch.float32
    assert under_autocast.dtype == torch.bfloat16
    torch.testing.assert_close(under_autocast.float(), exact, rtol=0.02, atol=0.02)


def test_memory_format_is_kept():
    x = image(2, 8, 3, 5).to(memory_format=torch.channels_last)
    norm = GroupNorm(8, fused_act=True, act="silu")
    assert norm(x).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(norm(x), norm(x.contiguous()))


class StandIn(nn.GroupNorm):
    """A module with the interface of Apex's, whose kernels need a GPU."""


@pytest.fixture
def apex(monkeypatch):
    module = types.ModuleType("apex.contrib.group_norm")
    module.GroupNorm = StandIn
    monkeypatch.setitem(sys.modules, "apex.contrib.group_norm", module)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


@pytest.mark.usefixtures("apex")
def test_apex():
    norm = varied(GroupNorm(8, use_apex_gn=True, fused_act=True, act="silu", eps=0.1))
    assert isinstance(norm.gn, StandIn)
    assert list(norm.state_dict()) == ["weight", "bias", "gn.weight", "gn.bias"]
    plain = GroupNorm(8, fused_act=True, act="silu", eps=0.1)
    plain.load_state_dict({"weight": norm.weight, "bias": norm.bias})
    x = image(2, 8, 3, 5)
    torch.testing.assert_close(norm(x), plain(x))


@pytest.mark.usefixtures("apex")
def test_weights_pass_between_apex_and_pytorch():
    norm, plain = varied(GroupNorm(8, use_apex_gn=True)), GroupNorm(8)
    plain.load_state_dict(norm.state_dict())
    torch.testing.assert_close(plain.weight, norm.gn.weight)
    # Files of the reference have both, of which those of Apex were trained.
    trained = {"gn.weight": torch.full((8,), 3.0), "gn.bias": torch.full((8,), 4.0)}
    plain.load_state_dict({"weight": torch.ones(8), "bias": torch.zeros(8)} | trained)
    assert plain.weight.eq(3).all()
    assert plain.bias.eq(4).all()
    norm.load_state_dict(plain.state_dict())
    assert norm.gn.weight.eq(3).all()
    norm.load_state_dict({"weight": torch.ones(8), "bias": torch.zeros(8)} | trained)
    assert norm.weight.eq(3).all()


def test_no_apex(monkeypatch):
    monkeypatch.setitem(sys.modules, "apex", None)
    with pytest.raises(ValueError, match="needs NVIDIA Apex .* or leave use_apex_gn out"):
        GroupNorm(8, use_apex_gn=True)


@pytest.mark.usefixtures("apex")
def test_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="needs a GPU"):
        GroupNorm(8, use_apex_gn=True)


def test_weights_in_half_precision_are_rounded_only_once():
    """The factor of the unbiased variance does not round them again, as features are not halves."""
    torch.manual_seed(0)
    norm = GroupNorm(8, numerics="reference-1.2").half().eval()
    norm.weight.data.uniform_(0.5, 2)
    exact = GroupNorm(8, numerics="reference-1.2").eval()
    exact.load_state_dict({name: it.float() for name, it in norm.state_dict().items()})
    x = torch.randn(2, 8, 4, 4)
    torch.testing.assert_close(norm(x), exact(x), rtol=1e-6, atol=1e-6)
