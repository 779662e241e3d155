# SPDX-License-Identifier: Apache-2.0
"""Spectral convolution, for grids of one to four dimensions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from physicsnemo.nn.checks import check_input, field_layout
from physicsnemo.nn.fourier import Frequencies, concrete, to_field, to_modes, widened
from physicsnemo.nn.numerics import PAPER, has_oddity
from physicsnemo.nn.tracing import is_tracing, is_transformed

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
    r"""Spectral convolution: mix the channels of each low Fourier mode, and drop the other modes.

    With :math:`\mathcal F` the discrete Fourier transform over the grid and :math:`W_k` a complex
    matrix for each retained mode :math:`k`, the layer computes
    :math:`\mathcal F^{-1}(W_k (\mathcal F x)_k)`. All of it is products of real matrices, in the
    precision that autocast chooses for them, else in float32 or wider; see
    :mod:`physicsnemo.nn.fourier`.

    Parameters
    ----------
    in_channels
        Input channels.
    out_channels
        Output channels.
    modes
        Number of Fourier modes to keep along each of 1 to 4 spatial dimensions. ``m`` modes are
        the frequencies 0 to m - 1 of the last axis, and -m to m - 1 of any other.
    numerics
        ``paper``, or the name of a release of nvidia-physicsnemo, as in ``reference-2.0``; see
        ``weights1``.

    Attributes
    ----------
    weights1, weights2, ...
        Complex matrices of each corner of the spectrum, of shape (in_channels, out_channels,
        *modes, 2) with real and imaginary parts last. Where corners overlap, because the grid has
        fewer points than twice the modes, the later one holds; in ``reference-2.0`` and later ones,
        their sum.

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

    def __init__(
        self, in_channels: int, out_channels: int, modes: Sequence[int], numerics: str = PAPER
    ) -> None:
        super().__init__()
        self.sums_corners = has_oddity(numerics, "summed_corners")
        if len(modes) not in CORNERS or min(modes) < 1:
            raise ValueError(f"expected positive numbers of modes for 1 to 4 axes, got {modes}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.modes = tuple(modes)
        for number in range(1, len(CORNERS[len(modes)]) + 1):
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
        layout = field_layout(self.in_channels, len(self.modes))
        check_input(x, layout, next(self.parameters()), numbers="floating")
        check_modes(self.modes, x.shape[2:])
        return self.at_points(x.movedim(1, -1)).movedim(-1, 1)

    def at_points(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Apply the layer to fields with channels last, unchecked.

        Parameters
        ----------
        x
            Fields of shape (batch, *grid, in_channels).
        bias
            What to add to each output channel, of shape (out_channels,).

        Returns
        -------
        Fields of shape (batch, *grid, out_channels).
        """
        grid = x.shape[1:-1]
        frequencies = frequencies_of(self.modes, grid)
        mixed = self.mix(to_modes(widened(x), frequencies), frequencies)
        if bias is not None:
            # A constant is the mean of a field. There are few modes, so this costs less than to add
            # it to all points, and to sum its gradient over them.
            mixed = mixed + _of_mean(bias.to(mixed.dtype), grid, frequencies)
        return to_field(mixed, grid, frequencies).to(x.dtype)

    def extra_repr(self) -> str:
        """Return the sizes, as they appear in the printed model."""
        return f"{self.in_channels}, {self.out_channels}, modes={self.modes}"

    def mix(
        self,
        modes: Tensor,
        frequencies: Sequence[Frequencies],
        share: tuple[int, int] | None = None,
    ) -> Tensor:
        """Multiply each mode by its matrix, both parts with both in one product.

        Parameters
        ----------
        modes
            Modes of shape (batch, 2, k1, ..., kd, in_channels).
        frequencies
            All modes that are kept.
        share
            If these are modes of some frequencies of the first axis only, the first of them and
            the one after the last, by their places in ``frequencies``.

        Returns
        -------
        Modes of shape (batch, 2, k1, ..., kd, out_channels).
        """
        if share is None and self._leaves_weights(modes):
            return self._mix_corners(modes)
        # All modes are one batch of products, (batch * parts, parts * in) by (parts * in, out),
        # where rows hold (real, -imaginary) for the real part and (imaginary, real) for the
        # imaginary one. An einsum of complex tensors is unknown to compilers, and autocast would
        # leave it in single precision.
        _, _, *sizes, _ = modes.shape  # (batch, parts, *kept, channels)
        real, imaginary = (part.movedim(0, -2) for part in modes.unbind(1))
        rows = torch.stack((real, -imaginary, imaginary, real), dim=-2)
        rows = rows.flatten(0, len(sizes) - 1).unflatten(2, (2, 2)).flatten(3).flatten(1, 2)
        weights = self._weights(frequencies, share, modes.dtype)
        matrices = weights.flatten(0, len(sizes) - 1).flatten(1, 2)
        products = torch.bmm(rows, matrices).unflatten(1, (-1, 2))
        result: Tensor = products.permute(1, 2, 0, 3).unflatten(2, sizes)
        return result

    def _leaves_weights(self, modes: Tensor) -> bool:
        """Return whether weights had best stay where they lie, not be turned for one product.

        That is so on a CPU for small batches of three or more axes: turning is most of the work.
        """
        if is_tracing() or is_transformed() or torch.compiler.is_compiling() or self.sums_corners:
            return False
        small = 0 < len(modes) <= 4 and len(self.modes) > 2
        return small and modes.is_cpu and modes.dtype == next(self.parameters()).dtype

    def _mix_corners(self, modes: Tensor) -> Tensor:
        """Multiply the modes of each corner by its weights as they lie, one channel at a time."""
        spectrum = torch.view_as_complex(modes.movedim((1, -1), (-1, 1)).contiguous())
        batch, _, *sizes = spectrum.shape
        mixed = spectrum.new_empty(batch, self.out_channels, *sizes)
        for signs, weights in zip(CORNERS[len(sizes)], self.parameters(), strict=True):
            places, used = [], []
            for sign, size, count in zip((*signs, ""), sizes, self.modes, strict=True):
                # Where corners overlap, fewer modes than weights are left before the negative ones.
                length = size - count if sign == "+" else count
                places.append(slice(size - length, size) if sign == "-" else slice(length))
                used.append(slice(length))
            channels = spectrum[:, :, *places].unsqueeze(2).unbind(1)
            matrices = torch.view_as_complex(weights)[:, :, *used].unbind(0)
            total = channels[0] * matrices[0]
            for channel, matrix in zip(channels[1:], matrices[1:], strict=True):
                total.addcmul_(channel, matrix)
            mixed[:, :, *places] = total
        return torch.view_as_real(mixed).movedim((-1, 1), (1, -1))

    def _weights(
        self,
        frequencies: Sequence[Frequencies],
        share: tuple[int, int] | None,
        dtype: torch.dtype,
    ) -> Tensor:
        """Return weights of all kept modes or a share, (*kept, 2, in_channels, out_channels)."""
        # The corners are joined axis by axis to one block, in the order that the transform returns
        # its modes in: one product then serves all corners, and modes stay where they are. Each is
        # rounded and turned before, so that joining is the one copy of weights of that size.
        count = len(self.modes)
        sizes = [len(kept) for kept in frequencies]
        joins = [
            _sum if self.sums_corners and size < 2 * modes else _join
            for size, modes in zip(sizes, self.modes, strict=True)
        ]
        order = (*range(2, 2 + count), 2 + count, 0, 1)
        rounded = None if self.sums_corners else dtype  # sums are rounded once
        corners: dict[str, Tensor] = dict(zip(CORNERS[count], self.parameters(), strict=True))
        if share is not None and count > 1 and joins[0] is _join:
            corners = {
                signs: _own(weights, signs[0] == "-", sizes[0], share)
                for signs, weights in corners.items()
            }
            sizes[0], share = share[1] - share[0], None
        corners = {
            signs: weights.to(rounded or weights.dtype).permute(order)
            for signs, weights in corners.items()
        }
        for axis in reversed(range(count - 1)):
            corners = {
                signs[:-1]: joins[axis](
                    positive=corners[signs[:-1] + "+"],
                    negative=corners[signs[:-1] + "-"],
                    axis=axis,
                    size=sizes[axis],
                )
                for signs in corners
            }
        weights = corners[""].to(dtype)
        return weights if share is None else weights[slice(*share)]


def _of_mean(values: Tensor, grid: Sequence[int], frequencies: Sequence[Frequencies]) -> Tensor:
    """Return modes of shape (1, 2, *kept, channels): those of fields that are constant."""
    widths = [0, 0]  # PyTorch counts the axes from the last one, the channels
    for n, kept in zip(reversed(grid), reversed(frequencies), strict=True):
        place = kept.index(0) if 0 in kept else kept.index(-concrete(n))
        widths += [place, len(kept) - 1 - place]
    modes = values.reshape(*[1] * (2 + len(frequencies)), -1)
    return pad(modes, [*widths, 0, 1])


def _own(weights: Tensor, negative: bool, size: int, share: tuple[int, int]) -> Tensor:
    """Return those weights of one side of zero that belong to a share of the first axis."""
    modes = weights.shape[2]
    start, count = (size - modes, modes) if negative else (0, size - modes)
    first, stop = (min(max(place - start, 0), count) for place in share)
    # Whole ones as they are: the derivatives of a slice would be copied to zeros.
    return weights if stop - first == modes else weights[:, :, first:stop]


def _join(positive: Tensor, negative: Tensor, axis: int, size: int) -> Tensor:
    """Return the weights of both sides of zero, the negative ones where they overlap."""
    rest = size - concrete(negative.shape[axis])
    if rest < concrete(positive.shape[axis]):  # else there would be a copy in the backward pass
        positive = positive.narrow(axis, 0, rest)
    return torch.cat((positive, negative), dim=axis)


def _sum(positive: Tensor, negative: Tensor, axis: int, size: int) -> Tensor:
    """Return the weights of both sides of zero, their sum where they overlap."""
    behind = [0, 0] * (positive.ndim - 1 - axis)  # PyTorch counts the axes from the last one
    rest = size - positive.shape[axis]
    return pad(positive, [*behind, 0, rest]) + pad(negative, [*behind, rest, 0])


def frequencies_of(modes: tuple[int, ...], grid: Sequence[int]) -> list[Frequencies]:
    """Return the kept frequencies of each axis.

    Where a grid has fewer points than twice the modes, those at both ends belong to the negative
    side, whose corner comes later in the order of the weights.
    """
    grid = list(map(concrete, grid))
    both_sides = [
        (*range(min(m, n - m)), *range(-m, 0)) for m, n in zip(modes[:-1], grid, strict=False)
    ]
    return [*both_sides, tuple(range(modes[-1]))]


def check_modes(modes: Sequence[int], grid: Sequence[int]) -> None:
    """Raise a ValueError if the spectrum of a grid has fewer modes than asked for."""
    if is_tracing():
        return
    spectrum = (*grid[:-1], grid[-1] // 2 + 1)
    for axis, (asked, available) in enumerate(zip(modes, spectrum, strict=True), start=1):
        if asked > available:
            raise ValueError(
                f"{asked} modes are asked for along spatial dimension {axis}, but {grid[axis - 1]} "
                f"grid points (padding included) have a spectrum of {available}; ask for at most "
                f"{available} modes, or use a finer grid or more padding"
            )
