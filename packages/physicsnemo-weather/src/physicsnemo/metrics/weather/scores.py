# SPDX-License-Identifier: Apache-2.0
"""Forecast scores: root-mean-square error and anomaly correlation."""

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
    r"""Compute the weighted root-mean-square error (RMSE).

    WeatherBench 2 takes the root after the mean over all times: include their axis in ``dim``.

    Parameters
    ----------
    prediction, target
        Fields of equal shape, such as (batch, channels, latitudes, longitudes).
    weights
        Weights of a shape that broadcasts to that of the fields, such as
        :func:`latitude_weights`; they are normalized. By default, all are equal. Values are ignored
        where the weight is 0, NaN too.
    dim
        Axes to reduce: by default those of a latitude-longitude grid, (-3, -2, -1) for a cubed
        sphere, or (1, -2, -1) for HEALPix faces in axis 1.
    skipna
        Whether to ignore cells whose target is NaN, as if their weight was 0. NaN in the prediction
        alone still gives NaN, and so does a field with no cell left.

    Returns
    -------
    RMSE of the remaining shape, in single precision at least.

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
    r"""Compute the anomaly correlation coefficient (ACC).

    It correlates the anomalies with respect to a climatology, :math:`f' = f - c` and
    :math:`o' = o - c`, without subtracting their means, as in WeatherBench 2:

    .. math:: \frac{\langle f' o' \rangle}{\sqrt{\langle f'^2 \rangle \langle o'^2 \rangle}}

    WeatherBench 2 averages the coefficients over all times.

    Parameters
    ----------
    prediction, target
        Fields of equal shape, such as (batch, channels, latitudes, longitudes).
    climatology
        Climatology, for the hour and day of the year if available, of a shape that broadcasts to
        that of the fields.
    weights, dim, skipna
        As in :func:`rmse`; NaN in the climatology counts as NaN in the target.

    Returns
    -------
    ACC from -1 to 1 of the remaining shape, in single precision at least; NaN if the prediction or
    the target is the climatology everywhere.

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
    c = widened(climatology)
    anomaly = widened(target) - c
    if skipna:
        weights = known(anomaly, weights)
    f, o = (where_weighed(x, weights) for x in (widened(prediction) - c, anomaly))
    scale = _mean(f.square(), weights, dim).sqrt() * _mean(o.square(), weights, dim).sqrt()
    return _mean(f * o, weights, dim) / scale


def check_alike(prediction: Tensor, target: Tensor, *others: Tensor | None) -> None:
    """Raise a ValueError unless shapes are equal, and those of others broadcast to them."""
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
    """Return weights, by default 1, that are 0 where the target is NaN."""
    if weights is None:
        weights = torch.ones((), dtype=target.dtype, device=target.device)
    return torch.where(target.isnan(), 0, weights)


def where_weighed(x: Tensor, weights: Tensor | None) -> Tensor:
    """Return values, but 0 where the weight is 0, as 0 times NaN is NaN.

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
