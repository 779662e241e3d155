# SPDX-License-Identifier: Apache-2.0
"""There are three kinds of numerics, and an unknown one is refused with their names."""

import re

import pytest

from physicsnemo.nn.numerics import IMPLIED, PAPER, check_numerics


def test_known():
    for numerics in (PAPER, *(implied["numerics"] for implied in IMPLIED.values())):
        check_numerics(numerics)


def test_unknown():
    expected = "one of paper, reference-1.2, reference-2.1, got 'reference'"
    with pytest.raises(ValueError, match=re.escape(expected)):
        check_numerics("reference")
