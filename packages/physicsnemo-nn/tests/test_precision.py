# SPDX-License-Identifier: Apache-2.0
"""Types and autocast, on devices that know it and on the one that does not."""

import pytest
import torch

from physicsnemo.nn.precision import at_least_float32, no_autocast, widened


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_widening(given, expected):
    assert at_least_float32(given) == expected
    assert widened(torch.ones(1, dtype=given)).dtype == expected
    assert widened(torch.ones(1, dtype=given, device="meta")).dtype == expected


def test_autocast_chooses_the_precision_and_is_switched_off():
    x = torch.ones(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert widened(x.half()).dtype == torch.float16
        assert (x @ x).dtype == torch.bfloat16
        with no_autocast(x):
            assert (x @ x).dtype == torch.float32
            assert widened(x.half()).dtype == torch.float32
        assert (x @ x).dtype == torch.bfloat16
        with no_autocast(x.to("meta")):
            pass
