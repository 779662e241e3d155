# SPDX-License-Identifier: Apache-2.0
"""The sun stands where astropy says."""

from datetime import UTC, datetime, timedelta, timezone

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.coordinates import AltAz, EarthLocation, get_sun
from astropy.time import Time
from astropy.utils import iers

from physicsnemo.utils.weather import cos_zenith_angle, healpix_points

DATES = [
    "1950-01-01T00:00",
    "1959-10-17T21:30",
    "1966-05-11T10:39",
    "1979-12-22T06:00",
    "1999-01-30T12:10",
    "2000-02-29T18:00",
    "2016-06-20T12:00",
    "2024-03-20T03:06",
    "2033-09-22T15:45",
    "2050-12-31T18:00",
]


@pytest.fixture
def bundled(monkeypatch):
    """Let astropy use the tables that come with it, for whatever date."""
    monkeypatch.setattr(iers.conf, "auto_download", False)
    monkeypatch.setattr(iers.conf, "auto_max_age", None)
    monkeypatch.setattr(iers.conf, "iers_degraded_accuracy", "ignore")


@pytest.mark.filterwarnings("ignore:ERFA function")  # leap seconds of years to come
@pytest.mark.filterwarnings("ignore:Tried to get polar motions")  # of these too
@pytest.mark.usefixtures("bundled")
@pytest.mark.parametrize("date", DATES)
def test_equals_astropy(date):
    latitudes, longitudes = healpix_points(2)
    place = EarthLocation.from_geodetic(longitudes.numpy() * u.deg, latitudes.numpy() * u.deg)
    frame = AltAz(obstime=Time(date, scale="utc"), location=place)
    expected = np.sin(get_sun(frame.obstime).transform_to(frame).alt.rad)
    found = cos_zenith_angle(np.datetime64(date), latitudes, longitudes)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4)


def test_times_of_all_kinds():
    naive = datetime(2024, 7, 1, 9, 30)
    times = [
        naive,
        naive.replace(tzinfo=UTC),
        datetime(2024, 7, 1, 15, 0, tzinfo=timezone(timedelta(hours=5.5))),
        np.datetime64("2024-07-01T09:30"),
        np.datetime64("2024-07-01T09:30:00.000000000"),
    ]
    found = [cos_zenith_angle(time, [50.0, -20.0], [10.0, 200.0]) for time in times]
    assert found[0].shape == (2,)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-6, rtol=0)


def test_many_times_and_places():
    start, hours = np.datetime64("2023-11-05T00"), np.arange(6).reshape(2, 3)
    latitudes, longitudes = torch.linspace(90, -90, 7)[:, None], torch.arange(0, 360, 30)
    found = cos_zenith_angle(start + hours.astype("timedelta64[h]"), latitudes, longitudes)
    assert found.shape == (2, 3, 7, 12)
    for index in np.ndindex(2, 3):
        time = datetime(2023, 11, 5, int(hours[index]))
        assert torch.equal(found[index], cos_zenith_angle(time, latitudes, longitudes))
    listed = [datetime(2023, 11, 5, hour, tzinfo=UTC) for hour in range(6)]
    assert torch.equal(cos_zenith_angle(listed, latitudes, longitudes), found.flatten(0, 1))


def test_mean_over_the_globe_is_zero():
    found = cos_zenith_angle(datetime(2001, 8, 1, 5), *healpix_points(8))
    assert abs(found.mean()) < 1e-6  # cells have equal areas
    assert found.max() > 0.995
    torch.testing.assert_close(found.double().square().mean().item(), 1 / 3, atol=1e-3, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_default_type(dtype, monkeypatch):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        found = cos_zenith_angle(datetime(2001, 8, 1), 0.0, 0.0)
    finally:
        torch.set_default_dtype(before)
    assert found.dtype == dtype
    assert found.shape == ()


@pytest.mark.parametrize("time", ["2024-03-20", 20240320, [datetime(2024, 3, 20), "2024-03-20"]])
def test_wrong_times(time):
    with pytest.raises(TypeError, match=r"times as datetime or numpy.datetime64, got"):
        cos_zenith_angle(time, 0.0, 0.0)


def test_wrong_places():
    with pytest.raises(ValueError, match="latitudes from -90 to 90"):
        cos_zenith_angle(datetime(2024, 3, 20), 120.0, 0.0)
    with pytest.raises(ValueError, match=r"pass latitudes\[:, None\]"):
        cos_zenith_angle(datetime(2024, 3, 20), [1.0, 2.0], [1.0, 2.0, 3.0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_places_may_be_parts_of_a_graph(dtype):
    latitude = torch.tensor([0.0, 60.0], dtype=dtype, requires_grad=True)
    longitude = torch.tensor([0.0, 8.0], dtype=dtype, requires_grad=True)
    expected = cos_zenith_angle(datetime(2024, 3, 20, 12), [0, 60], [0, 8])
    found = cos_zenith_angle(datetime(2024, 3, 20, 12), latitude, longitude)
    assert torch.equal(found, expected)
    assert not found.requires_grad


def test_type_of_cosines():
    given = datetime(2024, 3, 20, 12), np.linspace(-90, 90, 7), 0.0
    exact = cos_zenith_angle(*given, dtype=torch.float64)
    assert exact.dtype == torch.float64
    assert 1e-9 < (exact - cos_zenith_angle(*given)).abs().max() < 1e-7
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(cos_zenith_angle(*given), exact)
    finally:
        torch.set_default_dtype(torch.float32)
