# SPDX-License-Identifier: Apache-2.0
"""Tools around weather models: regridding, solar zenith angle, rollouts."""

from physicsnemo.utils.weather.points import cubed_sphere_points, healpix_points
from physicsnemo.utils.weather.regridding import FacesRegridder, LatLonRegridder
from physicsnemo.utils.weather.rollout import rollout
from physicsnemo.utils.weather.zenith import cos_zenith_angle

__all__ = [
    "FacesRegridder",
    "LatLonRegridder",
    "cos_zenith_angle",
    "cubed_sphere_points",
    "healpix_points",
    "rollout",
]
