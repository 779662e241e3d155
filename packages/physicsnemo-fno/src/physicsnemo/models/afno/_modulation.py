# SPDX-License-Identifier: Apache-2.0
"""Layers whose hidden features a number of features of each sample scales and shifts."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.models.afno._filter import SpectralFilter, to_blocks
from physicsnemo.models.afno._modes import Grid
from physicsnemo.models.history import Renamed, follow_history
from physicsnemo.nn.checks import check_choice
from physicsnemo.nn.numerics import PAPER

SCALE_SHIFT_MODES = ("complex", "real")


class ModAFNO2DLayer(SpectralFilter):
    r"""The filter of AFNO, modulated by features of each sample.

    See :class:`~physicsnemo.models.afno.afno.AFNO2DLayer` for what is computed without modulation.

    The hidden features :math:`h = W_1 \mathcal F x + b_1` become :math:`s h + t` before the ReLU,
    where a :class:`ScaleShiftMlp` computes :math:`s` and :math:`t` from the modulating features.

    Parameters
    ----------
    hidden_size, num_blocks, sparsity_threshold, hard_thresholding_fraction, hidden_size_factor
        As in :class:`SpectralFilter`.
    mod_features
        Number of modulating features.
    scale_shift_mode
        Whether :math:`s` and :math:`t` are ``complex`` or ``real``. Real ones act on real and
        imaginary parts alike. A network that returns 0 stands for t = 0 and s = 1 if real, but
        s = 1 + i if complex.
    numerics
        As in :class:`SpectralFilter`.

    Raises
    ------
    ValueError
        If ``hidden_size`` is not divisible by ``num_blocks``, or another option has a value that
        it cannot have.

    References
    ----------
    Leinonen et al. 2024, arXiv:2410.18904.
    """

    def __init__(
        self,
        hidden_size: int,
        mod_features: int,
        num_blocks: int = 8,
        sparsity_threshold: float = 0.01,
        hard_thresholding_fraction: float = 1.0,
        hidden_size_factor: int = 1,
        scale_shift_mode: str = "complex",
        numerics: str = PAPER,
    ) -> None:
        super().__init__(
            hidden_size,
            num_blocks,
            sparsity_threshold,
            hard_thresholding_fraction,
            hidden_size_factor,
            numerics,
        )
        check_choice("scale_shift_mode", scale_shift_mode, SCALE_SHIFT_MODES)
        self.scale_shift_mode = scale_shift_mode
        parts = 2 if scale_shift_mode == "complex" else 1
        self.scale_shift = ScaleShiftMlp(mod_features, parts * hidden_size * hidden_size_factor)

    def forward(self, x: Tensor, mod_embed: Tensor) -> Tensor:
        """Apply the layer.

        Parameters
        ----------
        x
            Tokens of shape (batch, height, width, hidden_size).
        mod_embed
            Modulating features of shape (batch, mod_features).

        Returns
        -------
        Tokens of the shape of ``x``.

        Raises
        ------
        TypeError
            If ``x`` does not hold floating-point numbers.
        ValueError
            If it has another shape or device than expected, or no mode of its grid is kept.
        """
        scale, shift = (self._to_blocks(part) for part in self.scale_shift(mod_embed))
        if self.scale_shift_mode == "complex":
            return self._filter(x, lambda hidden: _complex_product(hidden, scale) + shift)
        return self._filter(x, lambda hidden: hidden * scale + shift)

    def _reference_size(self, grid: Grid) -> int:
        return min(grid)

    def _to_blocks(self, features: Tensor) -> Tensor:
        """Shape features of samples like those of modes, real ones as both of their parts."""
        complex_valued = self.scale_shift_mode == "complex"
        real, imaginary = features.chunk(2, dim=-1) if complex_valued else (features, features)
        return to_blocks(real, imaginary, self.num_blocks)[:, None, None]


class ModAFNOMlp(nn.Module):
    """A network of two layers at each token, with hidden features scaled and shifted by sample.

    Parameters
    ----------
    in_features
        Channels of the input.
    latent_features
        Hidden channels.
    out_features
        Channels of the output.
    mod_features
        Number of modulating features.
    drop
        Probability of dropping a hidden or an output channel of a token in training.
    """

    def __init__(
        self,
        in_features: int,
        latent_features: int,
        out_features: int,
        mod_features: int,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, latent_features)
        self.fc2 = nn.Linear(latent_features, out_features)
        self.drop = nn.Dropout(drop)
        self.scale_shift = ScaleShiftMlp(mod_features, latent_features)

    def forward(self, x: Tensor, mod_embed: Tensor) -> Tensor:
        """Apply the network.

        Parameters
        ----------
        x
            Tokens of shape (batch, height, width, in_features).
        mod_embed
            Modulating features of shape (batch, mod_features).

        Returns
        -------
        Tokens of shape (batch, height, width, out_features).
        """
        scale, shift = (part[:, None, None] for part in self.scale_shift(mod_embed))
        hidden = self.drop(functional.gelu(self.fc1(x) * scale + shift))
        output: Tensor = self.drop(self.fc2(hidden))
        return output


class ScaleShiftMlp(nn.Module):
    """A network that computes a scale and a shift, 1 and 0 where its last layer gives 0.

    Parameters
    ----------
    in_features
        Number of modulating features.
    out_features
        Number of features to scale and shift.
    hidden_features
        Size of the hidden layers, by default twice ``out_features``.
    hidden_layers
        Number of hidden layers after the first one.
    """

    _state_history = (Renamed("net.", "net.layers.", since="2.0"),)

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden_features: int | None = None,
        hidden_layers: int = 0,
    ) -> None:
        super().__init__()
        hidden = 2 * out_features if hidden_features is None else hidden_features
        layers: list[nn.Module] = [nn.Linear(in_features, hidden), nn.GELU()]
        for _ in range(hidden_layers):
            layers += [nn.Linear(hidden, hidden), nn.GELU()]
        self.net = nn.Sequential(*layers, nn.Linear(hidden, 2 * out_features))
        follow_history(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return scale and shift, of shape (batch, out_features), of (batch, in_features)."""
        scale, shift = self.net(x).chunk(2, dim=-1)
        return 1 + scale, shift


def _complex_product(left: Tensor, right: Tensor) -> Tensor:
    (a, b), (c, d) = left.chunk(2, dim=-1), right.chunk(2, dim=-1)
    return torch.cat((a * c - b * d, a * d + b * c), dim=-1)
