# SPDX-License-Identifier: Apache-2.0
"""Linear maps and convolutions of the U-Nets: start values, types, and changes of resolution."""

import math

import pytest
import torch
from torch.nn import functional

from physicsnemo.models.diffusion import Conv2d, Linear, weight_init


@pytest.mark.parametrize(
    ("mode", "variance"),
    [
        ("xavier_uniform", 2 / 50),
        ("xavier_normal", 2 / 50),
        ("kaiming_uniform", 1 / 10),
        ("kaiming_normal", 1 / 10),
    ],
)
def test_variance_of_start_values(mode, variance):
    weights = weight_init((300, 400), mode, fan_in=10, fan_out=40)
    assert weights.var().item() == pytest.approx(variance, rel=0.02)
    assert weights.mean().abs() < 5 * math.sqrt(variance / weights.numel())
    if mode.endswith("uniform"):
        assert weights.abs().max().item() == pytest.approx(math.sqrt(3 * variance), rel=1e-3)


def test_no_such_start():
    with pytest.raises(ValueError, match="one of xavier_uniform, .*, got 'orthogonal'"):
        weight_init((2, 2), "orthogonal", 2, 2)


@pytest.mark.parametrize("layer", [Linear, lambda *size, **kw: Conv2d(*size, kernel=3, **kw)])
def test_factors_on_start_values(layer):
    plain = layer(3, 4, init_bias=1)
    torch.manual_seed(0)
    scaled = layer(3, 4, init_weight=0.5, init_bias=2)
    torch.manual_seed(0)
    plain = layer(3, 4, init_bias=1)
    torch.testing.assert_close(scaled.weight, 0.5 * plain.weight)
    torch.testing.assert_close(scaled.bias, 2 * plain.bias)
    assert not layer(3, 4).bias.any()
    assert layer(3, 4, bias=False).bias is None


@pytest.mark.parametrize("layer", [Linear(3, 4), Conv2d(3, 4, kernel=1)])
def test_weights_follow_the_type_of_the_input(layer):
    x = torch.randn(2, 3, 3, 3, dtype=torch.bfloat16)
    assert layer(x).dtype == torch.bfloat16
    layer.amp_mode = True
    with pytest.raises(RuntimeError, match="dtype|type"):
        layer(x)
    for mode in (False, True):
        layer.amp_mode = mode
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(torch.randn(2, 3, 3, 3)).dtype == torch.bfloat16
    layer.amp_mode = False


def of_doubled_zeros(x, taps, factor):
    """Interpolate by the definition: zeros between pixels, then the filter, cropped to size."""
    line = torch.tensor(taps, dtype=x.dtype)
    kernel = torch.outer(line, line) / line.sum() ** 2 * factor
    wide = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    wide[..., ::2, ::2] = x
    return correlate(wide, kernel.flip(0, 1), before=len(taps) // 2)


def correlate(x, kernel, before, stride=1):
    """Sum over the window of each pixel, with zeros around the image."""
    n = len(kernel)
    padded = functional.pad(x, (before, n - 1 - before) * 2)
    windows = padded.unfold(2, n, stride).unfold(3, n, stride)
    return (windows * kernel).sum((-1, -2))


@pytest.mark.parametrize("taps", [[1, 1], [2, 2], [1, 3, 3, 1], [1, 2]])
def test_doubling(taps):
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    layer = Conv2d(3, 3, kernel=0, up=True, resample_filter=taps).double()
    assert list(layer.state_dict()) == ["resample_filter"]
    torch.testing.assert_close(layer(x), of_doubled_zeros(x, taps, factor=4), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("taps", [[1, 1], [1, 3, 3, 1]])
def test_halving(taps):
    x = torch.randn(2, 3, 6, 4, dtype=torch.float64)
    layer = Conv2d(3, 3, kernel=0, down=True, resample_filter=taps).double()
    line = torch.tensor(taps, dtype=torch.float64)
    kernel = torch.outer(line, line) / line.sum() ** 2
    before = (len(taps) - 1) // 2
    expected = correlate(x, kernel, before, stride=2)[:, :, :3, :2]
    torch.testing.assert_close(layer(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("taps", [[1, 1], [1, 3, 3, 1]])
@pytest.mark.parametrize("up", [False, True])
def test_a_constant_image_stays_so_inside(taps, up):
    layer = Conv2d(2, 2, kernel=0, up=up, down=not up, resample_filter=taps)
    inside = layer(torch.full((1, 2, 8, 8), 3.0))[..., 1:-1, 1:-1]
    torch.testing.assert_close(inside, torch.full_like(inside, 3.0))


@pytest.mark.parametrize("taps", [[1, 1], [1, 3, 3, 1]])
@pytest.mark.parametrize("up", [False, True])
def test_fused_resampling_differs_at_the_border_only(taps, up):
    options = {"up": up, "down": not up, "resample_filter": taps, "init_bias": 1}
    plain = Conv2d(2, 3, kernel=3, **options).double()
    fused = Conv2d(2, 3, kernel=3, fused_resample=True, **options).double()
    fused.load_state_dict(plain.state_dict())
    x = torch.randn(2, 2, 16, 12, dtype=torch.float64)
    assert fused(x).shape == plain(x).shape
    assert list(plain.state_dict()) == ["weight", "bias", "resample_filter"]
    if up:
        inside = (..., slice(3, -3), slice(3, -3))
        torch.testing.assert_close(fused(x)[inside], plain(x)[inside])
        return
    # Halving after the convolution sees the kernel at all pixels.
    everywhere = functional.conv2d(x, plain.weight, plain.bias, padding=1)
    halved = Conv2d(3, 3, kernel=0, down=True, resample_filter=taps).double()(everywhere)
    inside = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(fused(x)[inside], halved[inside])


def test_convolution_after_resampling():
    layer = Conv2d(2, 3, kernel=3, up=True, init_bias=1)
    x = torch.randn(1, 2, 4, 5)
    doubled = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = functional.conv2d(doubled, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("taps", [[1, 1], [1, 3, 3, 1]])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_memory_format_is_kept(taps, direction):
    layer = Conv2d(4, 6, kernel=3, resample_filter=taps, **{direction: True})
    x = torch.randn(2, 4, 8, 8).to(memory_format=torch.channels_last)
    layer.to(memory_format=torch.channels_last)
    assert layer(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("options", [{"up": True}, {"down": True, "fused_resample": True}])
@pytest.mark.parametrize("taps", [[1, 1], [1, 3, 3, 1]])
def test_gradients(options, taps):
    layer = Conv2d(1, 2, kernel=3, resample_filter=taps, **options).double()
    x = torch.randn(1, 1, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,), fast_mode=True)


def test_up_and_down():
    with pytest.raises(ValueError, match="up or down, got both"):
        Conv2d(1, 1, kernel=3, up=True, down=True)
