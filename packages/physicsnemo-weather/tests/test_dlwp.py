# SPDX-License-Identifier: Apache-2.0
"""DLWP: its grid, its clamp, its two sets of weights, and what it refuses."""

import pytest
import torch

from physicsnemo.models.dlwp import DLWP

SMALL = {"nr_input_channels": 1, "nr_output_channels": 1, "nr_initial_channels": 2}
EQUATOR, POLES = slice(0, 4), slice(4, 6)


def build(**arguments):
    torch.manual_seed(0)
    return DLWP(**SMALL | arguments).eval()


def faces(size=4, channels=1):
    return torch.randn(2, channels, 6, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("numerics", ["paper", "reference-1.2", "reference-2.1"])
def test_sizes_that_differ_from_call_to_call(numerics):
    model = build(numerics=numerics)
    for size in (4, 8, 4, 12):
        assert model(faces(size)).shape == (2, 1, 6, size, size)


def test_numerics_differ_only_around_the_poles_in_one_layer():
    # Of a network of depth 1, the first convolution alone tells the neighbours apart.
    paper, reference = build(depth=1), build(depth=1, numerics="reference-1.2")
    reference.load_state_dict(paper.state_dict())
    x = faces().permute(0, 2, 3, 4, 1)
    layers = paper.equatorial_downsample[0], paper.polar_downsample[0]
    ours, theirs = paper._convolve(x, *layers), reference._convolve(x, *layers)
    assert torch.equal(ours[:, EQUATOR], theirs[:, EQUATOR])
    assert not torch.equal(ours[:, 4, 0], theirs[:, 4, 0])  # beyond it lies face 2
    assert not torch.equal(ours[:, 5, -1], theirs[:, 5, -1])
    assert torch.equal(ours[:, 4, 1:], theirs[:, 4, 1:])
    assert torch.equal(ours[:, 5, :-1], theirs[:, 5, :-1])
    assert not torch.equal(paper(faces()), reference(faces()))


def antipodal(x):
    """Return what is on the other side of the globe from each cell."""
    belt, caps = x[:, :, [2, 3, 0, 1]].flip(3), x[:, :, [5, 4]].flip(4)
    return torch.cat((belt, caps), dim=2)


def test_hemispheres_are_treated_alike():
    model, reference = build(), build(numerics="reference-1.2")
    for network in (model, reference):
        for name, weight in network.named_parameters():
            if name.startswith("equatorial") and weight.ndim == 4:
                weight.data += weight.data.flip(2).clone()  # as much for north as for south
    x = faces()
    torch.testing.assert_close(model(antipodal(x)), antipodal(model(x)))
    assert not torch.allclose(reference(antipodal(x)), antipodal(reference(x)))


@pytest.mark.parametrize(
    ("clamp", "low", "high"), [((None, 0.5), None, 0.5), ((0, None), 0, None), ((-1, 1), -1, 1)]
)
def test_clamp(clamp, low, high):
    model, bounds = build(clamp_activation=clamp), []
    for layer in (model.equatorial_last, model.polar_last):
        layer.register_forward_pre_hook(
            lambda _, inputs: bounds.append((inputs[0].min().item(), inputs[0].max().item()))
        )
    model(100 * faces())
    for least, most in bounds:
        assert low is None or least >= low
        assert high is None or most <= high
    assert bounds


def test_neighbours_are_seen_in_one_layer():
    x = torch.zeros(1, 6, 3, 3, 1)
    x[0, 1, 1, 0] = 1  # the western edge of face 1
    model = build()
    for layer in (model.equatorial_downsample[0], model.polar_downsample[0]):
        layer.weight.data.fill_(1)
        layer.bias.data.zero_()
    seen = model._convolve(x, model.equatorial_downsample[0], model.polar_downsample[0])
    assert seen[0, ..., 0].nonzero().tolist() == [
        [0, 0, 2], [0, 1, 2], [0, 2, 2], *[[1, i, j] for i in range(3) for j in range(2)]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 1, 5, 4, 4), "faces=6.*faces is 5"),
        ((1, 1, 6, 4, 8), "square faces"),
        ((1, 1, 6, 6, 6), "multiple of 4, since depth=2, got 6 x 6"),
        ((1, 2, 6, 4, 4), "nr_input_channels=1"),
        ((1, 6, 4, 4), "4 dimensions"),
    ],
)
def test_wrong_input(shape, message):
    with pytest.raises(ValueError, match=message):
        build()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 0}, "depth of at least 1"),
        ({"nr_input_channels": 0}, "nr_input_channels of at least 1, got 0"),
        ({"clamp_activation": (1.0,)}, "smallest and a largest"),
        ({"numerics": "reference-3"}, "reference-2.1"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)
