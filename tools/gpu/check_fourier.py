# SPDX-License-Identifier: Apache-2.0
"""Test Fourier transforms on a GPU: of the sizes whose real inverse cuFFT may get wrong, too.

Run it on a machine with a GPU: ``python -m tools.gpu.check_fourier [WORD ...]`` runs the checks
whose name contains all words. It prints one line a check and how many passed.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

import torch

from physicsnemo.nn.fourier import to_field
from tools.gpu.capture_common import require
from tools.gpu.checking import run

# Of 2**13 and 2**14 points, cuFFT takes the imaginary part of mode 0 for something else.
POINTS = (4096, 8191, 2**13, 10000, 2**14, 2**15)
KEPT = (200, 300, None)  # by a product with a matrix, by a fast transform, and all
SIZES = [(1, 1), (2, 3), (4, 32), (0, 3)]  # samples and channels
TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-9}


def checks() -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield the name of each check and the function that raises an error if it fails."""
    for n, kept, (batch, channels) in product(POINTS, KEPT, SIZES):
        count = kept or n // 2 + 1
        name = f"{batch} samples of {n} points, {channels} channels, from {count} modes"
        yield f"{name}: as on the CPU", partial(_to_field, n, count, batch, channels)


def _to_field(n: int, count: int, batch: int, channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = batch, 2, count, channels
    modes = torch.randn(shape, dtype=torch.float64, generator=generator)
    frequencies = [tuple(range(count))]
    expected = to_field(modes, [n], frequencies)
    for dtype, tolerance in TOLERANCES.items():
        got = to_field(modes.to("cuda", dtype), [n], frequencies).double().cpu()
        require(got.shape == expected.shape, f"the shape {tuple(got.shape)}")
        error = torch.linalg.vector_norm(got - expected) / torch.linalg.vector_norm(expected)
        require(not batch or error < tolerance, f"a relative difference of {error:.1e} in {dtype}")


if __name__ == "__main__":
    sys.exit(min(1, run(checks(), tuple(sys.argv[1:]))))
