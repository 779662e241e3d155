# SPDX-License-Identifier: Apache-2.0
"""Solar zenith angle."""

from datetime import UTC, datetime

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from physicsnemo.utils.weather._coordinates import Degrees, Reals, coordinates

__all__ = ["cos_zenith_angle"]

_J2000 = np.datetime64("2000-01-01T12:00")


def cos_zenith_angle(
    time: datetime | ArrayLike,
    latitude: Degrees,
    longitude: Degrees,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Compute the cosine of the solar zenith angle.

    It is 1 where the sun is overhead, 0 on the horizon, and negative at night. Refraction is
    ignored. The error is below 2e-4 for the years 1950 to 2050.

    Parameters
    ----------
    time
        Times as :class:`datetime.datetime`, in UTC if they have no time zone, or as
        ``numpy.datetime64`` in UTC; one or an array of any shape.
    latitude, longitude
        Coordinates in degrees, of shapes that broadcast; for a grid,
        ``latitudes[:, None], longitudes``. Tensors may be on any device; gradients do not flow to
        them.
    dtype
        Dtype of the result, which is computed in double precision; by default, PyTorch's.

    Returns
    -------
    Cosines of shape (*times, *points), on the device of the latitude, if that is a tensor.

    Raises
    ------
    TypeError
        If the times have another type.
    ValueError
        If a latitude is out of range, or shapes do not fit.

    References
    ----------
    The position of the sun is that of the low-precision formulas in The Astronomical Almanac,
    section C, which are good to 0.01 degrees; see Michalsky 1988, The Astronomical Almanac's
    algorithm for approximate solar position (1950-2050), doi:10.1016/0038-092X(88)90045-X.

    Examples
    --------
    >>> from datetime import datetime
    >>> from physicsnemo.utils.weather import cos_zenith_angle
    >>> cos_zenith_angle(datetime(2024, 3, 20, 12), latitude=[0, 60], longitude=[0, 0])
    tensor([0.9995, 0.5020])
    """
    rows, columns = (np.deg2rad(axis) for axis in coordinates(latitude, longitude))
    days = _days_since_2000(time)
    declination, meridian = (
        angle.reshape(days.shape + (1,) * rows.ndim) for angle in _overhead(days)
    )
    cosine = np.sin(rows) * np.sin(declination) + np.cos(rows) * np.cos(declination) * np.cos(
        columns - meridian
    )
    device = latitude.device if isinstance(latitude, Tensor) else torch.get_default_device()
    return torch.from_numpy(np.asarray(cosine)).to(device, dtype or torch.get_default_dtype())


def _overhead(days: Reals) -> tuple[Reals, Reals]:
    """Return the latitude and longitude of the subsolar point, in radians."""
    # The sun's ecliptic longitude by the equation of the center, in the Almanac's numbers.
    mean_longitude = 280.460 + 0.9856474 * days
    anomaly = np.deg2rad(357.528 + 0.9856003 * days)
    ecliptic = np.deg2rad(mean_longitude + 1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly))
    obliquity = np.deg2rad(23.439 - 0.0000004 * days)
    right_ascension = np.arctan2(np.cos(obliquity) * np.sin(ecliptic), np.cos(ecliptic))
    sidereal_time = np.deg2rad(280.46061837 + 360.98564736629 * days)
    return np.arcsin(np.sin(obliquity) * np.sin(ecliptic)), right_ascension - sidereal_time


def _days_since_2000(time: datetime | ArrayLike) -> Reals:
    times = np.asarray(time)
    if times.dtype == object:
        utc = [_as_utc(one) for one in times.flat]
        times = np.array(utc, dtype="datetime64[us]").reshape(times.shape)
    if times.dtype.kind != "M":
        raise TypeError(
            f"expected times as datetime or numpy.datetime64, got {times.dtype}: convert them, as "
            f"in numpy.datetime64('2024-03-20T12:00')"
        )
    days: NDArray[np.float64] = (times - _J2000) / np.timedelta64(1, "D")
    return np.asarray(days)


def _as_utc(time: object) -> datetime:
    if not isinstance(time, datetime):
        raise TypeError(f"expected times as datetime or numpy.datetime64, got {time!r}")
    return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time
