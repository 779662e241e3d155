# SPDX-License-Identifier: Apache-2.0
"""Layer of Kolmogorov-Arnold networks, with Fourier series for its functions."""

import torch
from torch import Tensor, nn

from physicsnemo.nn.checks import check_at_least, check_input

__all__ = ["KolmogorovArnoldNetwork"]


class KolmogorovArnoldNetwork(nn.Module):
    r"""Sums of trainable functions of each feature, :math:`y_o = \sum_i f_{oi}(x_i) + b_o`.

    Each is a Fourier series,
    :math:`f(x) = \sum_{k=1}^{K} (a_k \cos k x + b_k \sin k x)`. At the start, the coefficients are
    normally distributed, and so small that the outputs have a variance of 1.

    Parameters
    ----------
    input_dim
        Input features, the size of the last axis.
    output_dim
        Output features.
    num_harmonics
        Number of harmonics :math:`K`.
    add_bias
        Add a trainable bias.

    References
    ----------
    Liu et al. 2024, KAN: Kolmogorov-Arnold networks, arXiv:2404.19756; Xu et al. 2024,
    FourierKAN-GCF, arXiv:2406.01034 (Fourier series in place of splines).

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.nn.kan_layers import KolmogorovArnoldNetwork
    >>> KolmogorovArnoldNetwork(3, 8)(torch.zeros(5, 3)).shape
    torch.Size([5, 8])
    """

    def __init__(
        self, input_dim: int, output_dim: int, num_harmonics: int = 5, add_bias: bool = True
    ) -> None:
        super().__init__()
        check_at_least(1, input_dim=input_dim, output_dim=output_dim, num_harmonics=num_harmonics)
        self.input_dim = input_dim
        self.num_harmonics = num_harmonics
        start = torch.randn(2, output_dim, input_dim, num_harmonics)
        scale = (input_dim * num_harmonics) ** -0.5
        self.fourier_coeffs = nn.Parameter(scale * start)
        self.bias = nn.Parameter(torch.zeros(output_dim)) if add_bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Map features of shape (..., input_dim) to shape (..., output_dim)."""
        layout = {"...": None, "input_dim": self.input_dim}
        check_input(x, layout, self.fourier_coeffs)
        harmonics = torch.arange(1, self.num_harmonics + 1, dtype=x.dtype, device=x.device)
        phases = x[..., None] * harmonics
        waves = torch.cat((phases.cos().flatten(-2), phases.sin().flatten(-2)), dim=-1)
        weight = self.fourier_coeffs.flatten(start_dim=2)
        return nn.functional.linear(waves, torch.cat((weight[0], weight[1]), dim=1), self.bias)
