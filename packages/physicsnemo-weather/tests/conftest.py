# SPDX-License-Identifier: Apache-2.0
"""Which tests take minutes each: to compile and to export models of a hundred blocks."""

import pytest

DEEP = {"Fengwu", "SwinRNN"}
WHOLE = {"compile", "export", "onnx_runtime"}


def pytest_collection_modifyitems(items):
    """Mark them, for the session that runs them."""
    for item in items:
        values = item.callspec.params if hasattr(item, "callspec") else {}
        if {"case", "check"} <= values.keys():
            case, check = values["case"], values["check"]
            if case.model in DEEP and check.name in WHOLE:
                item.add_marker(pytest.mark.slow)
