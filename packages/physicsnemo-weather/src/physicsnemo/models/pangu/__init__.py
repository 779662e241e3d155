# SPDX-License-Identifier: Apache-2.0
"""Pangu-Weather: a transformer of levels, latitudes and longitudes that forecasts the weather."""

from physicsnemo.models.pangu.pangu import Pangu

__all__ = ["Pangu"]
