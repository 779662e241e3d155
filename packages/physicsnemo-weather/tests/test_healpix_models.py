# SPDX-License-Identifier: Apache-2.0
"""Networks on the HEALPix grid: steps through time, memory, symmetry, and what they refuse."""

import importlib
import pickle
import runpy
import types
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch

from physicsnemo import Module
from physicsnemo.models import dlwp_healpix_layers
from physicsnemo.models.dlwp_healpix import HEALPixRecUNet, HEALPixUNet
from physicsnemo.models.dlwp_healpix._fields import Fields, Inputs, coupled_fields
from physicsnemo.models.dlwp_healpix.HEALPixRecUNet import hours
from physicsnemo.registry import ModelRegistry

EXAMPLES = runpy.run_path(str(Path(__file__).with_name("cases_healpix.py")))
CASES = {case.id: case for case in EXAMPLES["CASES"]}
RECURRENT, FIELDS, IN_TWO, OCEAN = (
    EXAMPLES[name] for name in ("RECURRENT", "FIELDS", "IN_TWO", "OCEAN")
)


def build(model=HEALPixRecUNet, **arguments):
    torch.manual_seed(0)
    return model(**RECURRENT | FIELDS | arguments).eval()


def inputs(state, forcing, **options):
    return EXAMPLES["fields"](state, forcing, **options)()[0]


@pytest.mark.parametrize("case", CASES.values(), ids=str)
def test_turning_the_globe_by_a_quarter(case):
    model = case.build().eval()

    def turned(x, faces):
        return x.unflatten(faces, (3, 4)).roll(1, faces + 1).flatten(faces, faces + 1)

    (given,) = case.inputs()
    around = [turned(x, x.shape.index(12)) for x in given]
    torch.testing.assert_close(model(around), turned(model(given), 1))


@pytest.mark.parametrize("case", CASES.values(), ids=str)
def test_last_step_alone(case):
    model = case.build().eval()
    whole, last = model(*case.inputs()), model(*case.inputs(), output_only_last=True)
    assert torch.equal(last, whole[:, :, -last.shape[2] :])
    assert whole.shape[2] == model.integration_steps * last.shape[2]


def test_steps_without_memory_are_the_same_as_single_ones():
    # Memory that is emptied at each step, and not filled, remembers nothing.
    model = build(output_time_dim=3, presteps=0, reset_cycle="6h")
    single = build(output_time_dim=1, presteps=0)
    single.load_state_dict(model.state_dict())
    state, forcing, constants = inputs(1, 3)
    outputs, x = [], state
    for step in range(3):
        x = single([x, forcing[:, :, step : step + 1], constants])
        outputs.append(x)
    torch.testing.assert_close(model([state, forcing, constants]), torch.cat(outputs, dim=2))
    remembering = build(output_time_dim=3, presteps=0, reset_cycle="24h")
    remembering.load_state_dict(model.state_dict())
    assert not torch.allclose(remembering([state, forcing, constants])[:, :, 1:], outputs[1])


@pytest.mark.parametrize("presteps", [1, 2])
def test_memory_is_filled_before_the_first_step(presteps):
    model = build(output_time_dim=1, presteps=presteps)
    given = inputs(presteps + 1, presteps + 1)
    output = model(given)
    for step in range(presteps + 1):
        faces = torch.cat(
            (given[0][:, :, step], given[1][:, :, step], given[2].expand(2, -1, -1, -1, -1)), dim=2
        ).flatten(0, 1)
        change = model.decoder(model.encoder(faces))
    expected = (faces[:, :2] + change).unflatten(0, (2, 12))[:, :, None]
    torch.testing.assert_close(output, expected)


def test_memory_is_filled_again_from_predictions():
    # Steps 0 and 2 begin a cycle: the second filling sees the first prediction.
    model = build(output_time_dim=3, reset_cycle="12h")
    state, forcing, constants = inputs(2, 4)
    output = model([state, forcing, constants])
    again = build(output_time_dim=1)
    again.load_state_dict(model.state_dict())
    expected = again([output[:, :, :2], forcing[:, :, 2:], constants])
    torch.testing.assert_close(output[:, :, 2:], expected)


def test_memory_does_not_outlast_a_call():
    model, given = build(output_time_dim=2), inputs(2, 3)
    first = model(given)
    assert torch.equal(model(given), first)
    assert all(getattr(part, "h", None) is None for part in model.modules())
    model.decoder(model.encoder(torch.zeros(12, 4, 4, 4)))  # remembers, as layers of their own do
    assert torch.equal(model(given), first)
    assert any(getattr(part, "h", None) is not None for part in model.modules())
    model.reset()
    assert all(getattr(part, "h", None) is None for part in model.modules())
    unet, given = build(HEALPixUNet), inputs(1, 2)
    assert torch.equal(unet(given), unet(given))


