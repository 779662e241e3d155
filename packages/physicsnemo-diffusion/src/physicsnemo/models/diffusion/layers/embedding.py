# SPDX-License-Identifier: Apache-2.0
"""Sinusoidal embeddings of noise levels."""

import math
from collections.abc import Callable
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn

from physicsnemo.models.history import Constant, follow_history
from physicsnemo.nn.table import Table


class _Waves(nn.Module):
    """Cosines and sines of products with frequencies, which keep at least single precision."""

    freqs: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Map numbers of shape (batch,) to features of shape (batch, num_channels)."""
        angles = self._angles(x.to(self.freqs.dtype))
        return torch.cat((angles.cos(), angles.sin()), dim=1)

    def _angles(self, x: Tensor) -> Tensor:
        return x[:, None] * self.freqs


class PositionalEmbedding(_Waves):
    r"""Sinusoidal positional embedding, of frequencies from 1 down to 1 / max_positions.

    With n = ``num_channels`` / 2, the features of x are :math:`\cos(f_k x)` for k from 0 to n - 1,
    then :math:`\sin(f_k x)`, where :math:`f_k` is ``max_positions`` to the power of -k / n, or of
    -k / (n - 1) with ``endpoint``.

    Parameters
    ----------
    num_channels
        Number of features, an even one.
    max_positions
        Ratio of the highest to the lowest frequency.
    endpoint
        Whether the lowest frequency is included.
    amp_mode
        Accepted for the sake of checkpoints: it changes nothing, as angles are never rounded.

    Raises
    ------
    ValueError
        If the number of features is odd, or too small.

    References
    ----------
    Vaswani et al. 2017, Attention is all you need, arXiv:1706.03762.
    """

    _state_history = (Constant("freqs", since="2.1"),)

    def __init__(
        self,
        num_channels: int,
        max_positions: int = 10000,
        endpoint: bool = False,
        amp_mode: bool = False,
    ) -> None:
        super().__init__()
        self.num_channels, self.amp_mode = num_channels, amp_mode
        half = _half(num_channels, at_least=2 if endpoint else 1)
        self._table = Table(partial(_progression, half, half - endpoint, max_positions))
        follow_history(self)

    @property
    def freqs(self) -> Tensor:  # type: ignore[override]
        """The frequencies."""
        return self._table.value


class FourierEmbedding(_Waves):
    r"""Random Fourier features: :math:`\cos(2 \pi f x)`, then :math:`\sin(2 \pi f x)`.

    Parameters
    ----------
    num_channels
        Number of features, an even one.
    scale
        Standard deviation of the random frequencies f, which are not trained.
    amp_mode
        Accepted for the sake of checkpoints: it changes nothing, as angles are never rounded.

    Raises
    ------
    ValueError
        If the number of features is odd, or not positive.

    References
    ----------
    Tancik et al. 2020, Fourier features let networks learn high frequency functions in low
    dimensional domains, arXiv:2006.10739.
    """

    def __init__(self, num_channels: int, scale: float = 16, amp_mode: bool = False) -> None:
        super().__init__()
        self.num_channels, self.amp_mode = num_channels, amp_mode
        half = _half(num_channels, at_least=1)
        self.register_buffer("freqs", torch.empty(half).normal_() * scale)

    def _angles(self, x: Tensor) -> Tensor:
        return super()._angles(2 * math.pi * x)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # Angles reach thousands of turns, of which half precision would keep no fraction.
        precise = self.freqs
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.freqs.dtype.itemsize < precise.dtype.itemsize:
            self.freqs = precise.to(self.freqs.device)
        return self


def _progression(number: int, last: int, ratio: float) -> Tensor:
    return (1 / ratio) ** (torch.arange(number, dtype=torch.float64, device="cpu") / last)


def _half(num_channels: int, at_least: int) -> int:
    if num_channels % 2 or num_channels < 2 * at_least:
        raise ValueError(
            f"expected an even number of features, {2 * at_least} or more, for the embedding of "
            f"noise levels, got {num_channels}"
        )
    return num_channels // 2
