# SPDX-License-Identifier: Apache-2.0
"""Fourier transforms on a GPU, also of the sizes whose real inverse cuFFT may get wrong."""

import pytest
import torch

from physicsnemo.nn.fourier import to_field

pytestmark = pytest.mark.gpu

# Of 2**13 and 2**14 points, cuFFT takes the imaginary part of mode 0 for something else.
POINTS = [4096, 8191, 2**13, 10000, 2**14, 2**15]
KEPT = [200, 300, None]  # by a product with a matrix, by a fast transform, and all
TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-9}


@pytest.mark.parametrize(("samples", "channels"), [(1, 1), (2, 3), (4, 32), (0, 3)])
@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("n", POINTS)
def test_a_field_is_that_of_the_cpu(n, kept, samples, channels, gpu):
    count = kept or n // 2 + 1
    modes = torch.randn(samples, 2, count, channels, dtype=torch.float64)
    frequencies = [tuple(range(count))]
    expected = to_field(modes, [n], frequencies)
    for dtype, tolerance in TOLERANCES.items():
        got = to_field(modes.to(gpu, dtype), [n], frequencies).double().cpu()
        assert got.shape == expected.shape
        error = torch.linalg.vector_norm(got - expected) / torch.linalg.vector_norm(expected)
        assert not samples or error < tolerance
