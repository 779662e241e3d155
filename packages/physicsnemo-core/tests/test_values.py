# SPDX-License-Identifier: Apache-2.0
"""Constructor arguments come back as they were, or are refused."""

import enum
import fractions
import json
import tarfile
from collections import OrderedDict, defaultdict, namedtuple

import numpy as np
import pytest
import torch

from physicsnemo import Module
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.format.container import open_checkpoint, write_checkpoint

Pair = namedtuple("Pair", "x y")


class Level(enum.IntEnum):
    LOW = 1


class Mode(enum.StrEnum):
    FAST = "fast"


class Keeper(Module):
    def __init__(self, value=None, *rest, **options):
        super().__init__()
        self.value, self.rest, self.options = value, rest, options


class Defaults(Module):
    """Has defaults that no file can hold, and one that it can."""

    def __init__(self, width=4, norm=torch.nn.LayerNorm, sizes=(1, 2), level=Level.LOW):
        super().__init__()
        self.norm, self.sizes, self.level = norm(width), sizes, level


def round_trip(model, tmp_path):
    model.save(tmp_path / "model.mdlus")
    return Module.from_checkpoint(tmp_path / "model.mdlus")


def json_of(path, name):
    with tarfile.open(path) as archive:
        return json.load(archive.extractfile(f"{name}.json"))


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        (),
        [(1, [2, (3,)]), "x"],
        {"a/b": (1,), "c~d": {"e": (2, (3,))}},
        OrderedDict(b=1, a=(2,)),
        {1, 2, 3},
        {2.5, 1},
        frozenset({"x"}),
        torch.Size([2, 3]),
        [float("inf"), -float("inf")],
        {"deep": [{"sets": [{1}, {2}]}]},
    ],
)
def test_values_come_back_as_they_were(tmp_path, value):
    for model in (Keeper(value), Keeper(1, 2, value), Keeper(extra=value)):
        twin = round_trip(model, tmp_path)
        assert (twin.value, twin.rest, twin.options) == (model.value, model.rest, model.options)
        assert repr(twin.value) == repr(model.value)  # which tells the types at every depth
        assert repr(twin.options) == repr(model.options)


def test_models_in_tuples_and_nested_types(tmp_path):
    inner = Keeper((1, 2))
    twin = round_trip(Keeper((inner, [inner])), tmp_path)
    assert type(twin.value) is tuple
    assert twin.value[0] is twin.value[1][0]
    assert twin.value[0].value == (1, 2)


def test_files_hold_plain_values_and_a_note_beside(tmp_path):
    Keeper({"a/b": (1, (2,))}).save(tmp_path / "model.mdlus")
    assert json_of(tmp_path / "model.mdlus", "args")["__args__"]["value"] == {"a/b": [1, [2]]}
    note = json_of(tmp_path / "model.mdlus", "metadata")["argument_types"]
    assert note == {"/value/a~1b": "tuple", "/value/a~1b/1": "tuple"}
    Keeper([1]).save(tmp_path / "model.mdlus")
    assert "argument_types" not in json_of(tmp_path / "model.mdlus", "metadata")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.int64(3), 3),
        (np.uint8(3), 3),
        (np.bool_(True), True),
        (np.float64(0.1), 0.1),
        (np.float32(0.5), 0.5),
        (np.str_("x"), "x"),
        ([np.int64(1), (np.int32(2),)], [1, (2,)]),
    ],
)
def test_numbers_of_numpy_are_numbers(tmp_path, value, plain):
    model = Keeper(value)
    assert repr(model._args["__args__"]["value"]) == repr(plain)
    assert repr(round_trip(model, tmp_path).value) == repr(plain)


def test_whatever_is_an_index_is_a_number(tmp_path):
    class Index:
        def __index__(self):
            return 7

    assert round_trip(Keeper(Index()), tmp_path).value == 7


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (Level.LOW, "test_values.Level, .*pass its value, 1, or its name"),
        (Mode.FAST, "pass its value, 'fast'"),
        (Pair(1, 2), "test_values.Pair, .*pass a plain tuple"),
        (defaultdict(list), "collections.defaultdict, .*pass a plain dict"),
        (np.zeros(3), "numpy.ndarray, .*pass its numbers as a list"),
        (torch.zeros(()), "torch.Tensor, .*pass its numbers as a list"),
        (np.zeros(2000), "make it a buffer, and pass what it is made from"),
        ({(1, 2)}, "builtins.set, .*a set may hold numbers and text"),
        ({Mode.FAST: 1}, "builtins.dict, .*its keys must be text"),
        (np.longdouble(1), "numpy.longdouble"),
        (fractions.Fraction(1, 3), "fractions.Fraction"),
        (torch.relu, "pass numbers, text, lists"),
    ],
)
def test_what_would_not_come_back_is_refused(tmp_path, value, advice):
    with pytest.warns(UserWarning, match=f"'value' of Keeper is a .*{advice}") as caught:
        model = Keeper(value)
    assert caught[0].filename == __file__
    with pytest.raises(TypeError, match=advice):
        model.save(tmp_path / "model.mdlus")


def test_defaults_that_cannot_be_stored_are_left_out(tmp_path):
    model = Defaults(3)
    assert model._args["__args__"] == {"width": 3, "sizes": (1, 2)}
    twin = round_trip(model, tmp_path)
    assert (type(twin.norm), twin.sizes, twin.level) == (torch.nn.LayerNorm, (1, 2), Level.LOW)


def test_converted_classes_with_such_defaults(tmp_path):
    transformer = Module.from_torch(torch.nn.Transformer)
    layers = {"num_encoder_layers": 1, "num_decoder_layers": 1}
    model = transformer(d_model=8, nhead=2, batch_first=True, **layers).eval()
    x = torch.randn(1, 3, 8)
    assert torch.equal(round_trip(model, tmp_path).eval()(x, x), model(x, x))


@pytest.mark.parametrize(
    "note",
    [3, {"/value": "os.system"}, {"/value": ["tuple"]}, {"/value": "set"}, {"/value/0": "tuple"}],
)
def test_notes_that_do_not_fit(tmp_path, note):
    path = tmp_path / "model.mdlus"
    Keeper([1, [2]]).save(path)
    with open_checkpoint(path) as file:
        state, arguments, metadata = file.state_dict(), file.arguments, file.metadata
    write_checkpoint(path, state, arguments, metadata | {"argument_types": note})
    with pytest.raises(CheckpointError, match="argument_types in .*model.mdlus"):
        Module.from_checkpoint(path)