def test_the_paper_adds_the_state_to_what_the_network_predicts():
    # A decoder that returns 3 everywhere: each step of the paper adds it to the step before.
    for numerics, expected in (("paper", (3.0, 6.0)), ("reference-1.2", None)):
        model = build(HEALPixUNet, numerics=numerics)
        model.decoder.output_layer.convblock[0].layers[0].weight.data.zero_()
        model.decoder.output_layer.convblock[0].layers[0].bias.data.fill_(3)
        state, forcing, constants = inputs(1, 2)
        output = model([state, forcing, constants])
        if expected is None:
            assert torch.equal(output, torch.full_like(output, 3))
        else:
            steps = torch.tensor(expected).view(1, 1, 2, 1, 1, 1)
            torch.testing.assert_close(output, state + steps)


def test_other_fields_than_those_of_the_state_are_predicted_themselves():
    paper, reference = (
        build(HEALPixUNet, output_channels=3, output_time_dim=1, numerics=numerics)
        for numerics in ("paper", "reference-2.1")
    )
    given = inputs(1, 1)
    assert torch.equal(paper(given), reference(given))
    assert CASES["basic_diagnostic"].build().predicts_changes is False


@pytest.mark.parametrize("numerics", ["paper", "reference-1.2", "reference-2.1"])
def test_numerics_in_a_file(numerics, tmp_path):
    model, given = build(HEALPixUNet, numerics=numerics), inputs(1, 2)
    model.save(tmp_path / "model.mdlus")
    same = Module.from_checkpoint(tmp_path / "model.mdlus")
    assert same.predicts_changes is (numerics == "paper")
    assert torch.equal(same.eval()(given), model(given))


def test_a_file_without_numerics_means_those_of_the_reference():
    model = Module.from_checkpoint(
        Path(__file__).parent / "reference" / "HEALPixUNet__two_steps" / "reference.mdlus"
    )
    assert not model.predicts_changes


@pytest.mark.parametrize("name", ["HEALPixUNet", "HEALPixRecUNet"])
def test_classes_stand_before_the_modules_of_their_name(name):
    package = importlib.import_module("physicsnemo.models.dlwp_healpix")
    model = ModelRegistry().factory(name)
    assert getattr(package, name) is model
    module = importlib.import_module(f"physicsnemo.models.dlwp_healpix.{name}")
    assert isinstance(module, types.ModuleType)
    assert getattr(module, name) is model
    assert EntryPoint(name, f"{module.__name__}:{name}", "physicsnemo.models").load() is model
    assert pickle.loads(pickle.dumps(model)) is model


def test_layers_where_newer_releases_have_them():
    layers = importlib.import_module("physicsnemo.models.dlwp_healpix.layers")
    assert layers.__all__ == dlwp_healpix_layers.__all__
    assert layers.UNetDecoder is dlwp_healpix_layers.UNetDecoder


def test_order_of_channels():
    fields = Fields(2, 2, 1, 1, 2, 2, coupled_fields([OCEAN], 1, 1))
    state = torch.arange(4.0).view(1, 1, 2, 2, 1, 1).expand(1, 12, 2, 2, 1, 1)
    forcing = torch.arange(10.0, 14).view(1, 1, 4, 1, 1, 1).expand(1, 12, 4, 1, 1, 1)
    ocean = torch.arange(30.0, 34).view(2, 1, 2, 1, 1, 1).expand(2, 1, 2, 12, 1, 1)
    given = Inputs(state, forcing, torch.full((12, 1, 1, 1), 20.0), ocean)
    faces = fields.at_step(given, state, 1)
    assert faces[0].flatten().tolist() == [0, 1, 2, 3, 12, 13, 20, 32, 33]
    assert faces.shape == (12, fields.network_inputs, 1, 1)


def test_couplings_as_a_list_or_a_tensor():
    case = CASES["multi_symmetric_coupled"]
    model, (given,) = case.build().eval(), case.inputs()
    assert torch.equal(model([*given[:3], list(given[3])]), model(given))


