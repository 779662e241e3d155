# SPDX-License-Identifier: Apache-2.0
"""What Sequence_Model promises: causality, attention by its formula, sampling, errors."""

import math
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch

from physicsnemo.models.mesh_reduced import Sequence_Model
from physicsnemo.models.mesh_reduced.temporal_model import CausalAttention, CausalDecoder, MetaData

SIZES = {"input_dim": 6, "input_context_dim": 3, "num_layers_decoder": 2, "num_heads": 3}


def build(**arguments):
    torch.manual_seed(0)
    return Sequence_Model(**SIZES | arguments).double().eval()


def draw(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("num_heads", [1, 2, 6])
def test_attention_is_its_formula(num_heads):
    torch.manual_seed(0)
    attention = CausalAttention(6, num_heads).double()
    with torch.no_grad():
        attention.in_proj_bias.normal_()
        attention.out_proj.bias.normal_()
    x, size = draw(2, 5, 6), 6 // num_heads
    parts = zip(attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True)
    query, key, value = (x @ weight.T + bias for weight, bias in parts)
    expected = torch.zeros_like(x)
    for head in (slice(start, start + size) for start in range(0, 6, size)):
        for t in range(5):
            scores = torch.einsum("bd,bsd->bs", query[:, t, head], key[:, : t + 1, head])
            share = (scores / math.sqrt(size)).exp()
            share = share / share.sum(1, keepdim=True)
            expected[:, t, head] = torch.einsum("bs,bsd->bd", share, value[:, : t + 1, head])
    torch.testing.assert_close(attention(x), attention.out_proj(expected))


def test_attention_is_that_of_pytorch():
    torch.manual_seed(0)
    attention = CausalAttention(6, 2).double()
    theirs = torch.nn.MultiheadAttention(6, 2, batch_first=True).double()
    theirs.load_state_dict(attention.state_dict())
    x, mask = draw(2, 5, 6), torch.ones(5, 5, dtype=torch.bool).triu(1)
    expected = theirs(x, x, x, attn_mask=mask, need_weights=False)[0]
    torch.testing.assert_close(attention(x), expected)


def test_the_decoder_is_that_of_pytorch_with_itself_as_memory():
    """PyTorch's second attention looks at a memory; a layer of it is given what it makes first."""
    torch.manual_seed(0)
    decoder = CausalDecoder(6, 1, 2, 24, 0.0, "gelu").double()
    theirs = torch.nn.TransformerDecoderLayer(6, 2, 24, 0.0, "gelu", batch_first=True).double()
    theirs.load_state_dict(decoder.layers[0].state_dict())
    x, mask = draw(2, 5, 6), torch.ones(5, 5, dtype=torch.bool).triu(1)
    layer = decoder.layers[0]
    memory = layer.norm1(x + layer.self_attn(x))
    expected = decoder.norm(theirs(x, memory, tgt_mask=mask, memory_mask=mask))
    torch.testing.assert_close(decoder(x), expected)


def test_predictions_depend_on_the_context_and_on_no_later_state():
    model = build()
    x, context = draw(1, 7, 6).requires_grad_(), draw(1, 1, 3).requires_grad_()
    output = model(x, context)
    for step in range(7):
        found = torch.autograd.grad(output[0, step].sum(), (x, context), retain_graph=True)
        touched = found[0][0].abs().sum(1) > 1e-12
        assert touched.tolist() == [True] * (step + 1) + [False] * (6 - step)
        assert found[1].abs().sum() > 1e-6


def test_a_prefix_has_the_predictions_of_the_whole():
    model, x, context = build(), draw(2, 7, 6), draw(2, 1, 3)
    torch.testing.assert_close(model(x[:, :4], context), model(x, context)[:, :4])


def test_without_a_context_the_first_prediction_is_left_out():
    model, x = build(), draw(2, 7, 6)
    output = model(x)
    assert output.shape == (2, 6, 6)
    expected = model.output_encoder(model.decoder(model.input_encoder(x)))
    assert torch.equal(output, expected[:, 1:])


def test_the_encoded_context_stands_before_the_states():
    model, x, context = build(), draw(2, 7, 6), draw(2, 1, 3)
    whole = torch.cat((model.context_encoder(context), x), dim=1)
    expected = model.output_encoder(model.decoder(model.input_encoder(whole)))
    assert torch.equal(model(x, context), expected[:, 1:])


def test_a_context_of_several_steps_stands_before_the_states():
    model, x, context = build(), draw(2, 4, 6), draw(2, 3, 3)
    whole = torch.cat((model.context_encoder(context), x), dim=1)
    expected = model.output_encoder(model.decoder(model.input_encoder(whole)))[:, 1:]
    assert torch.equal(model(x, context), expected)
    assert expected.shape == (2, 6, 6)
    later = model.sample(x, 2, context)
    torch.testing.assert_close(later[:, 4:], model(later[:, :-1], context)[:, -2:])


def test_no_layer_leaves_the_normalization():
    model, x = build(num_layers_decoder=0), draw(2, 4, 6)
    expected = model.output_encoder(model.decoder.norm(model.input_encoder(x)))
    assert torch.equal(model(x), expected[:, 1:])


def test_empty_batch():
    assert build()(draw(0, 4, 6), draw(0, 1, 3)).shape == (0, 4, 6)


@pytest.mark.parametrize("steps", [0, 1, 4])
@pytest.mark.parametrize("given", [1, 3])
def test_sampling_feeds_predictions_back(given, steps):
    model, z0, context = build(), draw(2, given, 6), draw(2, 1, 3)
    states = model.sample(z0, steps, context)
    assert states.shape == (2, given + steps, 6)
    assert not states.requires_grad
    assert torch.equal(states[:, :given], z0)
    # All predictions at once are those made one by one.
    again = model(states[:, :-1], context)[:, given - 1 :]
    torch.testing.assert_close(states[:, given:], again[:, :steps])


def test_sampling_without_a_context():
    model, z0 = build(), draw(2, 1, 6)
    states = model.sample(z0, 3)
    torch.testing.assert_close(states[:, 2:], model(states[:, :-1]))


def test_layers_start_with_different_weights():
    first, second = build().decoder.layers
    assert not torch.equal(first.linear1.weight, second.linear1.weight)


def test_what_nvidia_physicsnemo_requires_is_not_needed_and_forgotten(tmp_path):
    torch.manual_seed(0)
    given = Sequence_Model(6, 3, SimpleNamespace(device="cpu"), num_layers_decoder=2, num_heads=3)
    given.save(tmp_path / "model.mdlus")
    loaded = Sequence_Model.from_checkpoint(tmp_path / "model.mdlus").double()
    x, context = draw(2, 4, 6), draw(2, 1, 3)
    assert torch.equal(loaded(x, context), build()(x, context))


def test_dropout_is_for_training_alone():
    model, x, context = build(dropout_rate=0.5), draw(2, 4, 6), draw(2, 1, 3)
    assert torch.equal(model(x, context), build()(x, context))
    model.train()
    assert not torch.allclose(model(x, context), model(x, context))


def test_it_compiles_as_one_graph():
    model, x, context = build(), draw(2, 4, 6), draw(2, 1, 3)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, context), model(x, context))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": 4}, "num_heads to divide .* got 6 features and num_heads=4"),
        ({"num_heads": 0}, "num_heads of at least 1, got 0"),
        ({"num_layers_decoder": -1}, "num_layers_decoder of at least 0, got -1"),
        ({"num_layers_context_encoder": -1}, "hidden_layers of at least 0, got -1"),
    ],
)
def test_errors_of_the_constructor(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)


def test_unknown_activation():
    with pytest.raises(KeyError, match="no activation is named 'galu'"):
        build(activation="galu")


def test_errors_of_inputs():
    model, x, context = build(), draw(2, 4, 6), draw(2, 1, 3)
    with pytest.raises(ValueError, match="input_dim=6"):
        model(x[..., :5], context)
    with pytest.raises(ValueError, match="input_context_dim=3"):
        model(x, context[..., :2])
    with pytest.raises(ValueError, match="context steps is 0"):
        model(x, context[:, :0])
    with pytest.raises(ValueError, match="batch=2"):
        model(x, context[:1])
    with pytest.raises(TypeError, match="floating-point"):
        model(x.long(), context)
    with pytest.raises(ValueError, match=r"at least one first state, got z0 of shape \(2, 0, 6\)"):
        model.sample(x[:, :0], 3, context)


def test_flags():
    meta = MetaData()
    assert {flag for flag, value in asdict(meta).items() if value is True} == {
        "amp",
        "amp_cpu",
        "amp_gpu",
    }
    assert meta.name == "Sequence_Model"
