# SPDX-License-Identifier: Apache-2.0
"""Time both methods to transform an axis: ``python -m tools.bench.transforms [--device cuda]``.

For each number of points and of kept modes it prints what a product with a matrix takes relative to
a fast Fourier transform, there and back with gradients, and which of them the library chooses. A
ratio below 1 favours the product.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from unittest.mock import patch

import torch

from physicsnemo.nn.fourier import to_field, to_modes, transforms
from tools.bench.fourier_methods import fourier_method
from tools.bench.report import duration, provenance, show, write_json

SIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
MODES = (8, 16, 32, 64, 128, 256, 512)
CHANNELS = 32
NUMBERS = {"cuda": 2**24, "cpu": 2**20}
STEPS = 7
WARMUP = 2


@dataclass(frozen=True)
class Row:
    """One number of points and modes of an axis, and what its transform takes.

    Attributes
    ----------
    axis
        ``real`` for the last axis of real fields, ``complex`` for any other.
    points, modes
        Number of its points, and of the modes that are kept.
    product_s, fft_s
        Median time of a step that uses one method, or the other.
    chosen
        The method that the library chooses.
    """

    axis: str
    points: int
    modes: int
    product_s: float
    fft_s: float
    chosen: str

    @property
    def ratio(self) -> float:
        """The product's time relative to that of the fast transform."""
        return self.product_s / self.fft_s


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.transforms", description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--points", type=int, nargs="+", default=SIZES, metavar="N")
    parser.add_argument("--modes", type=int, nargs="+", default=MODES, metavar="M")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    options = parser.parse_args(arguments)
    rows = list(measure(torch.device(options.device), options.points, options.modes))
    columns = ("axis", "points", "modes", "product", "fft", "ratio", "chosen")
    show(f"One axis, {options.device}", columns, [_cells(row) for row in rows])
    if options.json:
        write_json(options.json, provenance() | {"device": options.device}, results=rows)


def measure(device: torch.device, points: Sequence[int], modes: Sequence[int]) -> Iterator[Row]:
    """Yield what each transform takes, where an axis has so many modes."""
    for n, kept in product(points, modes):
        if kept <= n // 2 + 1:
            yield _row("real", n, kept, device)
        if kept <= n:
            yield _row("complex", n, kept, device)


def _row(axis: str, n: int, kept: int, device: torch.device) -> Row:
    step = _step(axis, n, kept, device)
    with patch.object(transforms, "prefer_matmul", lambda *_: True):
        product_s = _time(step, device)
    # Of one point is the other axis of complex values: always transformed in the same way.
    with patch.object(transforms, "prefer_matmul", lambda size, *_: size == 1):
        fft_s = _time(step, device)
    return Row(axis, n, kept, product_s, fft_s, fourier_method(n, kept, device))


def _step(axis: str, n: int, kept: int, device: torch.device) -> Callable[[], None]:
    """Return what transforms fields there and back, and computes their gradient."""
    grid, frequencies = [n], [tuple(range(kept))]
    if axis == "complex":
        grid, frequencies = [n, 1], [(*range(kept // 2), *range(kept // 2 - kept, 0)), (0,)]
    lines = max(1, NUMBERS[device.type] // (n * CHANNELS))
    field = torch.randn(lines, *grid, CHANNELS, device=device, requires_grad=True)
    direction = torch.randn_like(field)

    def step() -> None:
        to_field(to_modes(field, frequencies), grid, frequencies).backward(direction)

    return step


def _time(step: Callable[[], None], device: torch.device) -> float:
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[WARMUP:])


def _cells(row: Row) -> tuple[str, ...]:
    times = duration(row.product_s), duration(row.fft_s)
    return row.axis, str(row.points), str(row.modes), *times, f"{row.ratio:.2f}", row.chosen


if __name__ == "__main__":
    main()