@pytest.mark.parametrize(
    ("model", "arguments", "error", "message"),
    [
        (HEALPixUNet, {"output_time_dim": 3, "input_time_dim": 2}, ValueError, "be a multiple"),
        (HEALPixUNet, {"n_constants": -1}, ValueError, "n_constants of at least 0, got -1"),
        (HEALPixUNet, {"output_channels": 3}, ValueError, "2 steps.*got 3 and 2"),
        (HEALPixUNet, {"input_time_dim": 0}, ValueError, "input_time_dim of at least 1, got 0"),
        (HEALPixUNet, {"numerics": "peper"}, ValueError, "one of paper, .* got 'peper'"),
        (HEALPixUNet, {"couplings": [{"params": {}}]}, TypeError, "'variables'"),
        (
            HEALPixUNet,
            {"couplings": ["sst"]},
            TypeError,
            "got 'sst'; the name",
        ),
        (
            HEALPixUNet,
            {"couplings": ["sst"], "decoder_input_channels": 0},
            NotImplementedError,
            "support for coupled models with no decoder inputs",
        ),
        (
            HEALPixUNet,
            {"couplings": [OCEAN], "n_constants": 0},
            NotImplementedError,
            "support for coupled models with no constant fields.*n_constants is 0",
        ),
        (
            HEALPixRecUNet,
            {"couplings": [OCEAN], "decoder_input_channels": 0},
            NotImplementedError,
            "coupled models.*decoder_input_channels is 0",
        ),
        (
            HEALPixRecUNet,
            {"n_constants": 0, "decoder_input_channels": 0},
            NotImplementedError,
            "no constant fields and no decoder inputs",
        ),
        (HEALPixRecUNet, {"output_time_dim": 1, "output_channels": 1}, ValueError, "changes"),
        (HEALPixRecUNet, {"input_time_dim": 2, "output_time_dim": 1}, ValueError, "changes"),
        (HEALPixRecUNet, {"presteps": -1}, ValueError, "presteps of at least 0, got -1"),
        (HEALPixRecUNet, {"delta_time": "six"}, ValueError, "such as '6h'.*got 'six'"),
        (HEALPixRecUNet, {"reset_cycle": "0h"}, ValueError, "got '0h'"),
    ],
)
def test_wrong_arguments(model, arguments, error, message):
    with pytest.raises(error, match=message):
        build(model, **arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, f, c: [x, f], r"3 inputs \(state, forcing, constants\), got 2; .* left out"),
        (
            lambda x, f, c: [x, f, c, c],
            r"3 inputs \(state, forcing, constants\), got 4; .* left out",
        ),
        (lambda x, f, c: [x[:, :, :1], f, c], "state at 2 times.*got 1$"),
        (lambda x, f, c: [x[:, :, [0, 1, 1]], f, c], r"state at 2 times.*got 3.*x\[:, :, :2\]"),
        (lambda x, f, c: [x, f[:, :, :2], c], "decoder inputs at 3 times.*got 2$"),
        (lambda x, f, c: [x, f[:, :, [0, 1, 2, 2]], c], r"inputs at 3 times.*got 4.*\[:, :, :3\]"),
        (lambda x, f, c: [x[..., :0, :0], f, c], "where height is 0"),
        (lambda x, f, c: [x[:, :6], f, c], "faces=12"),
        (lambda x, f, c: [x[..., :3], f, c], "square faces, got a state of 4 x 3 cells"),
        (lambda x, f, c: [x, f[..., :3], c], "the decoder inputs of shape .*width is 3"),
        (lambda x, f, c: [x, f[:1], c], "batch is 1"),
        (lambda x, f, c: [x, f, c[:, :0]], "the constants of shape.*n_constants is 0"),
        (lambda x, f, c: [t[..., :3, :3] for t in (x, f, c)], r"\(3, 3\) comes back as \(2, 2\)"),
    ],
)
def test_wrong_inputs(change, message):
    with pytest.raises(ValueError, match=message):
        build()(change(*inputs(2, 3)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, f, c: x, "3 inputs.*got a tensor"),
        (lambda x, f, c: None, "3 inputs.*got 'NoneType'"),
        (lambda x, f, c: "state", "3 inputs.*got 'str'"),
        (lambda x, f, c: [None, f, c], "the state in a tensor.*got None"),
        (lambda x, f, c: [x, f.numpy(), c], "the decoder inputs in a tensor.*got a ndarray"),
        (lambda x, f, c: [x, f, c.to(torch.complex64)], "the constants of floating-point numbers"),
        (lambda x, f, c: [x, f.double(), c], "the decoder inputs of torch.float32"),
        (lambda x, f, c: [x.to_sparse(), f, c], "the state in a dense tensor"),
    ],
)
def test_inputs_of_the_wrong_kind(change, message):
    with pytest.raises(TypeError, match=message):
        build()(change(*inputs(2, 3)))


@pytest.mark.parametrize(
    "name", ["double_without_constants", "multi_symmetric_coupled", "recurrent"]
)
def test_a_batch_of_no_samples(name):
    case = CASES[name]
    model, (given,) = case.build().eval(), case.inputs()
    axes = [1 if x.ndim == 6 and x.shape[3] == 12 else None if x.ndim == 4 else 0 for x in given]
    empty = [
        x if axis is None else x.narrow(axis, 0, 0) for x, axis in zip(given, axes, strict=True)
    ]
    assert model(empty).shape == (0, *model(given).shape[1:])


def test_numbers_of_numpy_in_arguments():
    numbers = {name: np.int64(number) for name, number in FIELDS.items()}
    given = inputs(1, 2)
    assert torch.equal(build(HEALPixUNet, **numbers)(given), build(HEALPixUNet)(given))


def test_wrong_number_of_couplings():
    case = CASES["multi_symmetric_coupled"]
    (given,) = case.inputs()
    for couplings, message in (
        (given[3][:1], r"the couplings of shape \(steps=2, .* where steps is 1"),
        ([*given[3], given[3][0]], "couplings for 2 steps, got 3"),
    ):
        with pytest.raises(ValueError, match=message):
            case.build()([*given[:3], couplings])
    with pytest.raises(TypeError, match="couplings in a tensor or a list of such.*'NoneType'"):
        case.build()([*given[:3], None])
    with pytest.raises(ValueError, match="coupled is 1"):
        case.build()([*given[:3], given[3][:, :, :1]])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("6h", 6), ("1D", 24), (" 90 min", 1.5), ("1.5d", 36), ("24H", 24), ("2 days", 48)],
)
def test_durations(text, expected):
    assert hours(text) == expected
