# SPDX-License-Identifier: Apache-2.0
"""What authors of models need to test them."""

from physicsnemo.core.lazy import lazy_exports

__all__ = ["Case", "check_flag", "check_reference_case", "provable_flags"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Case": "physicsnemo.testing.case",
        "check_flag": "physicsnemo.testing.flags",
        "check_reference_case": "physicsnemo.testing.reference",
        "provable_flags": "physicsnemo.testing.flags",
    },
)
