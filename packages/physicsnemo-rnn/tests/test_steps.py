# SPDX-License-Identifier: Apache-2.0
"""How the models go through time: what is kept, and what may trace or compile it."""

import weakref

import pytest
import torch

from physicsnemo.models.rnn import One2ManyRNN, Seq2SeqRNN

SMALL = {"input_channels": 2, "nr_latent_channels": 4, "nr_residual_blocks": 1, "nr_tsteps": 3}
each_model = pytest.mark.parametrize("model_class", [One2ManyRNN, Seq2SeqRNN])


def field(*shape):
    return torch.randn(shape, dtype=torch.float64)


def given(model_class, number=3):
    """Return how many time steps a model is given."""
    return 1 if model_class is One2ManyRNN else number


@each_model
def test_one_step_after_the_other_without_gradients(model_class):
    """The states are decoded as they come; a rollout holds the last one and what it makes."""
    model = model_class(**SMALL | {"nr_tsteps": 6}).double()
    x = field(2, 2, given(model_class, 6), 6, 5)
    expected = model(x)
    states, alive, batches = [], [], []

    def count(cell, inputs, state):
        states.append(weakref.ref(state))
        alive.append(sum(reference() is not None for reference in states))

    model.rnn_layer.conv_2.register_forward_hook(count)
    model.final_conv.register_forward_hook(lambda *call: batches.append(len(call[2])))
    with torch.no_grad():
        output = model(x)
    assert len(states) == (6 if model_class is One2ManyRNN else 12)
    assert max(alive) == 1
    assert batches == [2] * 6
    torch.testing.assert_close(output, expected)
    assert output.is_contiguous()


@each_model
def test_all_steps_at_once_with_gradients(model_class):
    model, batches = model_class(**SMALL), []
    model.final_conv.register_forward_hook(lambda *call: batches.append(len(call[2])))
    output = model(torch.randn(2, 2, given(model_class), 6, 5))
    assert batches == [6]
    assert output.is_contiguous()


def test_longer_rollouts_begin_with_the_shorter():
    long, short = One2ManyRNN(**SMALL | {"nr_tsteps": 5}), One2ManyRNN(**SMALL)
    short.load_state_dict(long.state_dict())
    x = torch.randn(2, 2, 1, 6, 5)
    torch.testing.assert_close(short(x), long(x)[:, :, :3])


@each_model
def test_channels_last(model_class):
    model, x = model_class(**SMALL).double(), field(2, 2, given(model_class), 6, 5)
    expected = model(x)
    torch.testing.assert_close(model.to(memory_format=torch.channels_last)(x), expected)


@each_model
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.02), (torch.float16, 3e-3)])
def test_autocast_on_an_odd_grid(model_class, dtype, tolerance):
    model, x = model_class(**SMALL), torch.randn(1, 2, given(model_class), 5, 7)
    exact = model(x)
    with torch.autocast("cpu", dtype):
        output = model(x)
        with torch.no_grad():
            in_turn = model(x)
    assert output.dtype == in_turn.dtype == dtype
    for result in (output, in_turn):
        assert (result - exact).norm() < tolerance * exact.norm()


def test_compiled_without_gradients():
    model, x = Seq2SeqRNN(**SMALL | {"nr_tsteps": 2}), torch.randn(1, 2, 2, 6, 5)
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True, backend="eager")(x)
        torch.testing.assert_close(compiled, model(x))
    torch.compiler.reset()


@each_model
def test_symbolic_trace_keeps_the_weights_and_takes_other_grids(model_class):
    model = model_class(**SMALL)
    program = torch.fx.symbolic_trace(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    x = torch.randn(1, 2, given(model_class), 7, 4)
    torch.testing.assert_close(program(x), model(x))
