# SPDX-License-Identifier: Apache-2.0
"""How far rounding takes transforms from float64, plainly and under autocast."""

import pytest
import torch

from physicsnemo.nn.fourier import to_field, to_modes, transforms

GRIDS = [
    pytest.param((2048,), [tuple(range(100))], id="1d"),
    pytest.param((96, 180), [(*range(16), *range(-16, 0)), tuple(range(20))], id="2d-few"),
    pytest.param((96, 180), [tuple(range(96)), tuple(range(91))], id="2d-all"),
    pytest.param(
        (24, 32, 40), [(*range(6), *range(-6, 0)), (*range(6), -1), tuple(range(8))], id="3d"
    ),
]
# Of the norm, after the way to modes and that to the field: rounded with each product, or at ends.
AUTOCAST_ERROR = {torch.bfloat16: 8e-3, torch.float16: 1e-3}


@pytest.fixture(params=["product", "fast"], autouse=True)
def _way(request, monkeypatch):
    monkeypatch.setattr(transforms, "prefer_matmul", lambda *_: request.param == "product")
    torch.manual_seed(0)


@pytest.fixture(params=[0, 1000], ids=["no-mean", "large-mean"])
def mean(request):
    return request.param


def there_and_back(x, frequencies):
    modes = to_modes(x, frequencies)
    return modes, to_field(modes, x.shape[1:-1], frequencies)


@pytest.mark.parametrize(("grid", "frequencies"), GRIDS)
def test_single_precision_is_kept(grid, frequencies, mean):
    x = mean + torch.randn(2, *grid, 4, dtype=torch.float64)
    single = there_and_back(x.float(), frequencies)
    for got, exact in zip(single, there_and_back(x, frequencies), strict=True):
        assert (got - exact).abs().max() < 1e-5 * exact.abs().max()


@pytest.mark.parametrize("dtype", AUTOCAST_ERROR)
@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize(("grid", "frequencies"), GRIDS)
def test_autocast(grid, frequencies, mean, rounded, dtype):
    """Also of fields that are in half precision already, as they are inside a model."""
    x = mean + torch.randn(2, *grid, 4, dtype=torch.float64)
    with torch.autocast("cpu", dtype):
        half = there_and_back(x.to(dtype if rounded else torch.float32), frequencies)
    for got, exact in zip(half, there_and_back(x, frequencies), strict=True):
        assert (got - exact).norm() < AUTOCAST_ERROR[dtype] * exact.norm()


@pytest.mark.parametrize("norm", ["forward", "ortho"])
def test_sums_over_many_points_do_not_overflow(norm):
    """The sum over these points is above 65504, the largest number of float16."""
    x = torch.full((1, 1024, 1), 500.0, dtype=torch.float16)
    with torch.autocast("cpu", torch.float16):
        modes = to_modes(x, [(0, 1)], norm)
        field = to_field(modes, [1024], [(0, 1)], norm)
    assert modes[0, 0, 0, 0] == (500 if norm == "forward" else 500 * 32)
    torch.testing.assert_close(field, x)


@pytest.mark.parametrize("matmul_precision", ["highest", "high"])
def test_global_settings_are_left_alone(matmul_precision):
    def settings():
        return (
            torch.get_float32_matmul_precision(),
            torch.backends.cuda.matmul.allow_tf32,
            torch.backends.cudnn.allow_tf32,
            torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
            torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
            torch.is_autocast_enabled("cpu"),
        )

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(matmul_precision)
    try:
        chosen = settings()
        seen = []
        x = torch.randn(1, 6, 5, 2, requires_grad=True)
        x.register_hook(lambda gradient: seen.append(settings()))
        modes, field = there_and_back(x, [(0, 1, -1), (0, 1)])
        modes.register_hook(lambda gradient: seen.append(settings()))
        field.sum().backward()
        assert [*seen, settings()] == [chosen] * 3
    finally:
        torch.set_float32_matmul_precision(before)
