# SPDX-License-Identifier: Apache-2.0
"""Features of noise levels against their formulas."""

import math

import pytest
import torch

from physicsnemo.models.diffusion import FourierEmbedding, PositionalEmbedding

X = torch.tensor([-1.5, 0.0, 0.25, 999.0])


@pytest.mark.parametrize("endpoint", [False, True])
def test_positional(endpoint):
    features = PositionalEmbedding(8, max_positions=1000, endpoint=endpoint).double()(X.double())
    for index, x in enumerate(X.tolist()):
        for k in range(4):
            angle = x * 1000 ** (-k / (3 if endpoint else 4))
            expected = [math.cos(angle), math.sin(angle)]
            assert features[index, [k, 4 + k]].tolist() == pytest.approx(expected, abs=1e-3)
    small = features[:3]
    assert torch.equal(small[1], torch.tensor([1.0] * 4 + [0.0] * 4, dtype=torch.float64))


def test_fourier():
    torch.manual_seed(0)
    embedding = FourierEmbedding(600, scale=2)
    assert embedding.freqs.std().item() == pytest.approx(2, rel=0.1)
    assert list(embedding.state_dict()) == ["freqs"]
    angles = 2 * math.pi * X[:3, None] * embedding.freqs
    expected = torch.cat((angles.cos(), angles.sin()), dim=1)
    torch.testing.assert_close(embedding(X[:3]), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("make", [PositionalEmbedding, FourierEmbedding])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_angles_are_not_rounded_in_half_precision(make, dtype):
    torch.manual_seed(0)
    embedding = make(8)
    expected = embedding(X)
    half = embedding.to(dtype)
    torch.testing.assert_close(half(X.to(dtype).float()), half(X.to(dtype)), atol=0, rtol=0)
    torch.testing.assert_close(half(X), expected, atol=0, rtol=0)
    assert embedding.double()(X.double()).dtype == torch.float64


@pytest.mark.parametrize("make", [PositionalEmbedding, FourierEmbedding])
def test_whole_numbers(make):
    embedding = make(8)
    torch.testing.assert_close(embedding(torch.arange(5)), embedding(torch.arange(5.0)))


@pytest.mark.parametrize("channels", [0, 7, -2])
def test_bad_number_of_features(channels):
    for make in (PositionalEmbedding, FourierEmbedding):
        with pytest.raises(ValueError, match=f"even number of features, 2 or more.*{channels}"):
            make(channels)
    with pytest.raises(ValueError, match="4 or more.*got 2"):
        PositionalEmbedding(2, endpoint=True)
