# SPDX-License-Identifier: Apache-2.0
"""Waves of coordinates: Fourier features, and the filters of multiplicative filter networks."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from physicsnemo.nn.checks import check_above, check_at_least, check_choice, check_input

__all__ = ["FourierFilter", "FourierLayer", "GaborFilter"]


class FourierLayer(nn.Module):
    r"""Fourier features of coordinates, :math:`\sin 2 \pi F x` and :math:`\cos 2 \pi F x`.

    The matrix :math:`F` of frequencies is fixed, and saved with the model.

    Parameters
    ----------
    in_features
        Number of coordinates, the size of the last axis.
    frequencies
        The rows of :math:`F`: numbers of shape (count, in_features), or how to choose them:

        - ``("gaussian", sigma, count)`` draws them from a normal distribution of standard
          deviation ``sigma``,
        - ``("axis", values)`` takes each value along each axis, and zero along the others,
        - ``("diagonal", values)`` takes each value along all axes at once,
        - ``("full", values)`` takes all combinations of values,
        - ``("axis,diagonal", values)``, and so on, take what each of several names says.

    Raises
    ------
    ValueError
        If the choice is none of these, or the numbers have another shape.

    References
    ----------
    Tancik et al. 2020, Fourier features let networks learn high frequency functions in low
    dimensional domains, arXiv:2006.10739.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.nn.fourier_layers import FourierLayer
    >>> layer = FourierLayer(2, ("axis", [1, 2, 4]))
    >>> layer(torch.zeros(5, 2)).shape, layer.out_features()
    (torch.Size([5, 12]), 12)
    """

    frequencies: Tensor

    def __init__(
        self, in_features: int, frequencies: Tensor | Sequence[Sequence[float]] | tuple[Any, ...]
    ) -> None:
        super().__init__()
        check_at_least(1, in_features=in_features)
        self.in_features = in_features
        if not isinstance(frequencies, Tensor) and isinstance(frequencies[0], str):
            kinds, *options = frequencies
            frequencies = _chosen(in_features, str(kinds).split(","), options)
        rows = torch.as_tensor(frequencies, dtype=torch.get_default_dtype())
        if rows.ndim != 2 or rows.shape[1] != in_features:
            raise ValueError(
                f"expected frequencies of shape (count, in_features={in_features}), "
                f"got shape {tuple(rows.shape)}"
            )
        self.register_buffer("frequencies", rows)

    def out_features(self) -> int:
        """Return the number of features: a sine and a cosine for each frequency."""
        return 2 * self.frequencies.shape[0]

    def forward(self, x: Tensor) -> Tensor:
        """Return features of shape (..., out_features) of coordinates (..., in_features)."""
        _check(x, self.in_features, self.frequencies)
        phase = nn.functional.linear(x, 2 * math.pi * self.frequencies)
        return torch.cat((phase.sin(), phase.cos()), dim=-1)


class FourierFilter(nn.Module):
    r"""Filter of a Fourier network, :math:`\sin(\omega x + \phi)`, to multiply a layer's output by.

    Parameters
    ----------
    in_features
        Number of coordinates, the size of the last axis.
    layer_size
        Number of filters.
    num_layers
        Number of linear layers of the network between its filters. The frequencies of all filters
        add up along the network, so each has its share of them.
    input_scale
        Scale of the frequencies :math:`\omega`, which at the start are uniform between plus and
        minus ``input_scale / sqrt(num_layers + 1)``.

    References
    ----------
    Fathony et al. 2021, Multiplicative filter networks, ICLR.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.nn.fourier_layers import FourierFilter
    >>> FourierFilter(2, layer_size=16, num_layers=3, input_scale=10.0)(torch.zeros(5, 2)).shape
    torch.Size([5, 16])
    """

    def __init__(
        self, in_features: int, layer_size: int, num_layers: int, input_scale: float
    ) -> None:
        super().__init__()
        check_at_least(1, in_features=in_features, layer_size=layer_size)
        check_at_least(0, num_layers=num_layers)
        check_above(0, input_scale=input_scale)
        self.in_features = in_features
        self.weight_scale = input_scale / math.sqrt(num_layers + 1)
        self.frequency = nn.Parameter(torch.empty(layer_size, in_features).uniform_(-1, 1))
        self.phase = nn.Parameter(torch.empty(layer_size).uniform_(-math.pi, math.pi))

    def forward(self, x: Tensor) -> Tensor:
        """Return filters of shape (..., layer_size) at coordinates (..., in_features)."""
        _check(x, self.in_features, self.frequency)
        waves = nn.functional.linear(x, self.weight_scale * self.frequency, self.phase)
        return waves.sin()


class GaborFilter(FourierFilter):
    r"""Filter of a Gabor network: a wave that fades away from its centre.

    It is :math:`\exp(-\frac\gamma2 |x - \mu|^2) \sin(\omega x + \phi)`.

    Parameters
    ----------
    in_features, layer_size, num_layers, input_scale
        As of :class:`FourierFilter`.
    alpha, beta
        Shape and rate of the gamma distribution of :math:`\gamma` at the start; each filter of the
        network has its share of ``alpha``. The narrower a filter, the higher its frequencies:
        these are multiplied by :math:`\sqrt\gamma` at the start.
    center_range
        Lowest and highest coordinate of the centres :math:`\mu` at the start.

    References
    ----------
    Fathony et al. 2021, Multiplicative filter networks, ICLR.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.nn.fourier_layers import GaborFilter
    >>> GaborFilter(2, layer_size=16, num_layers=3, input_scale=10.0)(torch.zeros(5, 2)).shape
    torch.Size([5, 16])
    """

    def __init__(
        self,
        in_features: int,
        layer_size: int,
        num_layers: int,
        input_scale: float,
        alpha: float = 6.0,
        beta: float = 1.0,
        center_range: tuple[float, float] = (-1.0, 1.0),
    ) -> None:
        super().__init__(in_features, layer_size, num_layers, input_scale)
        check_above(0, alpha=alpha, beta=beta)
        self.mu = nn.Parameter(torch.empty(layer_size, in_features).uniform_(*center_range))
        shares = torch.distributions.Gamma(alpha / (num_layers + 1), beta)
        self.gamma = nn.Parameter(shares.sample((layer_size,)).to(self.mu.dtype))
        with torch.no_grad():
            self.frequency.mul_(self.gamma.sqrt()[:, None])

    def forward(self, x: Tensor) -> Tensor:
        """Return filters of shape (..., layer_size) at coordinates (..., in_features)."""
        waves = super().forward(x)
        distances = (x[..., None, :] - self.mu).square().sum(dim=-1)
        return waves * torch.exp(-0.5 * self.gamma * distances)


def _chosen(dimension: int, kinds: Sequence[str], options: Sequence[Any]) -> Tensor:
    for kind in kinds:
        check_choice("frequencies[0]", kind, _FREQUENCIES)
    return torch.cat([_FREQUENCIES[kind](dimension, *options) for kind in kinds])


def _gaussian(dimension: int, sigma: float, count: int) -> Tensor:
    check_above(0, sigma=sigma)
    check_at_least(1, count=count)
    return sigma * torch.randn(count, dimension)


def _axis(dimension: int, values: Sequence[float]) -> Tensor:
    return torch.cat([torch.tensor(values)[:, None] * row for row in torch.eye(dimension)])


def _diagonal(dimension: int, values: Sequence[float]) -> Tensor:
    return torch.tensor(values)[:, None].expand(-1, dimension)


def _full(dimension: int, values: Sequence[float]) -> Tensor:
    return torch.cartesian_prod(*[torch.tensor(values)] * dimension).reshape(-1, dimension)


_FREQUENCIES: dict[str, Callable[..., Tensor]] = {
    "gaussian": _gaussian,
    "axis": _axis,
    "diagonal": _diagonal,
    "full": _full,
}


def _check(x: Tensor, in_features: int, beside: Tensor) -> None:
    check_input(x, {"...": None, "in_features": in_features}, beside)
