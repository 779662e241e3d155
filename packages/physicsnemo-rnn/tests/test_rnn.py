# SPDX-License-Identifier: Apache-2.0
"""Both models against reference implementations."""

import pytest
import torch
from torch.nn import functional

from physicsnemo.models.rnn import One2ManyRNN, Seq2SeqRNN

SMALL = {"input_channels": 2, "nr_latent_channels": 4, "nr_residual_blocks": 1, "nr_tsteps": 3}
DEEP = SMALL | {"nr_residual_blocks": 2, "nr_downsamples": 3}
each_model = pytest.mark.parametrize("model_class", [One2ManyRNN, Seq2SeqRNN])


def field(*shape):
    return torch.randn(shape, dtype=torch.float64)


def given(model_class, number=3):
    """Return how many time steps a model is given."""
    return 1 if model_class is One2ManyRNN else number


def reference_implementation(model, x, blocks, swapped=False, short=False):
    """Compute a model from its weights.

    nvidia-physicsnemo cuts ``short`` what it doubles, and until 1.3 it pads ``swapped`` axes.
    """
    weights = model.state_dict(keep_vars=True)
    levels, steps = len(model.decoder_layers), model.nr_tsteps

    def call(name, *arguments, **options):
        return getattr(functional, f"{name}{x.ndim - 3}d")(*arguments, **options)

    def convolve(name, y, stride=1):
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        sizes = y.shape[2:] if swapped else reversed(y.shape[2:])
        totals = [-size % stride + weight.shape[-1] - stride for size in sizes]
        pads = [pad for total in totals for pad in (total // 2, total - total // 2)]
        return call("conv", functional.pad(y, pads), weight, bias, stride=stride)

    def refine(name, y):
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        cut = [slice(1, -2 if short and size % 2 else -1) for size in y.shape[2:]]
        return call("conv_transpose", y, weight, bias, stride=2)[:, :, *cut]

    def block(name, y, stride=1, begin=True):
        z = convolve(f"{name}.conv_1.conv", y.relu() if begin else y, stride).relu()
        value, gate = convolve(f"{name}.conv_2.conv", z).chunk(2, 1)
        if stride == 2:
            y = call("avg_pool", y, 2, ceil_mode=not swapped)
        front = y.new_zeros(y.shape[0], value.shape[1] - y.shape[1], *y.shape[2:])
        return torch.cat((front, y), 1) + value * gate.sigmoid()

    def encode(y):
        for index in range(levels * blocks):
            level, last = index // blocks, index % blocks == blocks - 1
            stride = 2 if last and level < levels - 1 else 1
            y = block(f"encoder_layers.{index}", y, stride, begin=index > 0)
        return y

    def step(y, h):
        r, z = convolve("rnn_layer.conv_1.conv", torch.cat((y, h), 1)).sigmoid().chunk(2, 1)
        n = convolve("rnn_layer.conv_2.conv", torch.cat((y, r * h), 1)).relu()
        return (1 - z) * n + z * h

    def decode(y):
        for level in range(levels - 1):
            y = refine(f"decoder_layers.{level}.0.trans_conv", y)
            for index in range(blocks):
                begin = level + index > 0
                y = block(f"decoder_layers.{level}.{index + 1}", y, begin=begin)
        y = convolve("final_conv", convolve(f"conv_layers.{levels - 1}.conv", y))
        return y[:, :, *[slice(size) for size in x.shape[3:]]]

    fields = x.unbind(2) if isinstance(model, Seq2SeqRNN) else x.unbind(2)[:1]
    encodings = [encode(y) for y in fields]
    y, h = encodings[-1], torch.zeros_like(encodings[-1])
    for encoding in encodings if isinstance(model, Seq2SeqRNN) else ():
        h = step(encoding, h)
    outputs = []
    for _ in range(steps):
        y = h = step(y, h)
        outputs.append(decode(h))
    return torch.stack(outputs, 2)


@each_model
@pytest.mark.parametrize(
    ("arguments", "grid"),
    [
        (SMALL, (8, 6)),
        (SMALL, (7, 10)),
        (SMALL, (1, 5)),
        (SMALL | {"nr_downsamples": 1}, (3, 4)),
        (DEEP, (9, 6)),
        (DEEP | {"dimension": 3}, (5, 4, 6)),
    ],
    ids=str,
)
def test_network_equals_the_reference_implementation(model_class, arguments, grid):
    model, x = model_class(**arguments).double(), field(2, 2, given(model_class), *grid)
    output, expected = model(x), reference_implementation(model, x, arguments["nr_residual_blocks"])
    assert output.shape == (2, 2, 3, *grid)
    torch.testing.assert_close(output, expected)
    used = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for ours, theirs in zip(
        torch.autograd.grad(output.square().sum(), used),
        torch.autograd.grad(expected.square().sum(), used),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@each_model
@pytest.mark.parametrize("release", ["1.2", "1.3", "2.0", "2.2"])
@pytest.mark.parametrize(
    ("arguments", "grid", "until_1_3", "from_2_0"),
    [
        (SMALL, (8, 6), (8, 5), (8, 5)),
        (SMALL, (7, 10), (5, 9), (7, 9)),
        (SMALL | {"dimension": 3}, (5, 6, 8), (4, 5, 8), (5, 5, 8)),
    ],
)
def test_reference_numerics_equal_an_implementation(
    model_class, release, arguments, grid, until_1_3, from_2_0
):
    model = model_class(**arguments, numerics=f"reference-{release}").double()
    x = field(1, 2, given(model_class), *grid)
    output = model(x)
    swapped = release in ("1.2", "1.3")
    assert output.shape == (1, 2, 3, *(until_1_3 if swapped else from_2_0))
    torch.testing.assert_close(output, reference_implementation(model, x, 1, swapped, short=True))


@each_model
def test_numerics_agree_on_grids_that_can_be_halved(model_class):
    paper, other = model_class(**DEEP), model_class(**DEEP, numerics="reference-2.1")
    other.load_state_dict(paper.state_dict())
    x = torch.randn(1, 2, given(model_class), 16, 8)
    torch.testing.assert_close(other(x), paper(x), atol=0, rtol=0)


@pytest.mark.parametrize("numerics", ["reference-1.2", "reference-1.3"])
def test_one_to_many_ignored_further_time_steps(numerics):
    model = One2ManyRNN(**SMALL, numerics=numerics)
    x = torch.randn(2, 2, 4, 6, 5, requires_grad=True)
    output = model(x)
    torch.testing.assert_close(output, model(x[:, :, :1]), atol=0, rtol=0)
    (gradient,) = torch.autograd.grad(output.square().sum(), x)
    assert [bool(step.any()) for step in gradient.unbind(2)] == [True, False, False, False]


@pytest.mark.parametrize("numerics", ["paper", "reference-2.0"])
def test_one_to_many_takes_one_time_step(numerics):
    model = One2ManyRNN(**SMALL, numerics=numerics)
    with pytest.raises(ValueError, match=r"one time step, got 4 .* as in x\[:, :, :1\]"):
        model(torch.ones(2, 2, 4, 6, 5))
    with pytest.raises(ValueError, match="one time step, got 4"):
        torch.fx.symbolic_trace(model)(torch.ones(2, 2, 4, 6, 5))


def test_sequence_to_sequence_sees_all_time_steps():
    model, x = Seq2SeqRNN(**SMALL), torch.randn(2, 2, 3, 6, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(x)[:, :, -1].square().sum(), x)
    assert all(step.any() for step in gradient.unbind(2))


def test_fit_of_a_wave_that_travels():
    """A sine that moves by one point a step, from one field: only the rollout can move it."""
    points = 2 * torch.pi * torch.arange(8) / 8
    waves = torch.stack([torch.sin(points - step * points[1]) for step in range(4)])
    x, y = waves[None, None, :1, :, None], waves[None, None, 1:, :, None]
    model = One2ManyRNN(1, nr_latent_channels=8, nr_residual_blocks=1, nr_tsteps=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.01


@each_model
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dimension": 1}, "dimension 2 or 3, got 1"),
        ({"dimension": 4}, "dimension 2 or 3, got 4"),
        ({"input_channels": 0}, "input_channels of at least 1, got 0"),
        ({"input_channels": 5}, "5 in and 4 out; in a model, raise nr_latent_channels"),
        ({"nr_latent_channels": 1}, "nr_latent_channels of at least 2, got 1"),
        ({"nr_residual_blocks": 0}, "nr_residual_blocks of at least 1, got 0"),
        ({"nr_downsamples": 0}, "nr_downsamples of at least 1, got 0"),
        ({"nr_tsteps": 0}, "nr_tsteps of at least 1, got 0"),
        ({"numerics": "peper"}, "one of paper, reference-1.2, .*, reference-2.2, got 'peper'"),
    ],
)
def test_bad_arguments(model_class, arguments, message):
    with pytest.raises(ValueError, match=message):
        model_class(**{**SMALL, "nr_downsamples": 1} | arguments)


@each_model
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.ones(2, 2, 6, 5), ValueError, r"nr_tsteps.*, n1, n2\), got .* has 4 dimensions"),
        (torch.ones(2, 3, 3, 6, 5), ValueError, "where input_channels is 3"),
        (torch.ones(2, 2, 3, 6, 0), ValueError, "at least 1 points along each axis"),
        (torch.ones(2, 2, 3, 6, 5, dtype=torch.int32), TypeError, "got torch.int32"),
        (torch.ones(2, 2, 3, 6, 5, device="meta"), ValueError, "on meta and the model on cpu"),
    ],
)
def test_bad_inputs(model_class, x, error, message):
    with pytest.raises(error, match=message):
        model_class(**SMALL)(x)


@pytest.mark.parametrize("number", [0, 1, 2, 4])
def test_sequences_of_another_length(number):
    with pytest.raises(ValueError, match=rf"nr_tsteps=3, n1, n2\), .* where nr_tsteps is {number}"):
        Seq2SeqRNN(**SMALL)(torch.ones(1, 2, number, 4, 4))


def test_no_time_step_to_continue():
    with pytest.raises(ValueError, match="got an input of shape .* time is one of these axes"):
        One2ManyRNN(**SMALL)(torch.ones(1, 2, 0, 4, 4))
