# SPDX-License-Identifier: Apache-2.0
"""Adaptive Fourier filter: a block-diagonal MLP that all Fourier modes share."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.nn.checks import check_at_least, check_input, check_real, is_integer
from physicsnemo.nn.fourier import Frequencies, to_field, to_modes, widened
from physicsnemo.nn.numerics import PAPER, check_numerics

Grid = tuple[int, int]
Modes = tuple[Frequencies, Frequencies]
"""The kept frequencies of the first axis, and those of the second, from 0 upwards."""


class SpectralFilter(nn.Module):
    """Base of :class:`AFNO2DLayer` and of its modulated variant.

    Parameters
    ----------
    hidden_size
        Input and output channels.
    num_blocks
        Number of diagonal blocks of the weights; each mixes its share of the channels by itself.
    sparsity_threshold
        Soft-shrinkage threshold of real and imaginary parts of the filtered modes.
    hard_thresholding_fraction
        Truncation: of n points along an axis, the frequencies below ``int((n // 2 + 1) *
        fraction)`` are kept. The other modes of the filter's output are zero.
    hidden_size_factor
        Expansion ratio: hidden channels of a block by its channels.
    numerics
        ``paper``, or the name of a release as in ``reference-2.1`` for the modes that
        nvidia-physicsnemo keeps; see :class:`~physicsnemo.models.afno.afno.AFNO`.

    Attributes
    ----------
    w1, b1, w2, b2
        Weights and biases of the two layers, of shapes (2, num_blocks, in, out) and
        (2, num_blocks, out), with real and imaginary parts first.

    Raises
    ------
    ValueError
        If ``hidden_size`` is not divisible by ``num_blocks``, or another option has a value that
        it cannot have.
    """

    def __init__(
        self,
        hidden_size: int,
        num_blocks: int = 8,
        sparsity_threshold: float = 0.01,
        hard_thresholding_fraction: float = 1.0,
        hidden_size_factor: int = 1,
        numerics: str = PAPER,
    ) -> None:
        super().__init__()
        check_at_least(1, hidden_size_factor=hidden_size_factor)
        if not is_integer(num_blocks) or num_blocks < 1 or hidden_size % num_blocks:
            raise ValueError(
                f"expected num_blocks to divide the channels, got {hidden_size} channels and "
                f"num_blocks={num_blocks}"
            )
        check_real(
            sparsity_threshold=sparsity_threshold,
            hard_thresholding_fraction=hard_thresholding_fraction,
        )
        if not sparsity_threshold >= 0:
            raise ValueError(f"expected sparsity_threshold >= 0, got {sparsity_threshold}")
        if not 0 < hard_thresholding_fraction <= 1:
            raise ValueError(
                f"expected hard_thresholding_fraction above 0 and up to 1, "
                f"got {hard_thresholding_fraction}"
            )
        check_numerics(numerics)
        self.hidden_size = hidden_size
        self.num_blocks = num_blocks
        self.sparsity_threshold = sparsity_threshold
        self.hard_thresholding_fraction = hard_thresholding_fraction
        self.numerics = numerics
        size = hidden_size // num_blocks
        hidden = size * hidden_size_factor
        self.w1 = _small_random(2, num_blocks, size, hidden)
        self.b1 = _small_random(2, num_blocks, hidden)
        self.w2 = _small_random(2, num_blocks, hidden, size)
        self.b2 = _small_random(2, num_blocks, size)

    def modes(self, grid: Grid) -> Modes:
        """Return the Fourier modes that the filter keeps on a grid.

        Parameters
        ----------
        grid
            Number of points along the two axes.

        Raises
        ------
        ValueError
            If there are none.
        """
        if self.numerics == PAPER:
            return lowest_modes(grid, self.hard_thresholding_fraction)
        return reference_modes(grid, self.hard_thresholding_fraction, self._reference_size(grid))

    def extra_repr(self) -> str:
        """Return the options, as they appear in the printed model."""
        return (
            f"{self.hidden_size}, num_blocks={self.num_blocks}, "
            f"hard_thresholding_fraction={self.hard_thresholding_fraction}, "
            f"numerics={self.numerics!r}"
        )

    def _reference_size(self, grid: Grid) -> int:
        raise NotImplementedError

    def _filter(self, x: Tensor, modulate: Callable[[Tensor], Tensor]) -> Tensor:
        """Filter x, and add x; ``modulate`` acts on the hidden features of the blocks."""
        # All modes share the weights, unlike those of an FNO, as all tokens share an MLP: this is
        # an MLP of the channels in Fourier space.
        layout = {"batch": None, "height": None, "width": None, "hidden_size": self.hidden_size}
        check_input(x, layout, self.w1, numbers="floating")
        grid = (x.shape[1], x.shape[2])
        kept = self.modes(grid)
        wide = widened(x)
        modes = self.filter_modes(to_modes(wide, kept, norm="ortho"), modulate)
        return (to_field(modes, grid, kept, norm="ortho") + wide).to(x.dtype)

    def filter_modes(self, modes: Tensor, modulate: Callable[[Tensor], Tensor]) -> Tensor:
        """Filter modes of shape (batch, 2, rows, columns, hidden_size), each by itself."""
        real, imaginary = modes.unbind(1)
        features = to_blocks(real, imaginary, self.num_blocks)
        features = functional.relu(modulate(_complex_linear(features, self.w1, self.b1)))
        features = _complex_linear(features, self.w2, self.b2)
        filtered = torch.stack(_from_blocks(features), dim=1)
        # Shrunk where it lies at last, or compilers would compute what gradients need by itself.
        return functional.softshrink(filtered, self.sparsity_threshold)


class AFNO2DLayer(SpectralFilter):
    r"""Adaptive Fourier filter of a grid of tokens, with a skip connection.

    With :math:`\mathcal F` the discrete Fourier transform over the grid, and for each block of
    channels complex matrices :math:`W_1, W_2` and vectors :math:`b_1, b_2` that all modes share,
    the layer computes

    .. math:: x + \mathcal F^{-1} S_\lambda (W_2\, \sigma(W_1 \mathcal F x + b_1) + b_2),

    where the ReLU :math:`\sigma` and the shrinkage :math:`S_\lambda` act on real and imaginary
    parts. Transforms and products are in the precision that autocast chooses, else in float32
    or wider; see :mod:`physicsnemo.nn.fourier`.

    It takes the arguments of :class:`SpectralFilter`.

    References
    ----------
    Guibas et al. 2021, arXiv:2111.13587, section 4.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.afno.afno import AFNO2DLayer
    >>> AFNO2DLayer(hidden_size=16, num_blocks=4)(torch.zeros(2, 9, 14, 16)).shape
    torch.Size([2, 9, 14, 16])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer.

        Parameters
        ----------
        x
            Tokens of shape (batch, height, width, hidden_size).

        Returns
        -------
        Tokens of that shape.

        Raises
        ------
        TypeError
            If ``x`` does not hold floating-point numbers.
        ValueError
            If it has another shape or device than expected, or no mode of its grid is kept.
        """
        return self._filter(x, _unmodulated)

    def _reference_size(self, grid: Grid) -> int:
        return grid[0]


def lowest_modes(grid: Grid, fraction: float) -> Modes:
    """Return the low-frequency modes of a grid.

    Parameters
    ----------
    grid
        Number of points along the two axes.
    fraction
        Of n points along an axis, the frequencies below ``int((n // 2 + 1) * fraction)`` are kept,
        and their negatives.

    Raises
    ------
    ValueError
        If no mode is left.
    """
    height = grid[0]
    k, columns = (int((n // 2 + 1) * fraction) for n in grid)
    if not (k and columns):
        raise ValueError(_no_mode(grid, fraction))
    rows = range(height) if 2 * k - 1 >= height else (*range(k), *range(1 - k, 0))
    return tuple(rows), tuple(range(columns))


def reference_modes(grid: Grid, fraction: float, size: int) -> Modes:
    """Return the modes that nvidia-physicsnemo keeps, by the size of one axis.

    Its window of rows is centred on the highest frequency, so that a fraction below 1 discards low
    frequencies of the first axis, and its number of columns does not follow from the width.

    Parameters
    ----------
    grid
        Number of points along the two axes.
    fraction
        How much of the window to keep.
    size
        The number of points that the window is made for.

    Raises
    ------
    ValueError
        If no mode is left.
    """
    height, width = grid
    total = size // 2 + 1
    kept = int(total * fraction)
    if not kept:
        raise ValueError(_no_mode(grid, fraction))
    rows = range(total - kept, min(total + kept, height))
    return tuple(rows), tuple(range(min(kept, width // 2 + 1)))


def _no_mode(grid: Grid, fraction: float) -> str:
    return (
        f"hard_thresholding_fraction={fraction} leaves no mode of a grid of {grid[0]} by {grid[1]} "
        f"tokens; take a larger fraction, or smaller patches"
    )


def _small_random(*shape: int) -> nn.Parameter:
    return nn.Parameter(nn.init.normal_(torch.empty(shape), std=0.02))


def _unmodulated(hidden: Tensor) -> Tensor:
    return hidden


def to_blocks(real: Tensor, imaginary: Tensor, num_blocks: int) -> Tensor:
    """Return features of shape (..., blocks, both parts of the channels of a block)."""
    parts = (part.unflatten(-1, (num_blocks, -1)) for part in (real, imaginary))
    return torch.cat(tuple(parts), dim=-1)


def _from_blocks(features: Tensor) -> tuple[Tensor, Tensor]:
    real, imaginary = (part.flatten(start_dim=-2) for part in features.chunk(2, dim=-1))
    return real, imaginary


def _complex_linear(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply a complex linear map to each block, as one real map of both parts together."""
    # (a + ib)(c + id) = (ac - bd) + i(ad + bc) is the row (a, b) times ((c, d), (-d, c)).
    real, imaginary = weight.to(features.dtype)
    parts = torch.stack((real, imaginary, -imaginary, real), dim=1).unflatten(1, (2, 2))
    matrix = parts.movedim(2, 3).flatten(3).flatten(1, 2)  # (blocks, parts and in, parts and out)
    products = torch.einsum("...ni,nio->...no", features, matrix)
    # In the precision of the products, or all that follows would be promoted to that of the bias.
    return products + torch.cat(tuple(bias.to(products.dtype)), dim=-1)
