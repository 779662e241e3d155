# SPDX-License-Identifier: Apache-2.0
"""The block that the operator is a chain of."""

from torch import Tensor, nn

from physicsnemo.models.sfno._filter import SpectralFilter
from physicsnemo.models.sfno._transform import SphericalAnalysis, SphericalSynthesis
from physicsnemo.nn import DropPath


class SphericalBlock(nn.Module):
    """A filter of spherical harmonics, a normalization and a pointwise network, and a skip.

    Where the block leads from one grid to another, the skip does so by the transforms.

    Parameters
    ----------
    spectral_filter
        The filter of the coefficients.
    norm
        The normalization of the filtered field.
    mlp
        The network that acts on each point.
    drop_rate
        Probability, in training, that a sample takes the skip only.
    """

    def __init__(
        self, spectral_filter: SpectralFilter, norm: nn.Module, mlp: nn.Module, drop_rate: float
    ) -> None:
        super().__init__()
        self.filter = spectral_filter
        self.norm = norm
        self.mlp = mlp
        self.drop_path = DropPath(drop_rate)

    def forward(
        self, x: Tensor, analysis: SphericalAnalysis, synthesis: SphericalSynthesis
    ) -> Tensor:
        """Apply the block to fields on the grid of ``analysis``.

        Parameters
        ----------
        x
            Fields of shape (batch, channels, nlat, nlon).
        analysis
            The transform of fields on that grid.
        synthesis
            The transform to the grid of the result.

        Returns
        -------
        Fields of shape (batch, channels, nlat, nlon) on that grid.
        """
        spectrum = analysis(x)
        filtered: Tensor = synthesis(self.filter(spectrum)).to(x.dtype)
        same_grid = analysis.grid == synthesis.grid
        skip: Tensor = x if same_grid else synthesis(spectrum).to(x.dtype)
        changed: Tensor = self.drop_path(self.mlp(self.norm(filtered)))
        return skip + changed
