# SPDX-License-Identifier: Apache-2.0
"""What authors of models need to test them.

A :class:`Case` shows a model at work, and :func:`conformance_test` makes a test of it that tries
whatever the library expects of all models. A complete test file::

    import torch
    from my_package import MyModel
    from physicsnemo.testing import Case, conformance_test

    CASES = [Case("small", MyModel, {"size": 3}, lambda: (torch.ones(4, 3),))]
    test_conformance = conformance_test(CASES)

:func:`run_checks` does the same without pytest, and :func:`each_result` one by one.
"""

from physicsnemo.core.lazy import lazy_exports

__all__ = [
    "ONNX_LIBRARIES",
    "Case",
    "Check",
    "Result",
    "check_bad_inputs",
    "check_compile",
    "check_flag",
    "check_reference_case",
    "conformance_test",
    "each_result",
    "noise",
    "provable_flags",
    "run_checks",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ONNX_LIBRARIES": "physicsnemo.testing._proofs",
        "Case": "physicsnemo.testing.case",
        "Check": "physicsnemo.testing.checks",
        "Result": "physicsnemo.testing.conformance",
        "check_bad_inputs": "physicsnemo.testing.checks.bad_inputs",
        "check_compile": "physicsnemo.testing.checks.compilers",
        "check_flag": "physicsnemo.testing.flags",
        "check_reference_case": "physicsnemo.testing.reference",
        "conformance_test": "physicsnemo.testing.conformance",
        "each_result": "physicsnemo.testing.conformance",
        "noise": "physicsnemo.testing.case",
        "provable_flags": "physicsnemo.testing.flags",
        "run_checks": "physicsnemo.testing.conformance",
    },
)
