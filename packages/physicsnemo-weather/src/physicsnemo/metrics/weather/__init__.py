# SPDX-License-Identifier: Apache-2.0
"""Losses and scores of fields on the globe, weighted by the areas of cells.

Definitions are those of WeatherBench 2 (Rasp et al. 2024, arXiv:2308.15560). Everything takes
fields in any floating-point type, and is computed in single precision at least, under autocast too:
squares of geopotentials are beyond half precision.

What is not a number makes scores and losses so too, but where its weight is 0, and with ``skipna``
where the target is not a number, as over land or where nothing was measured.
"""

from physicsnemo.metrics.weather.areas import cubed_sphere_weights, latitude_weights
from physicsnemo.metrics.weather.loss import LatitudeWeightedLoss
from physicsnemo.metrics.weather.scores import acc, rmse

__all__ = ["LatitudeWeightedLoss", "acc", "cubed_sphere_weights", "latitude_weights", "rmse"]
