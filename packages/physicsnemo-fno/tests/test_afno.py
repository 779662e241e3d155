# SPDX-License-Identifier: Apache-2.0
"""AFNO and ModAFNO against reference implementations."""

import json
import tarfile
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from physicsnemo import Module
from physicsnemo.models.afno import AFNO, ModAFNO
from physicsnemo.models.afno.afno import PatchEmbed

SMALL = {
    "inp_shape": [10, 21],
    "patch_size": [2, 3],  # 5 by 7 tokens
    "in_channels": 2,
    "out_channels": 3,
    "embed_dim": 12,
    "depth": 2,
    "num_blocks": 3,
    "sparsity_threshold": 0.1,
    "hard_thresholding_fraction": 0.7,
}
MODULATED = SMALL | {"mod_dim": 4}
PLAIN = {"modulate_filter": False, "modulate_mlp": False}
REFERENCE = Path(__file__).parent / "reference"


def randomized(model):
    """Give all weights values that no shrinkage or ReLU hides."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.double()


def field(batch=2):
    return torch.randn(batch, 2, 10, 21, dtype=torch.float64)


def linear(weights, name, x):
    return functional.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def norm(weights, name, x):
    scale, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    deviation = x - x.mean(-1, keepdim=True)
    return scale * deviation / (deviation.square().mean(-1, keepdim=True) + 1e-6).sqrt() + bias


def scale_and_shift(weights, name, mod):
    """Return scale and shift of each sample, or 1 and 0 if there is no network for them."""
    if f"{name}.scale_shift.net.0.weight" not in weights:
        return 1, 0
    hidden = functional.gelu(linear(weights, f"{name}.scale_shift.net.0", mod))
    scale, shift = linear(weights, f"{name}.scale_shift.net.2", hidden).chunk(2, -1)
    return (1 + scale)[:, None, None], shift[:, None, None]


def reference_filter(weights, name, x, mod):
    """Compute the filter in complex numbers, on the lowest 70 % of the modes of 5 by 7 tokens."""
    (w1, b1, w2, b2) = (
        torch.complex(*weights[f"{name}.{part}"]) for part in ("w1", "b1", "w2", "b2")
    )
    scale, shift = scale_and_shift(weights, name, mod)
    if torch.is_tensor(scale):
        scale, shift = (torch.complex(*part.chunk(2, -1)) for part in (scale, shift))
        scale, shift = scale.unflatten(-1, (3, 4)), shift.unflatten(-1, (3, 4))
    spectrum = torch.fft.rfft2(x, dim=(1, 2), norm="ortho")
    blocks = spectrum.unflatten(-1, (3, 4)).unsqueeze(-2)
    hidden = scale * ((blocks @ w1).squeeze(-2) + b1) + shift
    hidden = torch.complex(hidden.real.relu(), hidden.imag.relu()).unsqueeze(-2)
    output = ((hidden @ w2).squeeze(-2) + b2).flatten(-2)
    shrunk = [part.sign() * (part.abs() - 0.1).relu() for part in (output.real, output.imag)]
    kept = torch.zeros(5, 4, 1)
    kept[[0, 1, -1], :2] = 1
    rows = torch.fft.ifft(torch.complex(*shrunk) * kept, dim=1, norm="ortho")
    return x + torch.fft.irfft(rows, n=7, dim=2, norm="ortho")


def reference_implementation(model, x, mod=None):
    """Compute the model from its state dictionary; ``mod`` are features, not a number."""
    weights = model.state_dict(keep_vars=True)
    patches = functional.unfold(x, (2, 3), stride=(2, 3)).mT
    kernel, bias = weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"]
    x = patches @ kernel.flatten(1).T + bias + weights["pos_embed"]
    if mod is not None:
        x = x + linear(weights, "mod_additive_proj", mod)[:, None]
    x = x.unflatten(1, (5, 7))
    for k in range(2):
        x = x + reference_filter(
            weights, f"blocks.{k}.filter", norm(weights, f"blocks.{k}.norm1", x), mod
        )
        hidden = linear(weights, f"blocks.{k}.mlp.fc1", norm(weights, f"blocks.{k}.norm2", x))
        scale, shift = scale_and_shift(weights, f"blocks.{k}.mlp", mod)
        x = x + linear(weights, f"blocks.{k}.mlp.fc2", functional.gelu(scale * hidden + shift))
    output = torch.zeros(x.shape[0], 3, 10, 21, dtype=x.dtype)
    points = linear(weights, "head", x).unflatten(-1, (2, 3, 3))
    for i in range(2):
        for j in range(3):
            output[:, :, i::2, j::3] = points[:, :, :, i, j].movedim(-1, 1)
    return output


def assert_same_outputs_and_gradients(model, outputs, expected):
    gradients = [
        torch.autograd.grad(result.square().mean(), tuple(model.parameters()), allow_unused=True)
        for result in (outputs, expected)
    ]
    torch.testing.assert_close(outputs, expected)
    for (name, _), ours, theirs in zip(model.named_parameters(), *gradients, strict=True):
        if theirs is not None:
            torch.testing.assert_close(ours, theirs, msg=(name + ": {}").format)


def test_network_equals_the_reference_implementation():
    model, x = randomized(AFNO(**SMALL)), field()
    assert_same_outputs_and_gradients(model, model(x), reference_implementation(model, x))


@pytest.mark.parametrize("modulate_filter", [True, False])
@pytest.mark.parametrize("modulate_mlp", [True, False])
def test_modulated_network_equals_the_reference_implementation(modulate_filter, modulate_mlp):
    arguments = {"modulate_filter": modulate_filter, "modulate_mlp": modulate_mlp}
    model, x = randomized(ModAFNO(**MODULATED | arguments)), field()
    mod = torch.rand(2, 1 if modulate_filter or modulate_mlp else 4, dtype=torch.float64)
    features = model.mod_embed_net(mod)
    assert features.shape == (2, 4)
    assert_same_outputs_and_gradients(
        model, model(x, mod), reference_implementation(model, x, features)
    )


def test_without_modulation_and_addition_both_models_are_one():
    modulated = randomized(ModAFNO(**MODULATED, **PLAIN))
    torch.nn.init.zeros_(modulated.mod_additive_proj.weight)
    torch.nn.init.zeros_(modulated.mod_additive_proj.bias)
    plain = AFNO(**SMALL | {"mlp_ratio": 2.0}).double()
    plain.load_state_dict(
        {name: tensor for name, tensor in modulated.state_dict().items() if "mod_" not in name}
    )
    x = field()
    torch.testing.assert_close(modulated(x, torch.randn(2, 4, dtype=torch.float64)), plain(x))


PARTS = {
    "patch_embed.proj": ["weight", "bias"],
    "blocks.0.norm1": ["weight", "bias"],
    "blocks.0.filter": ["w1", "b1", "w2", "b2"],
    "blocks.0.norm2": ["weight", "bias"],
    "blocks.0.mlp.fc1": ["weight", "bias"],
    "blocks.0.mlp.fc2": ["weight", "bias"],
    "head": ["weight"],
}
SCALE_SHIFT = {
    f"blocks.0.{part}.scale_shift.net.{k}": ["weight", "bias"]
    for part in ("filter", "mlp")
    for k in (0, 2)
}


@pytest.mark.parametrize(
    ("model", "further"),
    [
        (AFNO(**SMALL | {"depth": 1}), {}),
        (
            ModAFNO(**MODULATED | {"depth": 1, "embed_model": {"depth": 2}}),
            SCALE_SHIFT
            | {
                "mod_additive_proj": ["weight", "bias"],
                "mod_embed_net.sinusoid_embed": ["freqs"],
                "mod_embed_net.mlp.0": ["weight", "bias"],
                "mod_embed_net.mlp.2": ["weight", "bias"],
            },
        ),
    ],
    ids=["AFNO", "ModAFNO"],
)
def test_names(model, further):
    parts = [f"{name}.{part}" for name, them in (PARTS | further).items() for part in them]
    assert sorted(model.state_dict()) == sorted(["device_buffer", "pos_embed", *parts])


def test_start_values():
    model = ModAFNO([32, 32], 4, 4, patch_size=[8, 8], embed_dim=64, depth=1)
    for name, parameter in model.named_parameters():
        if name.startswith(("mod_", "patch_embed")):
            continue  # as PyTorch has them
        if "norm" in name:
            assert (parameter == (1 if name.endswith("weight") else 0)).all(), name
        elif name.endswith("bias"):
            assert not parameter.any(), name
        else:
            assert 0.015 < parameter.std() < 0.025, name


def test_patches_are_embedded_one_by_one():
    layer = PatchEmbed([4, 6], in_channels=2, patch_size=[2, 3], embed_dim=5)
    x = torch.randn(1, 2, 4, 6)
    tokens = layer(x)
    assert tokens.shape == (1, 4, 5)
    assert layer.grid == (2, 2)
    for token, (row, column) in enumerate([(0, 0), (0, 3), (2, 0), (2, 3)]):
        patch = x[0, :, row : row + 2, column : column + 3]
        expected = (layer.proj.weight * patch).sum((1, 2, 3)) + layer.proj.bias
        torch.testing.assert_close(tokens[0, token], expected)


@pytest.mark.parametrize("model_class", [AFNO, ModAFNO])
def test_dropout_in_training_only(model_class):
    model = randomized(model_class(**SMALL, drop_rate=0.5))
    inputs = [field(), *[torch.rand(2, dtype=torch.float64)] * (model_class is ModAFNO)]
    assert not torch.equal(model(*inputs), model(*inputs))
    model.eval()
    torch.testing.assert_close(model(*inputs), model(*inputs), atol=0, rtol=0)


@pytest.mark.parametrize("model_class", [AFNO, ModAFNO])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.02), (torch.float16, 3e-3)])
def test_autocast_on_an_odd_grid(model_class, dtype, tolerance):
    model, inputs = randomized(model_class(**SMALL)), [field(), torch.rand(2, dtype=torch.float64)]
    inputs = inputs[: 1 + (model_class is ModAFNO)]
    exact = model(*inputs)
    model = model.float()
    with torch.autocast("cpu", dtype):
        output = model(*[tensor.float() for tensor in inputs])
    assert output.dtype == dtype
    assert (output - exact).norm() < tolerance * exact.norm()
    output.float().square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_exported_program_has_no_operators_of_ours():
    program = torch.export.export(AFNO(**SMALL), (field().float(),))
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert "aten.relu.default" in called
    assert not [name for name in called if name.startswith("physicsnemo")]


@pytest.mark.parametrize(
    ("folder", "numerics"),
    [("AFNO__square", "reference-1.2"), ("ModAFNO__complex_scale_shift", "reference-1.2")],
)
def test_files_of_the_reference_implementation_mean_its_numerics(folder, numerics, tmp_path):
    model = Module.from_checkpoint(REFERENCE / folder / "reference.mdlus")
    assert model.blocks[1].filter.numerics == numerics
    model.save(tmp_path / "again.mdlus")
    with tarfile.open(tmp_path / "again.mdlus") as file:
        assert "numerics" not in json.load(file.extractfile("args.json"))["__args__"]


@pytest.mark.parametrize("model_class", [AFNO, ModAFNO])
@pytest.mark.parametrize("numerics", ["paper", "reference-1.2", "reference-2.1"])
def test_numerics_in_a_file(model_class, numerics, tmp_path):
    model_class(**SMALL, numerics=numerics).save(tmp_path / "model.mdlus")
    same = Module.from_checkpoint(tmp_path / "model.mdlus")
    assert same.blocks[0].filter.numerics == numerics


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inp_shape": [10]}, r"two entries, height and width, got inp_shape=\[10\]"),
        ({"patch_size": [2, 3, 1]}, r"two entries, .* patch_size=\[2, 3, 1\]"),
        ({"patch_size": [3, 3]}, r"patch_size to divide .*=\[10, 21\] and patch_size=\[3, 3\]"),
        ({"patch_size": [2, 2]}, r"patch_size to divide .* pad or crop the fields"),
        ({"patch_size": [0, 3]}, "patch_size to divide"),
        ({"num_blocks": 5}, "got 12 channels and num_blocks=5"),
        ({"depth": 0}, "depth of at least 1, got 0"),
        ({"hard_thresholding_fraction": 0.3}, "leaves no mode of a grid of 5 by 7 tokens"),
        ({"numerics": "peper"}, "one of paper, reference-1.2, .*, reference-2.2, got 'peper'"),
    ],
)
@pytest.mark.parametrize("model_class", [AFNO, ModAFNO])
def test_bad_arguments(model_class, arguments, message):
    with pytest.raises(ValueError, match=message):
        model_class(**SMALL | arguments)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.ones(2, 2, 10, 22), ValueError, r"inp_shape\[1\]=21\), got .* inp_shape\[1\] is 22"),
        (torch.ones(2, 2, 21, 10), ValueError, r"where inp_shape\[0\] is 21"),
        (torch.ones(2, 3, 10, 21), ValueError, "where in_channels is 3"),
        (torch.ones(2, 10, 21), ValueError, "which has 3 dimensions"),
        (torch.ones(2, 2, 10, 21, dtype=torch.int32), TypeError, "got torch.int32"),
        (torch.ones(2, 2, 10, 21, device="meta"), ValueError, "on meta and the model on cpu"),
    ],
)
def test_bad_inputs(x, error, message):
    with pytest.raises(error, match=message):
        AFNO(**SMALL)(x)
    with pytest.raises(error, match=message):
        ModAFNO(**MODULATED)(x, torch.ones(2))


def test_patches_are_embedded_as_by_the_convolution():
    layer, x = PatchEmbed([10, 21], 2, patch_size=[2, 3], embed_dim=12).double(), field()
    torch.testing.assert_close(layer(x), layer.proj(x).flatten(start_dim=2).mT)
