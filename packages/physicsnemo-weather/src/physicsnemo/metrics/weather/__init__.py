# SPDX-License-Identifier: Apache-2.0
"""Area-weighted losses and scores of fields on the globe.

Definitions are those of WeatherBench 2 (Rasp et al. 2024, arXiv:2308.15560). Fields may have any
floating-point dtype; sums are in single precision at least, under autocast too, as squares of
geopotentials overflow half precision.

NaN propagates to scores and losses, except where its weight is 0, and with ``skipna`` where the
target is NaN, as over land or without measurements.
"""

from physicsnemo.metrics.weather.areas import cubed_sphere_weights, latitude_weights
from physicsnemo.metrics.weather.loss import LatitudeWeightedLoss
from physicsnemo.metrics.weather.scores import acc, rmse

__all__ = ["LatitudeWeightedLoss", "acc", "cubed_sphere_weights", "latitude_weights", "rmse"]
