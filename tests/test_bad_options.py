# SPDX-License-Identifier: Apache-2.0
"""Constructors say what is wrong with a number, and take those of NumPy."""

import inspect
import traceback

import numpy as np
import pytest

from tools.cases import all_cases

MODELS = {
    *("AFNO", "FNO", "FullyConnected", "ModAFNO", "One2ManyRNN", "Pix2Pix", "SFNO", "SRResNet"),
    "Seq2SeqRNN",
}
CASES = {case.model: case for case in all_cases() if case.model in MODELS}


def _numbers():
    for model, case in CASES.items():
        for name, parameter in inspect.signature(case.model_class).parameters.items():
            value = case.arguments.get(name, parameter.default)
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield pytest.param(case, name, value, id=f"{model}-{name}")


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize(("case", "name", "value"), list(_numbers()))
def test_no_number(case, name, value):
    fraction = 1.5 if isinstance(value, int) else float("nan")
    for bad in ("3", None, -1, [[2]], fraction):
        with pytest.raises((TypeError, ValueError, NotImplementedError)) as error:
            case.model_class(**{**case.arguments, name: bad})
        last = traceback.extract_tb(error.value.__traceback__)[-1]
        assert last.line.startswith("raise"), f"{bad!r}: {error.value}"
        assert "torch" not in last.filename.split("/")


@pytest.mark.parametrize(("case", "name", "value"), list(_numbers()))
def test_numbers_of_numpy(case, name, value):
    kind = np.int32 if isinstance(value, int) else np.float64
    case.model_class(**{**case.arguments, name: kind(value)})
