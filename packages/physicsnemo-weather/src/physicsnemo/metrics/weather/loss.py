# SPDX-License-Identifier: Apache-2.0
"""Area-weighted loss."""

from collections.abc import Callable
from typing import Any, Literal, get_args

from torch import Tensor, nn

from physicsnemo.metrics.weather.scores import check_alike, known, where_weighed, widened

__all__ = ["LatitudeWeightedLoss"]

Error = Literal["mse", "mae"]


class LatitudeWeightedLoss(nn.Module):
    r"""Area-weighted mean error over batch, channels and cells.

    With weights :math:`a_i` of cells and :math:`w_c` of channels, the loss is the mean of

    .. math:: a_i w_c (x_{ci} - y_{ci})^2 \quad \mathrm{or} \quad a_i w_c |x_{ci} - y_{ci}|

    Values are ignored where the weight is 0, NaN too. Weights are not normalized: those of areas
    have a mean of 1, and those of channels scale the loss. GraphCast's channel weights are products
    of two, for each variable at each level: the inverse variance of its increment in a step, and
    its importance, which is proportional to the pressure of the level, 1 for the temperature at
    2 m, and 0.1 for other surface fields.

    Parameters
    ----------
    weights
        Cell weights, in the shape of the grid: by :func:`latitude_weights`, or by
        :func:`cubed_sphere_weights`; ``torch.ones(1, 1)`` for cells of equal area, as on HEALPix
        faces.
    channel_weights
        Channel weights, of shape (channels,); by default, all are 1.
    error
        Error: ``"mse"`` for squared, or ``"mae"`` for absolute differences.
    skipna
        Whether to ignore cells whose target is NaN, as in :func:`rmse`: the loss is then as if they
        had the weighted mean error of the others.

    Raises
    ------
    ValueError
        If the error is unknown, or weights are negative or have another number of axes.

    References
    ----------
    Lam et al. 2023, Learning skillful medium-range global weather forecasting, arXiv:2212.12794.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.metrics.weather import LatitudeWeightedLoss, latitude_weights
    >>> weights = latitude_weights(torch.linspace(90, -90, 19))
    >>> loss = LatitudeWeightedLoss(weights, channel_weights=torch.tensor([1.0, 0.1]))
    >>> loss(torch.ones(8, 2, 19, 36), torch.zeros(8, 2, 19, 36))
    tensor(0.5500)
    """

    weights: Tensor

    def __init__(
        self,
        weights: Tensor,
        channel_weights: Tensor | None = None,
        error: Error = "mse",
        skipna: bool = False,
    ) -> None:
        super().__init__()
        if error not in get_args(Error):
            raise ValueError(f"expected error to be one of {get_args(Error)}, got {error!r}")
        if weights.ndim < 2 or (weights < 0).any():
            raise ValueError(
                f"expected weights of cells in the shape of the grid, none negative, got the "
                f"shape {tuple(weights.shape)}; for latitudes, latitude_weights(latitudes)"
            )
        if channel_weights is not None:
            if channel_weights.ndim != 1 or (channel_weights < 0).any():
                raise ValueError(
                    f"expected channel_weights of shape (channels,), none negative, got the shape "
                    f"{tuple(channel_weights.shape)}"
                )
            weights = weights * channel_weights.reshape(-1, *(1,) * weights.ndim)
        self.error, self.skipna = error, skipna
        self.register_buffer("weights", widened(weights), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        given = self.weights
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if widened(self.weights).dtype != self.weights.dtype:
            self.weights = widened(given.to(self.weights.device))
        return self

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        prediction, target
            Fields of equal shape (..., channels, *grid), with the grid of the weights.

        Returns
        -------
        Scalar loss, in single precision at least.

        Raises
        ------
        ValueError
            If shapes do not fit.
        """
        check_alike(prediction, target, self.weights)
        difference = widened(prediction) - widened(target)
        every = self.weights.to(difference.dtype).expand_as(difference)
        weights = known(target, every) if self.skipna else every
        difference = where_weighed(difference, weights)
        errors = difference.square() if self.error == "mse" else difference.abs()
        loss = (weights * errors).mean()
        return loss * (every.sum() / weights.sum()) if self.skipna else loss
