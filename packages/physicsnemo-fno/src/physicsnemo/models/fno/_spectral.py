# SPDX-License-Identifier: Apache-2.0
"""The spectral convolution, for grids of one to four dimensions."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from physicsnemo.nn.checks import Layout, check_input

# The corners of the spectrum that hold its low frequencies, in the order of the weights: on which
# side of zero the frequencies of each axis lie. The last axis needs one side only, since the
# spectrum of a real field is symmetric.
CORNERS: dict[int, tuple[str, ...]] = {
    1: ("",),
    2: ("+", "-"),
    3: ("++", "-+", "+-", "--"),
    4: ("+++", "-++", "+-+", "++-", "--+", "-+-", "+--", "---"),
}


class SpectralConv(nn.Module):
    r"""A linear map of the channels of each low Fourier mode; the other modes become zero.

    With :math:`\mathcal F` the discrete Fourier transform over the grid and :math:`W_k` a complex
    matrix for each retained mode :math:`k`, the layer computes
    :math:`\mathcal F^{-1}(W_k (\mathcal F x)_k)`. It does so in single precision or better, also
    under autocast, and returns the precision of its input.

    Parameters
    ----------
    in_channels
        Channels of the input.
    out_channels
        Channels of the output.
    modes
        How many modes to retain along each axis of the grid, which has one to four. ``m`` modes
        are the frequencies 0 to m - 1 of the last axis, and -m to m - 1 of any other.

    Attributes
    ----------
    weights1, weights2, ...
        The matrices of each corner of the spectrum, of shape (in_channels, out_channels, *modes, 2)
        with real and imaginary parts last. Where corners overlap, because the grid has fewer
        points than twice the modes, the later one holds.

    Raises
    ------
    ValueError
        If ``modes`` has no or more than four entries, or one that is not positive.

    References
    ----------
    Li et al. 2020, arXiv:2010.08895, section 4.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.fno import SpectralConv
    >>> SpectralConv(2, 3, modes=[4, 4])(torch.zeros(1, 2, 16, 9)).shape
    torch.Size([1, 3, 16, 9])
    """

    def __init__(self, in_channels: int, out_channels: int, modes: Sequence[int]) -> None:
        super().__init__()
        if len(modes) not in CORNERS or min(modes) < 1:
            raise ValueError(f"expected positive numbers of modes for 1 to 4 axes, got {modes}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.modes = tuple(modes)
        self._corners = [_corner(signs, self.modes) for signs in CORNERS[len(modes)]]
        for number in range(1, len(self._corners) + 1):
            start = torch.rand(in_channels, out_channels, *modes, 2) / (in_channels * out_channels)
            self.register_parameter(f"weights{number}", nn.Parameter(start))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer.

        Parameters
        ----------
        x
            Fields of shape (batch, in_channels, *grid), periodic along each axis of the grid.

        Returns
        -------
        Fields of shape (batch, out_channels, *grid).

        Raises
        ------
        TypeError
            If ``x`` does not hold floating-point numbers.
        ValueError
            If it has another shape or device than expected, or the spectrum of its grid has fewer
            modes than the layer retains.
        """
        check_input(x, field_layout(self.in_channels, len(self.modes)), next(self.parameters()))
        grid = x.shape[2:]
        _check_modes(self.modes, grid)
        precision = torch.promote_types(x.dtype, torch.float32)
        axes = tuple(range(2, x.ndim))
        with _no_autocast(x.device.type):
            spectrum = torch.fft.rfftn(x.to(precision), dim=axes)
            return _inverse(self._mix(spectrum), grid).to(x.dtype)

    def extra_repr(self) -> str:
        """Return the sizes, as they appear in the printed model."""
        return f"{self.in_channels}, {self.out_channels}, modes={self.modes}"

    def _mix(self, spectrum: Tensor) -> Tensor:
        # In real arithmetic, with the parts as a last axis: compilers generate no complex code.
        parts = torch.view_as_real(spectrum)
        batch, _, *sizes = parts.shape
        mixed = parts.new_zeros(batch, self.out_channels, *sizes)
        for corner, weight in zip(self._corners, self.parameters(), strict=True):
            real, imaginary = weight.to(parts.dtype).unbind(-1)
            products = torch.stack((real, imaginary, -imaginary, real), dim=-1)
            matrices = products.unflatten(-1, (2, 2))
            mixed[corner] = torch.einsum("bi...p,io...pq->bo...q", parts[corner], matrices)
        return torch.view_as_complex(mixed)


def _no_autocast(device_type: str) -> AbstractContextManager[None]:
    """Keep the products in single precision; the meta device knows no autocast."""
    return nullcontext() if device_type == "meta" else torch.autocast(device_type, enabled=False)


def field_layout(in_channels: int, dimension: int) -> Layout:
    """Return the axes of a field, for :func:`physicsnemo.nn.checks.check_input`."""
    grid = {f"n{axis}": None for axis in range(1, dimension + 1)}
    return {"batch": None, "in_channels": in_channels} | grid


def _corner(signs: str, modes: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the index of a corner in a spectrum of shape (batch, channels, *frequencies)."""
    below = [sign == "-" for sign in signs] + [False]
    sides = [slice(-m, None) if b else slice(m) for b, m in zip(below, modes, strict=True)]
    return (slice(None), slice(None), *sides)


def _inverse(spectrum: Tensor, grid: torch.Size) -> Tensor:
    """Transform back to the grid.

    The corners have weights of their own, so this is not the spectrum of a real field, the only
    one for which ``irfftn`` defines its result. Complex transforms of the leading axes, and then a
    real one of the last, give a defined result for any half spectrum.
    """
    leading = tuple(range(2, spectrum.ndim - 1))
    field: Tensor = torch.fft.irfft(torch.fft.ifftn(spectrum, dim=leading), n=grid[-1])
    return field


def _check_modes(modes: tuple[int, ...], grid: torch.Size) -> None:
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return  # see check_input
    spectrum = (*grid[:-1], grid[-1] // 2 + 1)
    for axis, (asked, available) in enumerate(zip(modes, spectrum, strict=True), start=1):
        if asked > available:
            raise ValueError(
                f"{asked} modes are asked for along spatial dimension {axis}, but {grid[axis - 1]} "
                f"grid points (padding included) have a spectrum of {available}; ask for at most "
                f"{available} modes, or use a finer grid or more padding"
            )
