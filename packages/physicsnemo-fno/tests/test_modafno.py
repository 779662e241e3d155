# SPDX-License-Identifier: Apache-2.0
"""How ModAFNO takes the number that modulates it."""

import math

import pytest
import torch

from physicsnemo import Module
from physicsnemo.models.afno import ModAFNO
from physicsnemo.models.afno.modembed import (
    ModEmbedNet,
    OneHotEmbedding,
    SinusoidalTimestepEmbedding,
)

SMALL = {
    "inp_shape": [6, 10],
    "patch_size": [2, 2],
    "in_channels": 1,
    "out_channels": 1,
    "embed_dim": 8,
    "depth": 1,
    "mod_dim": 6,
}
FIELD = torch.randn(3, 1, 6, 10, generator=torch.Generator().manual_seed(0))
TIMES = torch.tensor([0.0, 0.3, 1.0])


def test_sinusoidal_embedding():
    embedded = SinusoidalTimestepEmbedding(6)(TIMES[:, None])
    for t, row in zip(TIMES.tolist(), embedded, strict=True):
        cosines = [math.cos(math.pi * k * t) for k in (1, 2, 3)]
        sines = [math.sin(math.pi * k * t) for k in (1, 2, 3)]
        torch.testing.assert_close(row, torch.tensor(cosines + sines))


def test_onehot_embedding_interpolates():
    embedded = OneHotEmbedding(5)(torch.tensor([0.0, 0.3, 0.5, 1.0])[:, None])
    expected = [[1, 0, 0, 0, 0], [0, 0.8, 0.2, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 1]]
    torch.testing.assert_close(embedded, torch.tensor(expected))


@pytest.mark.parametrize(
    ("method", "embedding", "name"),
    [
        ("sinusoidal", SinusoidalTimestepEmbedding, "sinusoid_embed.freqs"),
        ("onehot", OneHotEmbedding, "onehot_embed.indices"),
    ],
)
def test_network_of_the_embedding(method, embedding, name):
    net = ModEmbedNet(max_time=4.0, dim=6, depth=2, activation_fn="tanh", method=method)
    linear = [f"mlp.{k}.{part}" for k in (0, 2) for part in ("weight", "bias")]
    assert list(net.state_dict()) == [name, *linear]
    expected = embedding(6)(TIMES[:, None] / 4)
    for k in (0, 2):
        expected = torch.tanh(net.mlp[k](expected))
    torch.testing.assert_close(net(TIMES), expected)
    torch.testing.assert_close(net(TIMES[:, None]), expected)


def test_network_without_layers():
    torch.testing.assert_close(
        ModEmbedNet(dim=6, depth=0)(TIMES), SinusoidalTimestepEmbedding(6)(TIMES[:, None])
    )


def test_every_layer_has_an_activation_of_its_own():
    net = ModEmbedNet(dim=6, depth=2, activation_fn=torch.nn.PReLU)
    assert net.mlp[1] is not net.mlp[3]


def test_the_number_matters_for_its_sample_only():
    model = ModAFNO(**SMALL)
    output = model(FIELD, TIMES)
    torch.testing.assert_close(model(FIELD, TIMES[:, None]), output)
    for k in range(3):
        torch.testing.assert_close(model(FIELD[k : k + 1], TIMES[k : k + 1]), output[k : k + 1])
    other = model(FIELD, TIMES + torch.tensor([0.0, 0.5, 0.0]))
    changed = (other - output).abs().amax((1, 2, 3))
    assert changed[1] > 1e-3
    assert changed[[0, 2]].max() < 1e-6


def test_maximal_time_sets_the_unit():
    hours = ModAFNO(**SMALL, embed_model={"max_time": 6.0})
    unit = ModAFNO(**SMALL)
    unit.load_state_dict(hours.state_dict())
    torch.testing.assert_close(hours(FIELD, 6 * TIMES), unit(FIELD, TIMES))


def test_arguments_of_the_embedding_in_a_file(tmp_path):
    embed_model = {"method": "onehot", "depth": 3, "activation_fn": "silu"}
    model = ModAFNO(**SMALL, embed_model=embed_model)
    assert embed_model == {"method": "onehot", "depth": 3, "activation_fn": "silu"}
    model.save(tmp_path / "model.mdlus")
    same = Module.from_checkpoint(tmp_path / "model.mdlus")
    torch.testing.assert_close(same(FIELD, TIMES), model(FIELD, TIMES), atol=0, rtol=0)


def test_no_feature():
    with pytest.raises(ValueError, match="expected at least one feature, got dim=0"):
        OneHotEmbedding(0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"embed_model": {"dim": 4}}, ValueError, "mod_dim=6 .* got dim=4; .* or set mod_dim=4"),
        ({"embed_model": {"method": "linear"}}, ValueError, "sinusoidal or onehot, got 'linear'"),
        ({"embed_model": {"activation_fn": "gulu"}}, KeyError, "no activation is named 'gulu'"),
        ({"mod_dim": 5}, ValueError, "even number of sinusoidal features, got dim=5"),
        ({"scale_shift_mode": "both"}, ValueError, "one of complex, real, got 'both'"),
        (
            {"scale_shift_mode": "both", "modulate_filter": False},
            ValueError,
            "one of complex, real, got 'both'",
        ),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        ModAFNO(**SMALL | arguments)


@pytest.mark.parametrize(
    ("mod", "error", "message"),
    [
        (torch.ones(2), ValueError, r"shape \(batch=3\), got \(2,\), where batch is 2"),
        (torch.ones(3, 2), ValueError, r"shape \(batch=3, number=1\), got \(3, 2\)"),
        (torch.ones(3, 1, 1), ValueError, "which has 3 dimensions"),
        (torch.tensor([1, 2, 3]), TypeError, "floating-point numbers, got torch.int64"),
    ],
)
def test_bad_numbers(mod, error, message):
    with pytest.raises(error, match=message):
        ModAFNO(**SMALL)(FIELD, mod)


@pytest.mark.parametrize("mod", [torch.ones(3), torch.ones(3, 1), torch.ones(2, 6)])
def test_bad_features(mod):
    model = ModAFNO(**SMALL, modulate_filter=False, modulate_mlp=False)
    assert model(FIELD, torch.ones(3, 6)).shape == FIELD.shape
    with pytest.raises(ValueError, match=r"shape \(batch=3, mod_dim=6\), got"):
        model(FIELD, mod)
