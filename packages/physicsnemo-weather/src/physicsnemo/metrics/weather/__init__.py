# SPDX-License-Identifier: Apache-2.0
"""Losses and scores of fields on the globe, weighted by the areas of cells.

Definitions are those of WeatherBench 2 (Rasp et al. 2024, arXiv:2308.15560). Everything takes
fields in any floating-point type, and is computed in single precision at least, under autocast too:
squares of geopotentials are beyond half precision.
"""

from physicsnemo.metrics.weather.areas import cubed_sphere_weights, latitude_weights
from physicsnemo.metrics.weather.loss import LatitudeWeightedLoss
from physicsnemo.metrics.weather.scores import acc, rmse

__all__ = ["LatitudeWeightedLoss", "acc", "cubed_sphere_weights", "latitude_weights", "rmse"]
