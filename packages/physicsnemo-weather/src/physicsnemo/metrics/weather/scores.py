# SPDX-License-Identifier: Apache-2.0
"""Scores of forecasts."""

import torch
from torch import Tensor

from physicsnemo.nn.precision import at_least_float32

__all__ = ["acc", "check_alike", "known", "rmse", "where_weighed", "widened"]

_GRID = (-2, -1)


def rmse(
    prediction: Tensor,
    target: Tensor,
    weights: Tensor | None = None,
    dim: int | tuple[int, ...] = _GRID,
    skipna: bool = False,
) -> Tensor:
    r"""Return the root of the weighted mean of squared errors.

    WeatherBench 2 draws the root after the mean over all times: name their axis in ``dim`` too.

    Parameters
    ----------
    prediction, target
        Fields of equal shape, such as (batch, channels, latitudes, longitudes).
    weights
        Weights of shapes that broadcast to that of the fields, such as those of
        :func:`latitude_weights`; of any mean, as it is divided by. By default, all are equal. Where
        one is 0, it does not matter what the fields hold, nor whether that is a number.
    dim
        The axes to take the mean over: by default those of a grid of latitudes and longitudes,
        (-3, -2, -1) for a cubed sphere, or (1, -2, -1) for HEALPix faces in axis 1.
    skipna
        Whether to leave out where the target is not a number, as if the weight was 0 there. A
        prediction that is not a number where there is a target is an error at any rate, and the
        score is not a number; nor is it where nothing is left.

    Returns
    -------
    Errors of the remaining shape, in single precision at least.

    Raises
    ------
    ValueError
        If shapes do not fit.

    References
    ----------
    Rasp et al. 2024, WeatherBench 2, arXiv:2308.15560.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.metrics.weather import latitude_weights, rmse
    >>> weights = latitude_weights(torch.linspace(90, -90, 19))
    >>> rmse(torch.full((2, 3, 19, 36), 2.0), torch.zeros(2, 3, 19, 36), weights).shape
    torch.Size([2, 3])
    """
    check_alike(prediction, target, weights)
    if skipna:
        weights = known(target, weights)
    error = where_weighed(widened(prediction) - widened(target), weights)
    return _mean(error.square(), weights, dim).sqrt()


def acc(
    prediction: Tensor,
    target: Tensor,
    climatology: Tensor,
    weights: Tensor | None = None,
    dim: int | tuple[int, ...] = _GRID,
    skipna: bool = False,
) -> Tensor:
    r"""Return the anomaly correlation coefficient.

    It correlates departures from the climatology, :math:`f' = f - c` and :math:`o' = o - c`,
    without taking their means away, as WeatherBench 2 does:

    .. math:: \frac{\langle f' o' \rangle}{\sqrt{\langle f'^2 \rangle \langle o'^2 \rangle}}

    There, the mean over times is that of the coefficients.

    Parameters
    ----------
    prediction, target
        Fields of equal shape, such as (batch, channels, latitudes, longitudes).
    climatology
        What is usual at each place, and at that hour and day of the year if that is known, of a
        shape that broadcasts to that of the fields.
    weights, dim, skipna
        As in :func:`rmse`; where there is no climatology, there is no target.

    Returns
    -------
    Coefficients from -1 to 1 of the remaining shape, in single precision at least; not a number
    where the prediction or the target is the climatology everywhere.

    Raises
    ------
    ValueError
        If shapes do not fit.

    References
    ----------
    Rasp et al. 2024, WeatherBench 2, arXiv:2308.15560.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.metrics.weather import acc
    >>> target, climatology = torch.tensor([[1.0, 3.0], [4.0, 2.0]]), torch.full((2, 2), 2.0)
    >>> acc(target, target, climatology).round(decimals=3)
    tensor(1.)
    """
    check_alike(prediction, target, weights, climatology)
    usual = widened(climatology)
    departure = widened(target) - usual
    if skipna:
        weights = known(departure, weights)
    f, o = (where_weighed(x, weights) for x in (widened(prediction) - usual, departure))
    scale = _mean(f.square(), weights, dim).sqrt() * _mean(o.square(), weights, dim).sqrt()
    return _mean(f * o, weights, dim) / scale


def check_alike(prediction: Tensor, target: Tensor, *others: Tensor | None) -> None:
    """Raise a ValueError unless shapes are equal, or for others, broadcast to that."""
    if prediction.shape != target.shape:
        raise ValueError(
            f"expected prediction and target of equal shape, got {tuple(prediction.shape)} and "
            f"{tuple(target.shape)}"
        )
    for other in others:
        if other is not None and not _broadcasts(other.shape, target.shape):
            raise ValueError(
                f"expected weights and climatology of shapes that broadcast to that of the fields, "
                f"{tuple(target.shape)}, got {tuple(other.shape)}"
            )


def widened(x: Tensor) -> Tensor:
    """Return values in single precision at least, where squares neither overflow nor vanish."""
    return x.to(at_least_float32(x.dtype))


def known(target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return weights, by default of 1, that are 0 where a target is not a number."""
    if weights is None:
        weights = torch.ones((), dtype=target.dtype, device=target.device)
    return torch.where(target.isnan(), 0, weights)


def where_weighed(x: Tensor, weights: Tensor | None) -> Tensor:
    """Return values, or 0 where the weight is: 0 times what is not finite is not 0.

    Gradients are 0 there too, if nothing but differences was taken before.
    """
    return x if weights is None else torch.where(weights != 0, x, 0)


def _broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    sizes = zip(shape, to[len(to) - len(shape) :], strict=True)
    return len(shape) <= len(to) and all(size in (1, whole) for size, whole in sizes)


def _mean(x: Tensor, weights: Tensor | None, dim: int | tuple[int, ...]) -> Tensor:
    if weights is None:
        return x.mean(dim)
    weights = weights.to(x.dtype).expand_as(x)
    return (weights * x).sum(dim) / weights.sum(dim)
